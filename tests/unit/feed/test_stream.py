from __future__ import annotations

import time
from random import Random

import grpc
import pytest

from otelbridge.event import RawEvent, Stream
from otelbridge.feed.buffer import BufferWriter
from otelbridge.feed.gap_tracker import IN_FLIGHT_NANOS
from otelbridge.feed.model import StreamEnd, StreamState
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.stream import StreamWatch
from tests.buffers import OpenBuffer

SECOND = 1_000_000_000


def watch() -> tuple[StreamWatch, BufferWriter]:
    stream = StreamWatch(Stream.ALERTS, "relay:1", FeedSettings(), Random(1), watched_until=None)
    writer = OpenBuffer(1_000, 1 << 20).open_writer(Stream.ALERTS, "relay:1")
    stream.attach(writer)
    stream.open()
    return stream, writer


def test_an_answer_to_an_older_question_does_not_prove_a_newer_call() -> None:
    stream, _ = watch()
    before = time.monotonic() - 1
    assert not stream.answered(asked=before, unix_nano=SECOND)
    assert stream.status().state is StreamState.OPENING
    assert stream.answered(asked=time.monotonic(), unix_nano=2 * SECOND)
    assert stream.status().state is StreamState.WATCHING


def test_only_the_first_proof_counts() -> None:
    stream, _ = watch()
    assert stream.answered(asked=time.monotonic(), unix_nano=2 * SECOND)
    assert not stream.answered(asked=time.monotonic(), unix_nano=3 * SECOND)
    assert stream.status().since_unix_nano <= time.time_ns()


def test_silence_is_no_traffic_and_leaves_what_is_opening_unproven() -> None:
    stream, writer = watch()
    assert stream.look(time.monotonic()) == (False, None)
    assert stream.machine.state is StreamState.OPENING
    writer.offer(RawEvent(Stream.ALERTS, b"x", 5 * SECOND, "relay:1"))
    assert stream.look(time.monotonic())[0]
    assert stream.status().last_event_unix_nano == 5 * SECOND


def test_events_of_an_earlier_call_do_not_prove_a_later_one() -> None:
    stream, writer = watch()
    writer.offer(RawEvent(Stream.ALERTS, b"x", SECOND, "relay:1"))
    stream.look(time.monotonic())
    stream.detach(writer)
    stream.lose_alone(end(grpc.StatusCode.UNAVAILABLE), 0)
    stream.open()
    assert stream.look(time.monotonic())[0] is False
    assert stream.status().events == 1


def end(code: grpc.StatusCode, details: str = "", *, events: int = 1, ended: int = 60 * SECOND) -> StreamEnd:
    return StreamEnd(
        stream=Stream.ALERTS,
        code=code,
        details=details,
        events=events,
        lived_seconds=60,
        ended_unix_nano=ended,
        read_until_unix_nano=ended,
    )


@pytest.mark.parametrize(
    ("event", "answer", "read", "start"),
    [(50, 0, 60, 50), (50, 55, 60, 55), (50, 40, 60, 50), (0, 55, 60, 55), (50, 55, 45, 45)],
    ids=["the event", "the later answer", "the later event", "the answer of a quiet stream", "what is unread"],
)
def test_a_gap_starts_at_the_last_sign_of_life_less_what_was_under_way(
    event: int, answer: int, read: int, start: int
) -> None:
    stream, writer = watch()
    if event:
        writer.offer(RawEvent(Stream.ALERTS, b"x", event * SECOND, "relay:1"))
    assert stream.seen_until(answer * SECOND, 60 * SECOND, read * SECOND) == start * SECOND - IN_FLIGHT_NANOS


def test_without_a_sign_of_life_a_gap_starts_at_noticing_and_never_before_the_last_one_ended() -> None:
    stream, _ = watch()
    assert stream.seen_until(0, 60 * SECOND, 60 * SECOND) == 60 * SECOND
    stream.answered(asked=time.monotonic(), unix_nano=50 * SECOND)
    assert stream.seen_until(50 * SECOND, 60 * SECOND, 60 * SECOND) == 50 * SECOND


def test_an_event_that_is_too_large_is_one_lost_record_of_the_gap() -> None:
    stream, _ = watch()
    stream.answered(asked=time.monotonic(), unix_nano=50 * SECOND)
    stream.gaps.prove()
    stream.lose_alone(end(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)"), 0)
    stream.gaps.watch_again(61 * SECOND)
    gap = stream.gaps.prove()
    assert gap is not None
    assert gap.lost_records == 1
    assert stream.status().oversized == 1


def test_what_the_other_side_has_no_resources_for_is_no_event_that_is_too_large() -> None:
    assert not end(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota exceeded").oversized
    assert not end(grpc.StatusCode.UNKNOWN, "larger than max").oversized


def lost_and_opened() -> StreamWatch:
    stream, _ = watch()
    stream.answered(asked=time.monotonic(), unix_nano=10 * SECOND)
    stream.look(time.monotonic() + 3)
    stream.lose_alone(end(grpc.StatusCode.UNAVAILABLE), 0)
    stream.open()
    return stream


@pytest.mark.parametrize(
    ("awaited", "heard", "waited", "ended"),
    [
        (False, 0, 1.0, None),
        (False, 0, 2.5, 70),
        (True, 0, 6.0, None),
        (True, 72, 1.0, None),
        (True, 72, 2.5, 72),
        (False, 72, 2.5, 70),
    ],
)
def test_a_gap_of_a_flowing_upstream_ends_when_it_is_heard(
    awaited: bool, heard: int, waited: float, ended: int | None
) -> None:
    stream = lost_and_opened()
    stream.answered(asked=time.monotonic(), unix_nano=70 * SECOND)
    _, gap = stream.look(time.monotonic() + waited, heard_unix_nano=heard * SECOND, awaited=awaited)
    assert (gap and gap.ended_unix_nano) == (ended and ended * SECOND)


def test_an_upstream_that_is_not_heard_again_is_not_awaited_for_ever() -> None:
    stream = lost_and_opened()
    stream.answered(asked=time.monotonic(), unix_nano=time.time_ns())
    assert stream.look(time.monotonic() + 7.5, awaited=True)[1]
