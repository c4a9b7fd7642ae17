"""Records age by time that passes, not by what the machine's clock is set to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from otelbridge.event import Gap, Stream
from otelbridge.queue.checkpoint import CheckpointFile, boot_id
from otelbridge.queue.inspect import inspect
from otelbridge.queue.model import Accepted, Refused, RetryLater
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.setting import section_from
from tests.integration.queue.oracle import (
    RECORD_BYTES,
    Told,
    assert_balanced,
    batch_of,
    drain,
    dropped,
    numbers_of,
    open_queue,
    put,
    take,
)

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
YEAR_2308 = 10_667_000_000 * SECOND


@dataclass
class Machine:
    """A machine whose clock is set, and that starts anew."""

    unix: int = field(default_factory=time.time_ns)
    elapsed: int = HOUR
    boot: str = "first"

    def passes(self, nanos: int) -> None:
        self.unix += nanos
        self.elapsed += nanos

    def open(self, folder: Path, **settings: object) -> DurableQueue:
        queue = DurableQueue.open(
            section_from(QueueSettings, {"directory": folder, "max_age_seconds": 24 * 3600, **settings}),
            tell=Told(),
            record_gap=list[Gap]().append,
            clock=lambda: self.unix,
            elapsed=lambda: self.elapsed,
            boot=self.boot,
        )
        queue.upkeep.stop()
        return queue


STEPS = {
    "from 1970 to now": (7 * SECOND, 1_790_000_000 * SECOND),
    "+25 h": (1_790_000_000 * SECOND, 1_790_000_000 * SECOND + 25 * HOUR),
    "-25 h": (1_790_000_000 * SECOND, 1_790_000_000 * SECOND - 25 * HOUR),
    "to 2308": (1_790_000_000 * SECOND, YEAR_2308),
    "back from 2308": (YEAR_2308, 1_790_000_000 * SECOND),
    "to before 1970": (1_790_000_000 * SECOND, -5 * HOUR),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("restart", ["", "first", "second"], ids=["running", "restarted", "machine started anew"])
def test_a_clock_that_is_set_drops_nothing_fresh_and_keeps_nothing_old(
    tmp_path: Path, step: tuple[int, int], restart: str
) -> None:
    machine = Machine(unix=step[0])
    queue = machine.open(tmp_path)
    for n in range(50):
        put(queue, Stream.ALERTS, [n], received=machine.unix)
    machine.passes(20 * HOUR)
    put(queue, Stream.ALERTS, [50], received=machine.unix)
    received = machine.unix
    if restart:
        queue.close()
    machine.passes(SECOND)
    machine.unix += step[1] - step[0]
    if restart:
        machine.boot = restart
        if restart == "second":
            machine.elapsed = SECOND
        queue = machine.open(tmp_path)
    put(queue, Stream.ALERTS, [51], received=received)  # it waited for the encoder meanwhile
    put(queue, Stream.ALERTS, [52], received=machine.unix)
    queue.tend()
    assert not dropped(queue, "expired")
    machine.passes(5 * HOUR)
    queue.tend()
    assert dropped(queue, "expired") == {Stream.ALERTS: 50}, "those of 25 hours"
    assert drain(queue) == [50, 51, 52]
    assert_balanced(queue)
    queue.close()


def test_what_is_held_is_dated_by_the_clock_as_it_is_set_now(tmp_path: Path) -> None:
    machine = Machine(unix=7 * SECOND)
    queue = machine.open(tmp_path)
    put(queue, Stream.LOGS, [1], received=machine.unix)
    machine.passes(10 * SECOND)
    machine.unix = now = time.time_ns()
    assert queue.depth().oldest_received_unix_nano == pytest.approx(now - 10 * SECOND, abs=SECOND)
    lease = take(queue)
    assert lease.oldest_received_unix_nano == pytest.approx(now - 10 * SECOND, abs=SECOND)
    queue.settle(lease, RetryLater(code="UNAVAILABLE", why="away"))
    put(queue, Stream.LOGS, [2], received=machine.unix)
    with inspect(tmp_path) as seen:
        first, second = (one.oldest_received_unix_nano for one in seen.batches())
    assert first == pytest.approx(now - 10 * SECOND, abs=SECOND)
    assert second == pytest.approx(now, abs=SECOND)
    queue.close()


def test_pieces_of_a_lease_are_as_old_as_it_was(tmp_path: Path) -> None:
    machine = Machine()
    queue = machine.open(tmp_path)
    put(queue, Stream.LOGS, [1, 2], received=machine.unix)
    machine.passes(20 * HOUR)
    lease = take(queue)
    queue.replace(lease, [batch_of(Stream.LOGS, [1]), batch_of(Stream.LOGS, [2])])
    machine.passes(5 * HOUR)
    queue.tend()
    assert dropped(queue, "expired") == {Stream.LOGS: 2}
    queue.close()


def test_a_dead_letter_that_is_sent_again_is_new(tmp_path: Path) -> None:
    machine = Machine()
    queue = machine.open(tmp_path)
    put(queue, Stream.LOGS, [1], received=machine.unix)
    queue.dead_letter(take(queue), Refused(code="400", why="no"))
    machine.passes(100 * HOUR)
    assert queue.resend([dead_letter.id for dead_letter in queue.dead_letters()]) == 1
    queue.tend()
    assert drain(queue) == [1]
    assert_balanced(queue)
    queue.close()


def test_whoever_looks_sees_times_by_the_machines_clock_as_it_was_set(tmp_path: Path) -> None:
    machine = Machine()
    queue = machine.open(tmp_path, retain_seconds=3600)
    machine.unix += 3 * HOUR  # it is set: no time passes
    received = machine.unix
    for outcome in (Refused(code="400", why="no"), Accepted()):
        put(queue, Stream.LOGS, [1], received=received)
        machine.passes(SECOND)
        lease = take(queue)
        if isinstance(outcome, Refused):
            queue.dead_letter(lease, outcome)
        else:
            queue.settle(lease, outcome)
        received = machine.unix
    queue.close()
    first = machine.unix - 2 * SECOND
    with inspect(tmp_path) as seen:
        (letter,) = seen.dead_letters()
        assert (letter.oldest_received_unix_nano, letter.refused_unix_nano) == (first, first + SECOND)
        (kept,) = seen.retained(first + SECOND, first + SECOND)
        assert (kept.oldest_received_unix_nano, kept.delivered_unix_nano) == (first + SECOND, first + 2 * SECOND)


def test_the_longest_age_and_an_endless_one_end_no_upkeep(tmp_path: Path) -> None:
    machine = Machine()
    endless = QueueSettings(directory=tmp_path, max_age_seconds=1e300, retain_seconds=1e300)
    queue = DurableQueue.open(
        endless, tell=Told(), record_gap=list[Gap]().append, clock=lambda: machine.unix, elapsed=lambda: machine.elapsed
    )
    put(queue, Stream.LOGS, [1])
    machine.passes(100_000 * HOUR)
    queue.tend()
    assert numbers_of(take(queue)) == [1]
    queue.close()


def test_the_kernel_tells_one_run_of_the_machine_from_another(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, [1])
    queue.close()
    last, _ = CheckpointFile(tmp_path).read()
    assert last is not None
    assert last.boot == boot_id()
    assert last.boot


def test_what_was_delivered_is_kept_for_its_time_and_within_its_bytes(tmp_path: Path) -> None:
    machine = Machine()
    queue = machine.open(tmp_path, retain_seconds=3600, retain_max_bytes=4 * RECORD_BYTES)
    for number in range(3):
        put(queue, Stream.LOGS, [2 * number, 2 * number + 1])
        queue.settle(take(queue), Accepted())
        machine.passes(HOUR // 4)
        queue.tend()
        assert queue.depth().retained_bytes == min(number + 1, 2) * 2 * RECORD_BYTES, "the oldest makes room"
    for passes, left in ((HOUR // 4, 2), (HOUR // 4 - SECOND, 2), (2 * SECOND, 1), (HOUR // 4, 0)):
        machine.passes(passes)
        queue.tend()
        assert queue.depth().retained_bytes == left * 2 * RECORD_BYTES
    queue.close()
