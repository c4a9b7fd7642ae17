from __future__ import annotations

import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.model import Accepted, Hold, QueueInUse, QueueUnusable, Refused, RetryLater
from otelbridge.queue.queue import DurableQueue
from otelbridge.telemetry.events import QueueOpened, RecordsShed
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
from tests.waiting import eventually

MIB = 1024 * 1024
LATER = RetryLater(code="UNAVAILABLE", why="away")


def test_a_probe_waits_for_no_disk(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.ALERTS, range(3))
    asked = threading.Thread(target=lambda: queue.held_bytes, daemon=True)
    with queue._changing:  # as while a write hangs
        asked.start()
        asked.join(10)
        assert not asked.is_alive()
    assert queue.held_bytes == queue.depth().bytes > 0
    queue.close()


def test_only_the_owner_can_read_what_is_held(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    queue = open_queue(tmp_path)
    put(queue, Stream.ALERTS, range(3))
    modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}  # the reserve may come any moment
    assert "queue.db" in modes
    assert not any(modes.values()), modes
    queue.close()


def test_what_is_put_comes_out_in_order_and_joined(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for n in range(10):
        put(queue, Stream.ALERTS, range(10 * n, 10 * n + 10))
    lease = take(queue)
    assert numbers_of(lease) == list(range(100))
    assert (lease.stream, lease.records, lease.tries) == (Stream.ALERTS, 100, 0)
    queue.settle(lease, Accepted())
    assert queue.depth().records == 0
    assert queue.ledger().total(Stream.ALERTS, Account.DELIVERED) == 100
    assert_balanced(queue)
    queue.close()


def test_a_lease_holds_one_stream_and_the_oldest_batch_goes_first(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, [1])
    put(queue, Stream.ALERTS, [2])
    put(queue, Stream.LOGS, [3])
    first, second = take(queue), take(queue)
    assert (first.stream, numbers_of(first)) == (Stream.LOGS, [1, 3])
    assert (second.stream, numbers_of(second)) == (Stream.ALERTS, [2])
    assert queue.take(max_bytes=MIB, max_records=10) is None
    queue.close()


def test_the_limits_of_a_lease_are_kept_but_for_a_single_larger_batch(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for n in range(6):
        put(queue, Stream.LOGS, range(4 * n, 4 * n + 4))
    by_records = take(queue, max_records=9)
    by_bytes = take(queue, max_bytes=4 * RECORD_BYTES * 3 - 1)
    alone = take(queue, max_records=1)
    assert [lease.records for lease in (by_records, by_bytes, alone)] == [8, 8, 4]
    queue.close()


def test_many_small_batches_fill_one_lease(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for n in range(1500):
        put(queue, Stream.LOGS, [n])
    lease = take(queue, max_records=1200)
    assert numbers_of(lease) == list(range(1200))
    queue.close()


def test_what_is_out_is_not_handed_out_again_until_it_comes_back(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for n in range(6):
        put(queue, Stream.LOGS, [n])
    leases = [take(queue, max_records=2) for _ in range(3)]
    assert queue.take(max_bytes=MIB, max_records=2) is None
    queue.settle(leases[1], LATER)
    again = take(queue, max_records=8)
    assert (numbers_of(again), again.tries) == ([2, 3], 1)
    queue.settle(leases[2], Accepted())
    queue.settle(again, Hold(code="UNAUTHENTICATED", why="token", cure="a new one"))
    queue.settle(leases[0], LATER)
    assert drain(queue) == [0, 1, 2, 3]
    assert_balanced(queue)
    queue.close()


def test_a_lease_is_settled_once(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, [1])
    lease = take(queue)
    queue.settle(lease, Accepted())
    with pytest.raises(ValueError, match="exactly once"):
        queue.settle(lease, Accepted())
    queue.close()


def test_a_partial_success_is_counted_and_not_repeated(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, range(10))
    queue.settle(take(queue), Accepted(rejected=3))
    assert queue.ledger().postings() == [
        Posting(Stream.LOGS, Account.DELIVERED, "", 7),
        Posting(Stream.LOGS, Account.RECEIVED, "", 10),
        Posting(Stream.LOGS, Account.REJECTED, "partial_success", 3),
    ]
    assert drain(queue) == []
    queue.close()


def test_pieces_take_the_place_of_a_lease_and_can_be_cut_again(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, range(16))
    put(queue, Stream.LOGS, [16])
    numbers = list(range(16))
    while len(numbers) > 1:
        lease = take(queue, max_records=len(numbers))
        assert numbers_of(lease) == numbers
        half = len(numbers) // 2
        queue.replace(lease, [batch_of(Stream.LOGS, numbers[:half]), batch_of(Stream.LOGS, numbers[half:])])
        assert_balanced(queue)
        numbers = numbers[:half]
    assert drain(queue, max_records=1) == list(range(17))
    assert_balanced(queue)
    queue.close()


def test_pieces_must_hold_what_the_lease_holds(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, range(4))
    lease = take(queue)
    with pytest.raises(ValueError, match="4 records of logs"):
        queue.replace(lease, [batch_of(Stream.LOGS, [1])])
    queue.settle(lease, LATER)
    queue.close()


def test_the_pieces_of_a_lease_can_be_kept_and_each_is_settled_by_itself(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, range(6))
    put(queue, Stream.LOGS, [6])
    halves = [batch_of(Stream.LOGS, [n, n + 1]) for n in (0, 2, 4)]
    pieces = queue.replace(take(queue, max_records=6), halves, keep=True)
    assert [numbers_of(piece) for piece in pieces] == [[0, 1], [2, 3], [4, 5]]
    rest = take(queue)
    assert numbers_of(rest) == [6]
    queue.settle(pieces[1], Accepted())
    queue.settle(rest, Accepted())
    queue.dead_letter(pieces[0], Refused(code="400", why="no"))
    queue.settle(pieces[2], LATER)
    assert drain(queue) == [4, 5]
    assert queue.depth().dead_letters == 1
    assert_balanced(queue)
    queue.close()


def test_a_stream_that_is_left_out_is_not_lent(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, [1])
    put(queue, Stream.ALERTS, [2])
    queue.leave_out({Stream.LOGS})
    lease = queue.take(max_bytes=1000, max_records=10)
    assert lease is not None
    assert lease.stream is Stream.ALERTS
    assert queue.take(max_bytes=1000, max_records=10) is None
    assert not queue.has_work()
    queue.let_in({Stream.LOGS})
    assert queue.has_work()
    assert queue.take(max_bytes=1000, max_records=10) is not None
    queue.settle(lease, LATER)
    queue.close()


def test_a_restart_keeps_batches_ledger_and_notes(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for n in range(20):
        put(queue, Stream.ALERTS if n % 2 else Stream.LOGS, [n])
    queue.settle(take(queue, max_records=4), Accepted())
    queue.checkpoint_watching({("relay:32767", Stream.ALERTS): 5})
    out = take(queue)
    ledger = queue.ledger().postings()
    queue.close()
    told = Told()
    queue = open_queue(tmp_path, told)
    assert queue.ledger().postings() == ledger
    assert queue.last_watching() == {("relay:32767", Stream.ALERTS): 5}
    assert [(h.held_records, h.held_bytes) for h in told.of(QueueOpened)] == [(16, 16 * RECORD_BYTES)]
    assert set(numbers_of(out)) <= set(drain(queue))
    assert_balanced(queue)
    queue.close()


def test_a_second_process_is_refused_with_the_owner_named(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from tests.integration.queue.oracle import open_queue\n"
        "queue = open_queue(pathlib.Path(sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
        "queue.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(QueueInUse, match=rf"in use by process {owner.pid}\. .*queue\.directory") as refused:
            open_queue(tmp_path)
        assert refused.value.owner_pid == owner.pid
        owner.kill()
    queue = open_queue(tmp_path)  # the lock dies with its owner
    queue.close()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QueueUnusable, match=r"can't be used: Not a directory\. .*queue\.directory"):
        open_queue(tmp_path / "file" / "queue")


def test_a_folder_in_the_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "queue.db").mkdir()
    with pytest.raises(QueueUnusable, match="can't be used"):
        open_queue(tmp_path)


@pytest.mark.parametrize(
    ("overflow", "left", "gone"),
    [
        ("drop_oldest", {Stream.LOGS, Stream.ALERTS}, {Stream.ALERTS}),
        ("drop_newest", {Stream.ALERTS, Stream.LOGS}, {Stream.LOGS}),
        ("logs_first", {Stream.ALERTS, Stream.LOGS}, {Stream.LOGS}),
    ],
)
def test_the_bound_holds_and_what_goes_for_it_is_counted_exactly(
    tmp_path: Path, overflow: str, left: set[Stream], gone: set[Stream]
) -> None:
    told = Told()
    queue = open_queue(tmp_path, told, max_bytes=4 * MIB, overflow=overflow)
    per_batch = 128
    full = 4 * MIB // (per_batch * RECORD_BYTES)
    for n in range(full):
        put(queue, Stream.ALERTS if n < full // 2 else Stream.LOGS, range(n * per_batch, (n + 1) * per_batch))
    assert queue.depth().bytes == 4 * MIB
    for n in range(full, full + 8):
        put(queue, Stream.LOGS, range(n * per_batch, (n + 1) * per_batch))
        assert queue.depth().bytes <= 4 * MIB
        assert_balanced(queue)
    assert dropped(queue, "queue_full") == dict.fromkeys(gone, 8 * per_batch)
    assert sum(h.records for h in told.of(RecordsShed)) == 8 * per_batch
    assert {stream for stream, records in queue.held().items() if records} == left
    kept = drain(queue)
    if overflow == "drop_newest":
        assert sorted(kept) == list(range(full * per_batch))
    elif overflow == "drop_oldest":
        assert sorted(kept) == list(range(8 * per_batch, (full + 8) * per_batch))
    queue.close()


def test_logs_never_push_out_alerts_and_gap_records_always_find_room(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, max_bytes=4 * MIB)
    for n in range(64):
        put(queue, Stream.ALERTS, range(n * 128, (n + 1) * 128))
    put(queue, Stream.LOGS, [1])
    put(queue, Stream.GAPS, [2])
    assert queue.held()[Stream.GAPS] == 1
    assert dropped(queue, "queue_full") == {Stream.LOGS: 1}
    queue.close()


def test_spans_take_a_sixteenth_of_the_queue_and_make_room_for_one_another(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, max_bytes=4 * MIB)
    for n in range(4):
        put(queue, Stream.SPANS, range(n * 128, (n + 1) * 128))
    assert queue.held()[Stream.SPANS] == 512
    assert dropped(queue, "queue_full") == {}
    put(queue, Stream.SPANS, range(512, 640))
    assert queue.held()[Stream.SPANS] == 512
    assert dropped(queue, "queue_full") == {Stream.SPANS: 128}
    assert_balanced(queue)
    queue.close()


def test_a_leased_batch_is_not_shed(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, max_bytes=4 * MIB, overflow="drop_oldest")
    for n in range(64):
        put(queue, Stream.LOGS, range(n * 128, (n + 1) * 128))
    lease = take(queue, max_records=128)
    put(queue, Stream.LOGS, range(64 * 128, 65 * 128))
    queue.settle(lease, LATER)
    numbers = drain(queue)
    assert numbers[:128] == list(range(128))
    assert dropped(queue, "queue_full") == {Stream.LOGS: 128}
    assert_balanced(queue)
    queue.close()


def test_records_past_their_age_are_dropped_and_counted(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, max_age_seconds=60)
    now = time.time_ns()
    for n in range(600):
        put(queue, Stream.LOGS, [n], received=now - int(61e9))
    put(queue, Stream.LOGS, [600], received=now)
    eventually(lambda: queue.depth().records == 1, why="upkeep drops what is too old")
    assert dropped(queue, "expired") == {Stream.LOGS: 600}
    assert drain(queue) == [600]
    assert_balanced(queue)
    queue.close()


def test_fresh_first_sends_new_records_before_the_backlog_and_each_in_order(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for n in range(5):
        put(queue, Stream.LOGS, [n])
    queue.close()
    queue = open_queue(tmp_path, order="fresh_first")
    for n in range(5, 10):
        put(queue, Stream.LOGS, [n])
    assert drain(queue, max_records=2) == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    assert_balanced(queue)
    queue.close()


def test_dead_letters_are_kept_counted_bounded_and_can_be_sent_again(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, dead_letter_max_bytes=8 * RECORD_BYTES * 2)
    refused = Refused(code="INVALID_ARGUMENT", why="bad record")
    for n in range(6):
        put(queue, Stream.ALERTS, range(4 * n, 4 * n + 4))
        queue.dead_letter(take(queue), refused)
    letters = queue.dead_letters()
    assert [numbers_of(letter.request)[0] for letter in letters] == [8, 12, 16, 20]
    assert {(letter.code, letter.why, letter.records) for letter in letters} == {("INVALID_ARGUMENT", "bad record", 4)}
    assert queue.ledger().total(Stream.ALERTS, Account.REJECTED) == 24
    queue.close()
    queue = open_queue(tmp_path, dead_letter_max_bytes=8 * RECORD_BYTES * 2)
    assert queue.resend([letters[0].id, letters[2].id]) == 8
    assert queue.ledger().total(Stream.ALERTS, Account.REJECTED) == 16
    assert_balanced(queue)
    assert drain(queue) == [8, 9, 10, 11, 16, 17, 18, 19]
    queue.discard_dead_letters([letters[1].id])
    assert [letter.id for letter in queue.dead_letters()] == [letters[3].id]
    assert_balanced(queue)
    queue.close()


def test_waiting_for_work_ends_with_a_put_a_wake_or_the_time(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    assert queue.wait_for_work(0.01) is False
    seen: list[bool] = []
    waiter = threading.Thread(target=lambda: seen.append(queue.wait_for_work(30)))
    waiter.start()
    put(queue, Stream.LOGS, [1])
    waiter.join()
    assert seen == [True]
    lease = take(queue)
    waiter = threading.Thread(target=lambda: seen.append(queue.wait_for_work(30)))
    waiter.start()
    queue.wake()
    waiter.join()
    assert seen == [True, False]
    queue.settle(lease, LATER)
    assert queue.wait_for_work(30) is True
    queue.close()


def test_workers_and_encoder_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    total, got, lock = 3000, [], threading.Lock()
    done = threading.Event()

    def worker() -> None:
        turn = 0
        while not (done.is_set() and queue.depth().records == 0):
            lease = queue.take(max_bytes=16 * RECORD_BYTES, max_records=16)
            if lease is None:
                queue.wait_for_work(0.02)
                continue
            turn += 1
            if turn % 3 == 0:
                queue.settle(lease, LATER)
                continue
            with lock:
                got.extend(numbers_of(lease))
            queue.settle(lease, Accepted())

    workers = [threading.Thread(target=worker) for _ in range(3)]
    for thread in workers:
        thread.start()
    for n in range(0, total, 5):
        put(queue, Stream.LOGS, range(n, n + 5))
        if n % 500 == 0:
            assert_balanced(queue)
    done.set()
    for thread in workers:
        thread.join()
    assert sorted(got) == list(range(total))
    assert_balanced(queue)
    queue.close()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    queue: DurableQueue = open_queue(tmp_path)
    queue.close()
    queue.close()


@pytest.mark.parametrize(
    "function",
    [
        "queue.dequeue:Dequeue.note_arrivals",
        "queue.state:QueueState.insert",
        "queue.memory:StreamCounts.add",
        "queue.checkpoint:Ledger.post_all",
        "queue.state:QueueState._apply",
        "queue.store:Store.apply",
        "queue.checkpoint:CheckpointFile.write",
        "queue.dequeue:WorkSignal.notify",
    ],
)
@pytest.mark.parametrize("call", [1, 2])
def test_a_put_that_meets_a_fault_and_is_repeated_holds_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    queue = open_queue(tmp_path)
    put(queue, Stream.LOGS, [0])
    batches = [batch_of(Stream.LOGS, [1, 2]), batch_of(Stream.ALERTS, [3])]
    postings = [Posting(Stream.LOGS, Account.RECEIVED, "", 2), Posting(Stream.ALERTS, Account.RECEIVED, "", 1)]
    module, _, path = function.partition(":")
    holder, name = path.split(".")
    owner = getattr(import_module(f"otelbridge.{module}"), holder)
    whole, calls = getattr(owner, name), iter(range(1, 1000))

    def faulty(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise RuntimeError("a fault of ours")
        return whole(*arguments, **named)

    monkeypatch.setattr(owner, name, faulty)
    for _ in range(2):
        try:
            queue.put(batches, postings, turn="seventh")
            break
        except RuntimeError:
            assert_balanced(queue)
    monkeypatch.undo()
    assert_balanced(queue)
    eventually(lambda: not queue.depth().degraded)
    assert sorted(drain(queue)) == [0, 1, 2, 3]
    assert_balanced(queue)
    queue.close()


def test_a_put_that_is_repeated_for_another_turn_is_another_put(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    for number, turn in enumerate(("a", "b", "b", None, None)):
        queue.put([batch_of(Stream.LOGS, [number])], [Posting(Stream.LOGS, Account.RECEIVED, "", 1)], turn=turn)
    assert drain(queue) == [0, 1, 3, 4]
    assert_balanced(queue)
    queue.close()
