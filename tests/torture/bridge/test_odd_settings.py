"""Ten minutes of odd settings and variables: each is refused with place and cure, or a bridge works with it."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.acceptance.odd_settings import odd_lives
from tests.acceptance.seeds import fresh_seed
from tests.torture_report import record

SECONDS = 600


@pytest.mark.torture
def test_ten_minutes_of_odd_settings_are_refused_with_their_cure_or_work(tmp_path: Path) -> None:
    seed, ends = fresh_seed(), time.monotonic() + SECONDS
    with Relay() as relay, OtlpEndpoint() as endpoint:
        found = odd_lives(tmp_path, relay, endpoint, random.Random(seed), until=lambda _: time.monotonic() >= ends)
    record("bridge: odd settings", {"seed": seed, **found.figures()}, not found.faults)
    assert not found.faults
