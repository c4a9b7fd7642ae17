"""A bridge that is short of CPU: what its upstream drops meanwhile, without a word, is within gap records."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otelbridge.event import NANOSECONDS
from otelbridge.feed.overload import SLOTS
from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.acceptance.bursting import upstream_in_go
from tests.oracle import gap_records, unix_nano
from tests.peers.bridge import FRESH, BridgeProcess, running_bridge
from tests.torture_report import record

SECONDS = 6
KUBEARMORS_OWN = "throttled"
"""The corpus has such alerts, too."""
UPSTREAMS_OWN_SECONDS = 0.05
"""On a busy machine the upstream's own threads come late as well, and then send more at once than its slots hold. Such
drops are its own: they are over within so long, and no more than `SLOTS`."""


@contextmanager
def on_and_off(bridge: BridgeProcess, on_seconds: float, off_seconds: float) -> Iterator[None]:
    """A share of a processor, as a quota of the kernel's would leave; all of it where it is never off."""
    over = threading.Event()

    def alternate() -> None:
        while off_seconds and not over.is_set():
            bridge.process.send(signal.SIGSTOP)
            time.sleep(off_seconds)
            bridge.process.send(signal.SIGCONT)
            over.wait(on_seconds)

    thread = threading.Thread(target=alternate, name="quota")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("per_second", "on_seconds", "off_seconds"),
    [(30_000, 1, 0), (5_000, 0.01, 0.09), (30_000, 0.01, 0.09), (30_000, 0.05, 0.25), (60_000, 0.05, 0.1)],
)
def test_what_the_upstream_of_a_starved_bridge_drops_is_suspected(
    tmp_path: Path, per_second: int, on_seconds: float, off_seconds: float
) -> None:
    with (
        upstream_in_go(tmp_path) as upstream,
        OtlpEndpoint() as endpoint,
        running_bridge(
            tmp_path / "bridge",
            FRESH,
            feed={"endpoints": [upstream.hear()["endpoint"]], "streams": ["alerts"]},
            send={"endpoint": endpoint.grpc_endpoint, "replay_rate_factor": 0},
        ) as bridge,
    ):
        bridge.wait_until_watching()
        upstream.hear()
        with on_and_off(bridge, on_seconds, off_seconds):
            said = upstream.ask(f"{per_second} {per_second * SECONDS}", within_seconds=SECONDS * 5)
        time.sleep(5)  # the last of it is told a second after it is over, at the next tick
        bridge.wait_until_delivered(within_seconds=120)
        gaps = [
            (unix_nano(gap["otelbridge.gap.start"]), unix_nano(gap["otelbridge.gap.end"]))
            for gap in gap_records(endpoint.log_records())
            if gap["otelbridge.gap.cause"] != KUBEARMORS_OWN
        ]
    drops = said["drops"] or []
    outside = [drop for drop in drops if not any(start <= drop[0] and drop[1] <= end for start, end in gaps)]
    brief = all(last - first <= UPSTREAMS_OWN_SECONDS * NANOSECONDS for first, last, _ in outside)
    lost = sum(events for *_, events in outside)
    passed = brief and lost <= SLOTS and (bool(gaps) or not drops) and (bool(drops) or not gaps)
    figures = {
        "dropped": said["dropped"],
        "outside": [events for *_, events in outside],
        "gaps": len(gaps),
        "fullest": said["fullest"],
    }
    record(f"bridge: {per_second}/s, {on_seconds} s on, {off_seconds} s off", figures, passed)
    assert passed, figures
