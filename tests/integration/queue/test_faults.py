"""A fault of ours at any call within an operation of the queue: nothing is lost, blocked for ever, or counted wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.model import Accepted, Lease, Refused, RetryLater
from otelbridge.queue.queue import DurableQueue
from otelbridge.telemetry.events import GapEnded, QueueSalvaged
from tests.faults import FaultAtCall, InjectedError
from tests.integration.queue.oracle import Told, assert_balanced, batch_of, drain, numbers_of, open_queue, put, take

SPARED = ("_Changing.", "QueueState.mend", "QueueState.write")
"""What lets the lock go, what mends, and the way into where a change is safe: a fault there is one too many."""
LATER = RetryLater(code="UNAVAILABLE", why="away")
HELD, NEW = 15, 3
"""Records that are held before, and that come with or after it."""


def put_more(queue: DurableQueue, lease: Lease) -> None:
    first = numbers_of(lease)[0] + HELD
    new = batch_of(Stream.LOGS, range(first, first + NEW))
    queue.put([new], [Posting(Stream.LOGS, Account.RECEIVED, "", NEW)], turn=lease)


def take_more(queue: DurableQueue, _: Lease) -> None:
    take(queue, max_records=5)


def accept(queue: DurableQueue, lease: Lease) -> None:
    queue.settle(lease, Accepted(rejected=1))


def give_back(queue: DurableQueue, lease: Lease) -> None:
    queue.settle(lease, LATER)


def refuse(queue: DurableQueue, lease: Lease) -> None:
    queue.dead_letter(lease, Refused(code="400", why="no"))


def replace(queue: DurableQueue, lease: Lease) -> None:
    numbers = numbers_of(lease)
    queue.replace(lease, [batch_of(lease.stream, some) for some in (numbers[:2], numbers[2:])], keep=True)


def tend(queue: DurableQueue, _: Lease) -> None:
    queue.tend()


@pytest.mark.parametrize(
    "operation", [put_more, take_more, accept, give_back, refuse, replace, tend], ids=lambda one: one.__name__
)
def test_a_fault_at_any_call_of_an_operation_costs_nothing(
    tmp_path: Path, operation: Callable[[DurableQueue, Lease], None]
) -> None:
    told, fault = Told(), FaultAtCall(spared=SPARED)
    queue = open_queue(tmp_path, told)
    queue.upkeep.stop()
    for call in itertools.count():
        numbers = range(call * (HELD + NEW), (call + 1) * (HELD + NEW))
        for first in numbers[:HELD:5]:
            put(queue, Stream.LOGS, range(first, first + 5))
        lease = take(queue, max_records=5)
        with fault.in_this_thread(call), suppress(InjectedError):
            operation(queue, lease)
        put_more(queue, lease)  # repeated as by the encoder, where that was the operation
        assert_balanced(queue)
        for out in queue.leases():  # as the workers do
            queue.settle(out, LATER)
        while queue.tend() or queue.depth().degraded:
            pass
        letters = queue.dead_letters()
        got = [*drain(queue), *(number for letter in letters for number in numbers_of(letter.request))]
        queue.discard_dead_letters([letter.id for letter in letters])
        got += numbers_of(lease) if operation is accept else []
        assert set(got) == set(numbers), fault.raised
        assert operation is accept or len(got) == len(numbers), fault.raised
        assert not queue.leases()
        assert not any(queue.held().values())
        assert_balanced(queue)
        assert not told.of(GapEnded) + told.of(QueueSalvaged), fault.raised
        if not fault.raised:
            break
    assert call > 2
    queue.close()
