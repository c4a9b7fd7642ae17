from __future__ import annotations

from otelbridge.event import Stream
from otelbridge.mapping.decode import Decoded, decode
from otelbridge.mapping.recent_events import MAX_BYTES, RecentEvents
from otelbridge.mapping.request import Record
from otelbridge.pb.kubearmor_pb2 import Alert


def noted(latest: RecentEvents, sizes: list[int]) -> None:
    def mapped(stream: Stream, _decoded: Decoded, received_unix_nano: int) -> Record:
        return Record(stream, b"", b"\0" * sizes[received_unix_nano], 0)

    map_event = latest.noting(mapped)
    for place in range(len(sizes)):
        map_event(Stream.ALERTS, decode(Stream.ALERTS, Alert(PodName=str(place)).SerializeToString()), place)


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


def test_the_mapping_is_passed_through() -> None:
    record = Record(Stream.LOGS, b"r", b"e", 7)

    assert RecentEvents(1).noting(lambda *_: record)(Stream.LOGS, decode(Stream.LOGS, b""), 1) is record
