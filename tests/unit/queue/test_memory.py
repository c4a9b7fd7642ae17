from __future__ import annotations

from otelbridge.event import Stream
from otelbridge.queue.memory import Leases, MemoryStore, OpenLease
from otelbridge.queue.model import Batch, Lease, Row, Span
from otelbridge.queue.store import span_of


def open_lease(first: int, last: int) -> OpenLease:
    lease = Lease(
        stream=Stream.GAPS,
        batch_ids=(first,),
        parts=(b"",),
        request_bytes=0,
        records=1,
        oldest_received_unix_nano=0,
        tries=0,
    )
    return OpenLease(lease=lease, span=Span(first, last), rows=(Row(first, 1, 0, 0, 0),), since=first, on_disk=True)


def test_the_gaps_between_leases_are_what_is_free() -> None:
    leases = Leases()
    end = span_of(Stream.GAPS).last
    out = [open_lease(10, 19), open_lease(20, 29), open_lease(40, 49)]
    for one in out:
        leases.add(one)
    assert list(leases.gaps(Stream.GAPS)) == [Span(0, 9), Span(30, 39), Span(50, end)]
    assert list(leases.gaps(Stream.GAPS, 35)) == [Span(35, 39), Span(50, end)]
    leases.end(out[1].lease)
    leases.release(Stream.GAPS, Span(20, 29))
    assert list(leases.gaps(Stream.GAPS)) == [Span(0, 9), Span(20, 39), Span(50, end)]
    assert list(leases.gaps(Stream.ALERTS)) == [span_of(Stream.ALERTS)]


def test_settled_neighbours_become_one_once_nothing_lies_between_them() -> None:
    leases = Leases()
    end = span_of(Stream.GAPS).last
    for first, last in ((10, 12), (20, 22), (30, 32)):
        leases.block(Stream.GAPS, Span(first, last))
    lease = open_lease(24, 26)
    leases.add(lease)
    leases.join(Stream.GAPS, Span(13, 19))
    assert leases.settled() == [Span(10, 22), Span(30, 32)]
    leases.join(Stream.GAPS, Span(23, 23))  # a lease is on its other side
    leases.join(Stream.GAPS, Span(27, 29))
    leases.join(Stream.GAPS, Span(0, 9))
    leases.join(Stream.GAPS, Span(33, end))
    assert leases.settled() == [Span(10, 22), Span(30, 32)]
    assert list(leases.gaps(Stream.GAPS)) == [Span(0, 9), Span(23, 23), Span(27, 29), Span(33, end)]
    leases.forget_settled()
    assert list(leases.gaps(Stream.GAPS)) == [Span(0, 23), Span(27, end)]


def test_tries_are_counted_until_the_lease_is_settled_for_good() -> None:
    leases = Leases()
    one = open_lease(10, 19).lease
    leases.count_try(one)
    assert leases.tries(10) == 1
    leases.forget_tries(one)
    assert leases.tries(10) == 0


def test_what_is_written_at_once_fits_into_the_size_but_for_a_first_that_is_larger() -> None:
    memory = MemoryStore()
    for number in (3, 1, 2, 4):
        memory.add(number, Batch(stream=Stream.GAPS, request=bytes(10), records=1, oldest_received_unix_nano=0))
    assert list(memory.some(30)) == [1, 2, 3]
    assert list(memory.some(29)) == [1, 2]
    assert list(memory.some(1)) == [1]
    assert list(memory.some(1000)) == [1, 2, 3, 4]
