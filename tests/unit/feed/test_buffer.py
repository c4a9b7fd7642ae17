from __future__ import annotations

import threading
import time

import pytest

from otelbridge.event import RawEvent, Stream
from otelbridge.feed.buffer import (
    BURST_EVENTS,
    CREDIT_BYTES,
    GATHER_MAX_SECONDS,
    GATHER_SECONDS,
    HOLD_SECONDS,
    LARGE_EVENT_BYTES,
    LET_IN_EVENTS,
    LET_IN_SECONDS,
    LET_IN_STEPS,
    LOOKAHEAD_BYTES,
    TAKE_BYTES,
    Buffer,
    ByteBudget,
)
from tests.buffers import OpenBuffer
from tests.waiting import eventually

MIB = 1024 * 1024


def event(number: int = 0, *, size: int = 8, stream: Stream = Stream.LOGS, upstream: str = "relay:1") -> RawEvent:
    return RawEvent(stream, number.to_bytes(8, "big").ljust(size, b"."), number + 1, upstream)


def test_events_come_out_in_the_order_in_which_they_went_in() -> None:
    buffer = OpenBuffer(10, 1_000)
    for number in range(5):
        assert buffer.offer(event(number))
    assert buffer.take(3, 0) == [event(0), event(1), event(2)]
    assert buffer.take(3, 0) == [event(3), event(4)]


@pytest.mark.parametrize("comes", [True, False])
def test_events_rouse_nobody_once_the_encoder_is_awake(comes: bool) -> None:
    buffer = OpenBuffer(10, 1_000)

    def bring() -> None:
        eventually(lambda: buffer.sleeping)
        buffer.offer(event())

    reader = threading.Thread(target=bring)
    if comes:
        reader.start()
    assert len(buffer.take(10, 5.0 if comes else 0.001)) == comes
    assert not buffer.sleeping
    if comes:
        reader.join()


def test_a_turn_takes_some_bytes_or_one_event_and_leaves_the_rest_in_order() -> None:
    third = TAKE_BYTES // 3
    buffer = OpenBuffer(10, 10 * TAKE_BYTES)
    sizes = [third, third, third, third, 2 * TAKE_BYTES, 8]
    for number, size in enumerate(sizes):
        assert buffer.offer(event(number, size=size))
    turns = []
    while taken := buffer.take(10, 0):
        turns.append([one.received_unix_nano for one in taken])
    assert turns == [[1, 2, 3], [4], [5], [6]]


def test_what_does_not_fit_by_number_is_dropped_and_counted() -> None:
    buffer = OpenBuffer(2, 1_000)
    assert [buffer.offer(event(number)) for number in range(5)] == [True, True, False, False, False]
    (overflow,) = buffer.take_overflow()
    assert (overflow.stream, overflow.upstream, overflow.events) == (Stream.LOGS, "relay:1", 3)
    assert (overflow.first_unix_nano, overflow.last_unix_nano) == (3, 5)
    assert buffer.take_overflow() == []


def test_drops_of_one_second_are_handed_out_as_one() -> None:
    buffer = OpenBuffer(1, 1_000)
    now = time.time_ns()
    for _ in range(4):
        buffer.offer(RawEvent(Stream.LOGS, b"x", now, "relay:1"))
    assert buffer.take_overflow() == []
    assert [overflow.events for overflow in buffer.take_overflow(at_once=True)] == [3]
    buffer.offer(RawEvent(Stream.LOGS, b"x", now - 2_000_000_000, "relay:1"))
    assert [overflow.events for overflow in buffer.take_overflow()] == [1]


def test_what_does_not_fit_by_bytes_is_dropped_until_there_is_room_again() -> None:
    buffer = OpenBuffer(1_000, 1_000)
    kept = [buffer.offer(event(number, size=300)) for number in range(6)]
    assert kept == [True, True, True, False, False, False]
    assert buffer.received_bytes == 900
    buffer.take(2, 0)
    assert buffer.received_bytes == 900, "what is being encoded is in memory still"
    buffer.take(1, 0)
    assert buffer.received_bytes == 300
    assert buffer.offer(event(size=300))


def test_what_others_have_in_memory_leaves_less_room() -> None:
    elsewhere = [500]
    buffer = Buffer(1_000, ByteBudget(1_000, lambda: elsewhere[0]))
    writer = buffer.open_writer(Stream.LOGS, "relay:1")
    assert [writer.offer(event(size=300)) for _ in range(2)] == [True, False]
    assert buffer.under_way_bytes() == 800
    elsewhere[0] = 0
    assert writer.offer(event(size=300))


@pytest.mark.parametrize(
    ("streams", "window_bytes", "reserved"),
    [
        (0, LOOKAHEAD_BYTES, 0),
        (3, LOOKAHEAD_BYTES, 96 * MIB),
        (30, 96 * MIB // 30, 96 * MIB),
        (6_000, 64 << 10, 96 * MIB),
    ],
)
def test_the_windows_of_all_streams_are_a_share_of_the_account(streams: int, window_bytes: int, reserved: int) -> None:
    budget = ByteBudget(160 * MIB)
    budget.streams = streams
    assert budget.window_bytes == window_bytes
    assert reserved - streams <= budget.used_bytes(0) <= reserved


def test_a_large_event_waits_for_room_instead_of_being_dropped() -> None:
    buffer = OpenBuffer(1_000, 3 * LARGE_EVENT_BYTES)
    offered: list[bool] = []

    def read() -> None:
        offered.extend(buffer.offer(event(number, size=2 * LARGE_EVENT_BYTES)) for number in range(10))

    reader = threading.Thread(target=read)
    reader.start()
    most = 0
    while reader.is_alive() or buffer.waiting_events:
        most = max(most, buffer.under_way_bytes())
        buffer.take(10, 0.01)
    assert offered == [True] * 10
    assert most <= 3 * LARGE_EVENT_BYTES
    assert not buffer.take_overflow(at_once=True)


def test_large_events_of_two_readers_do_not_wait_for_each_other() -> None:
    buffer = OpenBuffer(1_000, LARGE_EVENT_BYTES)
    buffer.offer(event(size=LARGE_EVENT_BYTES))
    offered: list[bool] = []

    def read(upstream: str) -> None:
        offered.append(buffer.offer(event(size=LARGE_EVENT_BYTES, upstream=upstream)))

    readers = [threading.Thread(target=read, args=(f"relay:{number}",)) for number in range(2)]
    for reader in readers:
        reader.start()
    began = time.monotonic()
    while any(reader.is_alive() for reader in readers):
        buffer.take(10, 0.01)
    assert offered == [True, True]
    assert time.monotonic() - began < HOLD_SECONDS


def test_a_large_event_that_finds_no_room_in_time_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelbridge.feed.buffer.HOLD_SECONDS", 0.05)
    buffer = OpenBuffer(1_000, LARGE_EVENT_BYTES)
    assert [buffer.offer(event(size=LARGE_EVENT_BYTES)) for _ in range(2)] == [True, False]
    began = time.monotonic()
    assert not any(buffer.offer(event(size=LARGE_EVENT_BYTES)) for _ in range(100)), "nothing has moved since"
    assert time.monotonic() - began < 100 * 0.05
    assert [overflow.events for overflow in buffer.take_overflow(at_once=True)] == [101]
    assert buffer.received_bytes == LARGE_EVENT_BYTES
    buffer.take(10, 0)
    buffer.take(10, 0)
    assert buffer.offer(event(size=LARGE_EVENT_BYTES))


def test_an_event_larger_than_the_whole_bound_passes_when_it_is_alone() -> None:
    buffer = OpenBuffer(1_000, 1_000)
    assert buffer.offer(event(size=5_000))
    assert not buffer.offer(event(size=5_000))
    assert len(buffer.take(10, 0)) == 1


def test_the_byte_bound_is_kept_to_the_credit_of_each_lane() -> None:
    bound = 1_000_000
    buffer = OpenBuffer(10**6, bound)
    writers = [buffer.open_writer(Stream.LOGS, f"relay:{number}") for number in range(3)]
    for number in range(9_000):
        writers[number % 3].offer(event(number, size=500))
    assert buffer.received_bytes <= bound + 3 * CREDIT_BYTES
    assert buffer.received_bytes == 500 * buffer.waiting_events


def test_taking_waits_for_the_first_event_and_wakes_at_once() -> None:
    buffer = OpenBuffer(10, 1_000)
    taken: list[tuple[list[RawEvent], float]] = []

    def take() -> None:
        events = buffer.take(10, 30)
        taken.append((events, time.monotonic()))

    thread = threading.Thread(target=take)
    thread.start()
    eventually(lambda: buffer.sleeping)
    offered = time.monotonic()
    buffer.offer(event(1))
    thread.join(5)
    assert taken[0][0] == [event(1)]
    assert taken[0][1] - offered < 1


def test_an_event_soon_after_another_waits_for_company_but_not_for_long() -> None:
    buffer = OpenBuffer(10, 1_000)
    buffer.offer(event(1))
    began = time.monotonic()
    assert buffer.take(10, 30) == [event(1)]
    assert time.monotonic() - began < GATHER_SECONDS
    began = time.monotonic()
    buffer.offer(event(2))
    assert buffer.take(10, 30) == [event(2)]
    assert time.monotonic() - began >= 0.9 * GATHER_SECONDS


def test_a_reader_that_pauses_ends_the_wait_for_company() -> None:
    buffer = OpenBuffer(10, 1_000)
    writer = buffer.open_writer(Stream.LOGS, "relay:1")
    writer.offer(event(1))
    writer.hand_over(30)
    assert buffer.take(10, 30) == [event(1)]
    taken: list[list[RawEvent]] = []
    thread = threading.Thread(target=lambda: taken.append(buffer.take(10, 60)))
    writer.offer(event(2))
    thread.start()

    def handed_over() -> bool:
        writer.hand_over(30)
        return not thread.is_alive()

    eventually(handed_over, why="without it the next turn is due after the pause of 30 s")
    assert taken == [[event(2)]]


def test_what_was_handed_over_during_a_long_turn_is_taken_at_once() -> None:
    buffer = OpenBuffer(10, 1_000)
    writer = buffer.open_writer(Stream.LOGS, "relay:1")
    writer.offer(event(1))
    writer.hand_over(30)
    assert buffer.take(10, 30) == [event(1)]
    writer.offer(event(2))
    buffer.hand_over(30)
    began = time.monotonic()
    assert buffer.take(10, 60) == [event(2)]
    assert time.monotonic() - began < 10


def test_a_take_that_found_nothing_keeps_no_later_event_waiting() -> None:
    buffer = OpenBuffer(10, 1_000)
    assert buffer.take(10, 0.01) == []
    buffer.offer(event(1))
    began = time.monotonic()
    assert buffer.take(10, 30) == [event(1)]
    assert time.monotonic() - began < GATHER_MAX_SECONDS


def test_taking_returns_nothing_after_its_timeout() -> None:
    assert OpenBuffer(10, 1_000).take(10, 0.01) == []


@pytest.mark.parametrize("asleep", [True, False])
def test_waking_makes_a_take_return_whether_it_sleeps_already_or_not(asleep: bool) -> None:
    buffer = OpenBuffer(10, 1_000)
    results: list[list[RawEvent]] = []
    thread = threading.Thread(target=lambda: results.append(buffer.take(10, 30)))
    if asleep:
        thread.start()
        eventually(lambda: buffer.sleeping)
        buffer.wake()
    else:
        buffer.wake()
        thread.start()
    thread.join(5)
    assert results == [[]]


def test_a_wake_is_used_up_by_one_take() -> None:
    buffer = OpenBuffer(10, 1_000)
    buffer.wake()
    assert buffer.take(10, 30) == []
    started = time.monotonic()
    assert buffer.take(10, 0.05) == []
    assert time.monotonic() - started >= 0.04


def test_counts_of_a_closed_writer_live_on() -> None:
    buffer = OpenBuffer(2, 1_000)
    writer = buffer.open_writer(Stream.ALERTS, "relay:1")
    for number in range(3):
        writer.offer(event(number, stream=Stream.ALERTS))
    buffer.close_writer(writer)
    assert writer.events == 3
    assert buffer.received_bytes == 16
    assert [overflow.events for overflow in buffer.take_overflow()] == [1]
    assert buffer.take_overflow() == []
    buffer.take(10, 0)
    buffer.take(10, 0)
    assert buffer.received_bytes == 0


def test_counters_are_exact_with_many_readers_and_one_encoder() -> None:
    buffer = OpenBuffer(500, 20_000)
    readers, each = 6, 5_000
    stop = threading.Event()
    taken, dropped = 0, 0

    def read(number: int) -> None:
        for _ in range(5):  # five connections, one after the other
            writer = buffer.open_writer(Stream.LOGS, f"relay:{number}")
            for count in range(each // 5):
                writer.offer(event(count, size=40))
            buffer.close_writer(writer)

    def encode() -> None:
        nonlocal taken, dropped
        while not stop.is_set() or buffer.waiting_events:
            taken += len(buffer.take(100, 0.01))
            dropped += sum(overflow.events for overflow in buffer.take_overflow())

    encoder = threading.Thread(target=encode)
    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in [encoder, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    encoder.join()
    dropped += sum(overflow.events for overflow in buffer.take_overflow())
    assert taken + dropped == readers * each
    assert taken > 0
    buffer.take(100, 0)
    assert buffer.received_bytes == 0


def test_while_a_burst_comes_in_the_encoder_lets_it_in_before_it_takes_any() -> None:
    buffer = OpenBuffer(100_000, 64 * 1024 * 1024)
    burst = 50 * BURST_EVENTS

    def read_a_burst() -> None:
        for number in range(burst):
            buffer.offer(event(number))

    reader = threading.Thread(target=read_a_burst, name="reader")
    for number in range(BURST_EVENTS):
        buffer.offer(event(number))
    reader.start()
    first = buffer.take(burst, 1)
    reader.join()
    assert len(first) > 2 * BURST_EVENTS


def test_a_burst_without_end_is_not_waited_for_without_end() -> None:
    buffer = OpenBuffer(1_000_000, 1024 * 1024 * 1024)
    stop = threading.Event()

    def read_without_end() -> None:
        while not stop.is_set():
            buffer.offer(event())

    reader = threading.Thread(target=read_without_end, name="reader")
    reader.start()
    try:
        assert buffer.take(100, 10)
        assert buffer.take(100, 10)
    finally:
        stop.set()
        reader.join()


def test_wake_ends_the_wait_for_a_burst() -> None:
    buffer = OpenBuffer(100_000, 64 * 1024 * 1024)
    for number in range(2 * BURST_EVENTS):
        buffer.offer(event(number))
    buffer.wake()
    assert len(buffer.take(10, 1)) == 10


def test_readers_are_let_in_while_they_bring_events_and_no_longer() -> None:
    buffer = OpenBuffer(1_000_000, 1024 * 1024 * 1024)
    began = time.monotonic()
    buffer.let_readers_in()
    quiet_seconds = time.monotonic() - began
    stop = threading.Event()

    def read_without_end() -> None:
        while not stop.is_set():
            buffer.offer(event())

    def brought() -> int:
        before = buffer.waiting_events
        buffer.let_readers_in()
        return buffer.waiting_events - before

    reader = threading.Thread(target=read_without_end, name="reader")
    reader.start()
    try:
        eventually(lambda: brought() >= LET_IN_STEPS * LET_IN_EVENTS, why="the reader is let in step after step")
    finally:
        stop.set()
        reader.join()
    assert quiet_seconds >= LET_IN_SECONDS
