"""One direction of a line, on times of the test's own."""

from __future__ import annotations

import pytest

from otelbridge.simulator.tcp_proxy import BUFFER_BYTES, Conditions, Flow, Pipe


def take_all(pipe: Pipe, now: float) -> bytes:
    taken = b""
    while (chunk := pipe.sendable(now)) is not None:
        taken += bytes(chunk)
        pipe.sent(len(chunk), now)
    return taken


def test_an_open_line_passes_bytes_at_once_and_in_order() -> None:
    pipe = Pipe(Conditions())
    pipe.push(b"abc", 0)
    pipe.push(b"def", 0)

    assert take_all(pipe, 0) == b"abcdef"
    assert pipe.passed_bytes == 6


def test_what_the_receiver_did_not_take_is_offered_again() -> None:
    pipe = Pipe(Conditions())
    pipe.push(b"abcdef", 0)

    pipe.sent(2, 0)

    assert take_all(pipe, 0) == b"cdef"


def test_latency_delays_each_byte() -> None:
    pipe = Pipe(Conditions(latency_seconds=2))
    pipe.push(b"a", 10)

    assert pipe.wake_at() == 12
    assert take_all(pipe, 11.9) == b""
    assert take_all(pipe, 12) == b"a"


def test_a_limited_line_carries_no_more_than_its_rate() -> None:
    pipe = Pipe(Conditions(bytes_per_second=1_000))
    pipe.push(bytes(10_000), 0)

    carried = sum(len(take_all(pipe, tenth / 10)) for tenth in range(21))

    assert 1_000 <= carried <= 2_200


def test_a_line_that_holds_reads_nothing_and_loses_nothing() -> None:
    pipe = Pipe(Conditions())
    pipe.push(b"abc", 0)
    pipe.conditions = Conditions(flow=Flow.HOLD)

    assert pipe.room() == 0
    assert pipe.sendable(99) is None

    pipe.conditions = Conditions()
    assert take_all(pipe, 99) == b"abc"


def test_a_line_that_swallows_takes_everything_and_gives_nothing() -> None:
    pipe = Pipe(Conditions(flow=Flow.SWALLOW))
    for _ in range(3):
        assert pipe.room() == BUFFER_BYTES
        pipe.push(bytes(BUFFER_BYTES), 0)

    assert pipe.sendable(0) is None
    assert pipe.swallowed_bytes == 3 * BUFFER_BYTES


def test_a_full_line_makes_the_sender_wait() -> None:
    pipe = Pipe(Conditions())
    pipe.push(bytes(BUFFER_BYTES), 0)

    assert pipe.room() == 0


def test_the_end_comes_behind_the_last_byte() -> None:
    pipe = Pipe(Conditions())
    pipe.push(b"a", 0)
    pipe.end()

    assert not pipe.finished
    take_all(pipe, 0)
    assert pipe.finished


@pytest.mark.parametrize("wrong", [{"bytes_per_second": 0}, {"latency_seconds": -1}])
def test_impossible_conditions_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Conditions(**wrong)  # type: ignore[arg-type]
