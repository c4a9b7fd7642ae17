from __future__ import annotations

import pytest

from otelbridge.event import NANOSECONDS, GapCause, Stream
from otelbridge.feed.gap_tracker import GapTracker, Rate

SECOND = NANOSECONDS


class Wall:
    """The clock on the wall, as far as it was set."""

    offset = 0

    def __call__(self) -> int:
        return self.offset


def gaps(*, watched_until: int | None = None, now: int = 0, wall: Wall | None = None) -> GapTracker:
    return GapTracker(
        Stream.ALERTS,
        "relay:1",
        watched_until_unix_nano=watched_until,
        now_unix_nano=now,
        clock_offset_nano=wall or Wall(),
    )


def watched(wall: Wall | None = None) -> GapTracker:
    blind = gaps(wall=wall)
    blind.attempt()
    blind.watch_again(SECOND)
    assert blind.prove() is None
    return blind


def test_a_first_connect_at_the_first_attempt_is_no_gap() -> None:
    assert watched().since_unix_nano is None


def test_a_first_connect_that_took_several_attempts_is_a_gap_since_the_start() -> None:
    blind = gaps(now=5 * SECOND)
    blind.attempt()
    blind.attempt()
    blind.watch_again(9 * SECOND)
    gap = blind.prove()
    assert gap is not None
    assert (gap.started_unix_nano, gap.ended_unix_nano, gap.attempts) == (5 * SECOND, 9 * SECOND, 2)


def test_a_gap_since_the_start_says_why_the_first_attempt_failed() -> None:
    blind = gaps(now=5 * SECOND)
    for detail in ("connect: UNAVAILABLE: refused", "connect: UNAVAILABLE: timed out"):
        blind.attempt()
        blind.lose(6 * SECOND, GapCause.DISCONNECT, detail)
    blind.attempt()
    blind.watch_again(9 * SECOND)
    gap = blind.prove()
    assert gap is not None
    assert gap.detail == "not connected since the start: connect: UNAVAILABLE: refused"


def test_a_first_stream_that_is_lost_at_once_has_the_cause_of_its_loss() -> None:
    blind = gaps(now=5 * SECOND)
    blind.attempt()
    blind.watch_again(6 * SECOND)
    blind.lose(7 * SECOND, GapCause.HEARTBEAT_LOSS, "UNAVAILABLE: ping timeout")
    blind.attempt()
    blind.watch_again(9 * SECOND)
    gap = blind.prove()
    assert gap is not None
    assert (gap.cause, gap.detail) == (GapCause.HEARTBEAT_LOSS, "UNAVAILABLE: ping timeout")
    assert (gap.started_unix_nano, gap.attempts) == (5 * SECOND, 2)


def test_after_a_restart_the_gap_starts_when_the_earlier_life_last_watched() -> None:
    blind = gaps(watched_until=SECOND, now=5 * SECOND)
    blind.attempt()
    blind.watch_again(6 * SECOND)
    gap = blind.prove()
    assert gap is not None
    assert (gap.cause, gap.started_unix_nano, gap.ended_unix_nano) == (GapCause.RESTART, SECOND, 6 * SECOND)


def test_a_stream_that_is_lost_before_it_has_proven_itself_stays_in_the_same_gap() -> None:
    blind = watched()
    blind.lose(10 * SECOND, GapCause.HEARTBEAT_LOSS, "silence")
    for at in (11, 12, 13):
        blind.attempt()
        blind.watch_again(at * SECOND)
        assert blind.unproven
        if at < 13:
            blind.lose(at * SECOND, GapCause.DISCONNECT, "again")
    gap = blind.prove()
    assert gap is not None
    assert (gap.cause, gap.detail, gap.attempts) == (GapCause.HEARTBEAT_LOSS, "silence", 3)
    assert (gap.started_unix_nano, gap.ended_unix_nano) == (10 * SECOND, 13 * SECOND)
    assert blind.since_unix_nano is None


def test_what_is_blind_right_now_can_be_asked() -> None:
    blind = watched()
    blind.lose(10 * SECOND, GapCause.DISCONNECT, "")
    assert blind.since_unix_nano == 10 * SECOND


def test_a_gap_does_not_end_before_it_starts_when_the_clock_is_set_back() -> None:
    blind = watched()
    blind.lose(10 * SECOND, GapCause.DISCONNECT, "")
    blind.watch_again(3 * SECOND)
    gap = blind.prove()
    assert gap is not None
    assert gap.ended_unix_nano == gap.started_unix_nano


def test_the_estimate_is_the_recent_rate_times_the_time() -> None:
    blind = watched()
    for second in range(100):
        blind.rate.observe(50 * second, float(second))
    blind.lose(200 * SECOND, GapCause.DISCONNECT, "")
    blind.watch_again(210 * SECOND)
    gap = blind.prove()
    assert gap is not None
    assert gap.estimated_records == 500


@pytest.mark.parametrize("step", [3600 * SECOND, -3600 * SECOND], ids=["forwards", "back"])
def test_a_clock_that_is_set_in_a_gap_does_not_change_the_estimate(step: int) -> None:
    wall = Wall()
    blind = watched(wall)
    for second in range(100):
        blind.rate.observe(50 * second, float(second))
    blind.lose(5000 * SECOND, GapCause.DISCONNECT, "")
    wall.offset = step
    blind.watch_again(5010 * SECOND + step)
    gap = blind.prove()
    assert gap is not None
    assert gap.estimated_records == 500


def test_a_long_gap_is_put_on_record_in_two_parts_that_meet() -> None:
    blind = watched()
    for second in range(100):
        blind.rate.observe(50 * second, float(second))
    blind.lose(200 * SECOND, GapCause.DISCONNECT, "UNIMPLEMENTED: unknown method")
    assert blind.goes_on(499 * SECOND) is None
    first = blind.goes_on(500 * SECOND)
    assert first is not None
    assert blind.goes_on(10_000 * SECOND) is None, "it is said once"
    assert blind.since_unix_nano == 200 * SECOND
    blind.watch_again(20_000 * SECOND)
    rest = blind.prove()
    assert rest is not None
    assert (first.started_unix_nano, first.ended_unix_nano) == (200 * SECOND, 500 * SECOND)
    assert (rest.started_unix_nano, rest.ended_unix_nano) == (500 * SECOND, 20_000 * SECOND)
    assert (first.estimated_records, rest.estimated_records) == (15_000, 975_000)
    assert first.detail.startswith("UNIMPLEMENTED: unknown method; it goes on")


def test_a_long_downtime_is_one_record_where_the_bridge_is_soon_watching() -> None:
    blind = gaps(watched_until=SECOND, now=9_000 * SECOND)
    assert blind.goes_on(9_001 * SECOND) is None


def test_without_a_rate_there_is_no_estimate() -> None:
    blind = watched()
    blind.lose(200 * SECOND, GapCause.DISCONNECT, "")
    blind.watch_again(210 * SECOND)
    gap = blind.prove()
    assert gap is not None
    assert gap.estimated_records is None


def test_blind_time_does_not_pull_the_rate_down() -> None:
    rate = Rate()
    rate.observe(0, 0.0)
    rate.observe(100, 1.0)
    rate.pause()
    rate.observe(100, 1000.0)
    rate.observe(200, 1001.0)
    assert rate.per_second == 100


def test_a_later_proof_does_not_move_the_end_of_a_gap() -> None:
    blind = watched()
    blind.lose(10 * SECOND, GapCause.DISCONNECT, "")
    blind.watch_again(12 * SECOND)
    blind.watch_again(15 * SECOND)
    gap = blind.prove()
    assert gap is not None
    assert gap.ended_unix_nano == 12 * SECOND


def test_the_attempts_of_one_gap_are_not_those_of_the_next() -> None:
    blind = watched()
    for start in (10, 20):
        blind.lose(start * SECOND, GapCause.DISCONNECT, "")
        blind.attempt()
        blind.watch_again((start + 1) * SECOND)
        gap = blind.prove()
        assert gap is not None
        assert (gap.attempts, gap.started_unix_nano) == (1, start * SECOND)


def test_lost_records_are_in_one_gap_only() -> None:
    blind = watched()
    blind.count_lost(1)
    for start, lost in ((10, 1), (20, None)):
        blind.lose(start * SECOND, GapCause.DISCONNECT, "")
        gap = blind.end((start + 1) * SECOND)
        assert gap is not None
        assert gap.lost_records == lost


def test_a_suspected_stretch_is_told_unless_the_stream_is_blind_anyway() -> None:
    blind = watched()
    blind.rate.observe(0, 0)
    blind.rate.observe(100, 10)
    gap = blind.suspect(GapCause.STALL, 10 * SECOND, 25 * SECOND, 30, "late")
    assert gap is not None
    assert (gap.cause, gap.suspected, gap.estimated_records) == (GapCause.STALL, True, 120)
    assert blind.since_unix_nano is None, "it goes on to be watched"
    blind.lose(30 * SECOND, GapCause.DISCONNECT, "")
    assert blind.suspect(GapCause.STALL, 30 * SECOND, 35 * SECOND, 0, "late") is None


def test_the_rate_follows_what_the_stream_does_now() -> None:
    rate = Rate()
    rate.observe(0, 0)
    rate.observe(10, 10)
    assert rate.per_second == 1
    rate.observe(210, 20)
    assert rate.per_second is not None
    assert 1 < rate.per_second < 20
    for second in range(30, 600, 10):
        rate.observe(210 + (second - 20) * 20, second)
    assert rate.estimate(10) == pytest.approx(200, abs=2)
