"""The words of a fault."""

from __future__ import annotations

import pytest

from otelbridge.simulator.faults import SHAPES, Fault, FaultError, faults_table, parse_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("end:OK@10s", Fault(kind="end", word="OK", at_seconds=10)),
        ("end:unavailable@1.5s", Fault(kind="end", word="UNAVAILABLE", at_seconds=1.5)),
        ("refuse:NOT_FOUND:20s@1m", Fault(kind="refuse", word="NOT_FOUND", lasts_seconds=20, at_seconds=60)),
        ("health:hang@0s", Fault(kind="health", word="hang", at_seconds=0)),
        ("freeze@30s", Fault(kind="freeze", at_seconds=30)),
        ("freeze:500ms@30s", Fault(kind="freeze", lasts_seconds=0.5, at_seconds=30)),
        ("slow:1000:5s@1s", Fault(kind="slow", rate=1000, lasts_seconds=5, at_seconds=1)),
        ("cut-every:1h", Fault(kind="cut", at_seconds=3600, every_seconds=3600)),
        ("restart-every:60s", Fault(kind="restart", at_seconds=60, every_seconds=60)),
        ("restart:5s-every:60s", Fault(kind="restart", lasts_seconds=5, at_seconds=60, every_seconds=60)),
    ],
)
def test_a_fault_is_read(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("freeze", "does not say when: end it with @10s (once) or -every:60s"),
        ("freeze@soon", "'soon' is no duration; write 500ms, 10s, 2m or 1h"),
        ("freeze@10", "'10' is no duration"),
        ("cut-every:0s", "must be greater than 0"),
        ("melt@1s", "'melt' is none of end, refuse, health"),
        ("end@1s", "'' is none of OK, CANCELLED"),
        ("end:FINE@1s", "'FINE' is none of OK, CANCELLED"),
        ("end:OK:5s@1s", "'5s' is too much; write end:STATUS"),
        ("cut:5s@1s", "'5s' is too much; write cut"),
        ("slow:fast@1s", "'fast' is no number of bytes a second"),
        ("slow:0@1s", "'0' is no number of bytes a second"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_cure(text: str, reason: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_fault(text)

    assert text in str(caught.value)
    assert reason in str(caught.value)


def test_a_restarted_server_comes_back_even_if_no_duration_says_when() -> None:
    assert parse_fault("restart@1s").ends_after_seconds == 0
    assert parse_fault("freeze@1s").ends_after_seconds is None


def test_the_table_has_a_row_for_each_fault() -> None:
    assert faults_table().count("\n| `") == len(SHAPES)
