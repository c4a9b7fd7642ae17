from __future__ import annotations

import random
import threading
from pathlib import Path

from otelbridge.feed.connector import (
    AWAITED_CHECK_SECONDS,
    CHECK_SECONDS,
    RECHECK_SECONDS,
    SETTLE_SECONDS,
    Connector,
    Renewal,
)
from otelbridge.feed.settings import FeedSettings, FeedTlsSettings
from otelbridge.net.address import parse_address
from otelbridge.simulator.upstream import Relay
from otelbridge.telemetry.supervisor import Pulse
from tests.buffers import OpenBuffer


def _changed_after(renewal: Renewal, file: Path, *, awaited: bool) -> float:
    """Seconds until a change that follows right behind a check is found, asked ten times a second."""
    assert not renewal.changed(100, awaited=awaited)
    file.write_bytes(b"another")
    return next(tenth / 10 for tenth in range(1000) if renewal.changed(100 + tenth / 10, awaited=awaited))


def _used(folder: Path) -> tuple[Renewal, Path]:
    file = folder / "ca.crt"
    file.write_bytes(b"one")
    renewal = Renewal(FeedTlsSettings(enabled=True, ca_file=file))
    assert not renewal.changed(0)
    renewal._used = renewal._seen  # as if it had been used for a connection
    return renewal, file


def test_a_change_that_is_waited_for_is_found_within_moments(tmp_path: Path) -> None:
    assert _changed_after(*_used(tmp_path), awaited=True) <= AWAITED_CHECK_SECONDS + SETTLE_SECONDS


def test_a_change_under_a_connection_is_looked_for_less_often(tmp_path: Path) -> None:
    assert CHECK_SECONDS <= _changed_after(*_used(tmp_path), awaited=False) <= CHECK_SECONDS + SETTLE_SECONDS


def test_files_that_cannot_be_read_for_a_moment_have_not_changed(tmp_path: Path) -> None:
    renewal, file = _used(tmp_path)
    content = file.read_bytes()
    file.unlink()
    assert not any(renewal.changed(second) for second in range(100, 130))
    file.write_bytes(content)
    assert not any(renewal.changed(second) for second in range(130, 160))


def test_what_an_operator_has_to_cure_is_looked_at_again_every_half_minute() -> None:
    with Relay() as relay:
        connector = Connector(
            parse_address(relay.endpoint),
            FeedSettings(),
            watches={},
            buffer=OpenBuffer(1, 1),
            tell=lambda _: None,
            record=lambda _: None,
            version="1",
            random=random.Random(1),
            resolve=lambda *_: (),
            stopping=threading.Event(),
            pulse=Pulse("feed"),
        )
        assert not connector.cured(100.0), "nothing has to be cured"
        connector._recheck_at = 100.0
        assert not connector.cured(99.9)
        assert connector.cured(100.0)
        looked = [second for second in range(101, 161) if connector.cured(float(second))]
    assert looked == [100 + RECHECK_SECONDS, 100 + 2 * RECHECK_SECONDS]
