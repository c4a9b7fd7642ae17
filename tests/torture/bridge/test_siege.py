"""Ten minutes of hostile clients of every kind at the status port: each probe is answered, and in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.besieging import PROMISED_SECONDS, besieged
from tests.torture_report import record

SECONDS = 600


@pytest.mark.torture
def test_ten_minutes_of_siege_delay_no_probe(tmp_path: Path) -> None:
    found = besieged(tmp_path, seconds=SECONDS)
    passed = not found["wrong"] and found["worst_ms"] <= PROMISED_SECONDS * 1000
    record("bridge: siege", found, passed)
    assert passed, found
