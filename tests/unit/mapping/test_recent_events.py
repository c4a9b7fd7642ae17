from __future__ import annotations

from otelbridge.event import Stream
from otelbridge.mapping.recent_events import MAX_BYTES, RecentEvents


def noted(latest: RecentEvents, sizes: list[int]) -> None:
    for place, size in enumerate(sizes):
        latest.note(Stream.ALERTS, place, b"", b"\0" * size)


def test_the_ring_keeps_the_last_ones() -> None:
    latest = RecentEvents(3)
    noted(latest, [1] * 10)

    assert [one.number for one in latest.after(0)] == [8, 9, 10]
    assert [one.received_unix_nano for one in latest.after(9)] == [9]
    assert latest.count == 10


def test_large_events_push_out_others_before_their_number_is_reached() -> None:
    latest = RecentEvents(1000)
    noted(latest, [1, MAX_BYTES // 2, MAX_BYTES // 2, 1])

    assert [one.number for one in latest.after(0)] == [3, 4]


def test_an_event_larger_than_all_the_room_is_kept_alone() -> None:
    latest = RecentEvents(10)
    noted(latest, [1, MAX_BYTES * 2])

    assert [one.number for one in latest.after(0)] == [2]
