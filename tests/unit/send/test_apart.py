"""What is kept apart: how much, in which order it is tried, and how rarely while nothing else is sent."""

from __future__ import annotations

from otelbridge.event import Stream
from otelbridge.queue.model import Lease, Refused
from otelbridge.send.apart import IDLE_TRIES, MAX_APART, OTHERS_TIMES, Apart
from otelbridge.send.settings import SendSettings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def apart_with(clock: Clock) -> Apart:
    return Apart(SendSettings(), clock=clock, random=lambda: 1.0)


def lease_of(number: int, request_bytes: int = 10) -> Lease:
    return Lease(
        stream=Stream.ALERTS,
        batch_ids=(number,),
        parts=(b"",),
        request_bytes=request_bytes,
        records=1,
        oldest_received_unix_nano=0,
    )


def test_there_is_room_for_two_full_requests_and_64_leases() -> None:
    apart, full = apart_with(Clock()), SendSettings().max_request_bytes
    apart.add_due([lease_of(1, full)])
    assert apart.has_room(lease_of(2, full))
    assert not apart.has_room(lease_of(2, full + 1))
    apart = apart_with(Clock())
    apart.add_due([lease_of(n) for n in range(MAX_APART)])
    assert not apart.has_room(lease_of(MAX_APART))


def test_suspects_are_due_when_others_have_been_tried_each_once() -> None:
    apart, leases = apart_with(Clock()), [lease_of(n) for n in range(3)]
    apart.suspects += leases
    apart.call(but=leases[1])
    apart.call(but=leases[1])
    assert apart.taken(9) == [leases[0], leases[2]]
    assert apart.suspects == [leases[1]]


def test_while_nothing_else_is_sent_tries_become_rarer_until_something_is_accepted() -> None:
    clock, waits = Clock(), []
    apart = apart_with(clock)
    for _ in range(6 * IDLE_TRIES):
        apart.suspects.append(lease_of(1))
        assert apart.taken_while_idle(1) == [lease_of(1)]
        waits.append(apart.wait_seconds())
    assert waits == [seconds for seconds in (0.0625, 0.125, 0.25, 0.5, 1, 2) for _ in range(IDLE_TRIES)]
    apart.idle_step = 0
    apart.unproven.append((lease_of(2), Refused(code="400", why="")))
    assert apart.taken_while_idle(1) == [lease_of(2)]
    assert not apart.unproven
    assert apart.wait_seconds() == 0.0625


def test_a_suspect_that_was_due_while_its_stream_was_left_out_is_tried_once_when_it_is_let_in() -> None:
    apart, lease = apart_with(Clock()), lease_of(1)
    apart.add_due([lease])
    assert apart.taken_while_idle(9, without=(lease.stream,)) == []
    assert apart.taken_while_idle(9) == [lease]
    assert not apart.leases


def test_a_drain_does_not_wait() -> None:
    apart = apart_with(Clock())
    apart.suspects.append(lease_of(1))
    apart.taken_while_idle(1)
    apart.hurry()
    assert apart.wait_seconds() == 0


def test_what_is_given_back_is_forgotten() -> None:
    apart, leases = apart_with(Clock()), [lease_of(n) for n in range(3)]
    apart.add_due(leases[:2])
    apart.unproven.append((leases[2], Refused(code="400", why="")))
    assert apart.leases == leases
    apart.forget(leases[1:])
    assert (apart.leases, list(apart.due)) == (leases[:1], leases[:1])


def test_a_suspect_that_was_told_to_wait_is_tried_once_more_first_and_then_rests_while_others_are_sent() -> None:
    clock = Clock()
    apart, told, other = apart_with(clock), lease_of(1), lease_of(2)
    apart.add_due([other])
    apart.refused_with_delay(told, 2.0, waited=False)
    first = [apart.first]
    assert apart.taken(9) == [told]
    apart.refused_with_delay(told, 2.0, waited=True)
    first.append(apart.first)
    assert first == [True, False]
    apart.call()
    assert apart.taken(9) == []
    assert apart.wait_seconds() == 2.0 * (1 + OTHERS_TIMES)
    clock.now += apart.wait_seconds()
    apart.call()
    assert apart.taken(9) == [other, told]


def test_who_drains_waits_for_no_suspect() -> None:
    apart = apart_with(Clock())
    apart.refused_with_delay(lease_of(1), 60.0, waited=True)
    apart.hurry()
    assert apart.wait_seconds() == 0
    assert apart.taken_while_idle(9) == [lease_of(1)]
