from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from otelbridge.clamp import MAX_UNIX_NANO
from otelbridge.event import Stream
from otelbridge.queue.checkpoint import (
    LATEST_UNIX_NANO,
    Account,
    Checkpoint,
    CheckpointFile,
    Ledger,
    Posting,
    QueueClock,
    Reading,
    note_of,
    read_note,
    read_page,
)


def checkpoint() -> Checkpoint:
    ledger = Ledger([Posting(Stream.LOGS, Account.RECEIVED, "", 5), Posting(Stream.LOGS, Account.FILTERED, "rule", 2)])
    return Checkpoint(
        revision=3,
        next_sequence=9,
        ledger=ledger,
        floor={Stream.LOGS: 12},
        empty_at={Stream.ALERTS: 7},
        written=Reading(5, 6),
        offset_nano=-8,
        boot="b",
        unsynced=True,
    )


def test_a_checkpoint_survives_its_page() -> None:
    read = read_page(checkpoint().page())
    assert read is not None
    assert read.ledger.postings() == checkpoint().ledger.postings()
    read.ledger = written_ledger = Ledger()
    written = checkpoint()
    written.ledger = written_ledger
    assert read == written


@pytest.mark.parametrize("text", [b"\xff" * 4, b"[" * 100_000, b'{"revision":1e999}', b"[]", b'{"revision":[]}'])
def test_a_whole_seal_on_what_is_no_checkpoint_is_no_checkpoint(text: bytes) -> None:
    assert read_page(zlib.crc32(text).to_bytes(4, "big") + text) is None


@pytest.mark.parametrize("note", ["[" * 100_000, '[["a","logs",1e999]]', "[1]", "{}x", '[["a","logs",[]]]'])
def test_a_note_that_is_none_says_nothing(note: str) -> None:
    assert read_note(note) == {}


def test_a_page_with_any_byte_changed_is_not_believed() -> None:
    page = checkpoint().page()
    for place in range(len(page)):
        spoiled = bytearray(page)
        spoiled[place] ^= 0x20
        assert read_page(bytes(spoiled)) is None
    assert read_page(page[:-1]) is None
    assert read_page(b"") is None
    assert read_page(None) is None


@pytest.mark.parametrize(
    ("ours", "theirs"), [('"logs"', '"profiles"'), ('"received"', '"sampled"'), ('"boot"', '"booted"')]
)
def test_a_whole_page_of_a_later_version_is_no_error(ours: str, theirs: str) -> None:
    content = checkpoint().page()[4:].decode().replace(ours, theirs).encode()
    assert theirs.encode() in content
    assert read_page(zlib.crc32(content).to_bytes(4, "big") + content) is None


def test_the_copy_gives_back_the_last_page_and_note_though_earlier_ones_were_longer(tmp_path: Path) -> None:
    copy = CheckpointFile(tmp_path)
    assert copy.read() == (None, "")
    copy.write(checkpoint().page())
    copy.write_note("a long note")
    copy.write(Checkpoint(revision=4).page())
    assert copy.read()[1] == "a long note"
    copy.write_note("note")
    copy.close()
    read, note = CheckpointFile(tmp_path).read()
    assert read is not None
    assert (read.revision, read.ledger.postings(), note) == (4, [], "note")


def test_the_copy_follows_no_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    (tmp_path / "queue.checkpoint").symlink_to(target)
    copy = CheckpointFile(tmp_path)
    copy.write(checkpoint().page())
    copy.close()
    assert target.read_bytes() == b""
    assert copy.read() == (None, "")


def test_a_copy_that_is_a_pipe_stops_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "queue.checkpoint")
    assert CheckpointFile(tmp_path).read() == (None, "")


def test_the_note_about_watching_is_read_back_and_bounded() -> None:
    watched = {(f"node{n}:32767", Stream.ALERTS): n for n in range(3_100)}
    read = read_note(note_of(watched))
    assert len(read) == 3_000
    assert read["node3099:32767", Stream.ALERTS] == 3099
    assert read_note(None) == read_note("{") == read_note("[[1]]") == {}


SECOND = 1_000_000_000
HOUR = 3600 * SECOND
NOW = 1_790_000_000 * SECOND


@dataclass
class Machine:
    """Both clocks, as a test sets them."""

    unix: int = NOW
    elapsed: int = 500 * SECOND

    def passes(self, nanos: int) -> None:
        self.unix += nanos
        self.elapsed += nanos

    def clock(self, boot: str = "boot") -> QueueClock:
        return QueueClock(lambda: self.unix, lambda: self.elapsed, boot)


def test_it_is_unix_time_as_long_as_nobody_sets_the_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    for _ in range(100):
        machine.passes(HOUR)
        machine.unix += SECOND // 2  # slewed
        assert clock.now() == machine.unix
    assert clock.time_of(machine.unix - SECOND) == machine.unix - SECOND


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NOW, NOW + 25 * HOUR),
        (NOW, NOW - 25 * HOUR),
        (5 * SECOND, NOW),
        (NOW, 0),
        (-5 * HOUR, NOW),
        (NOW, 10_664_000_000 * SECOND),  # 2307
        (10_664_000_000 * SECOND, NOW),
        (NOW, 2**70),
    ],
)
def test_setting_the_clock_does_not_step_it(before: int, after: int) -> None:
    machine = Machine(unix=before)
    clock = machine.clock()
    first = clock.now()
    received = clock.time_of(machine.unix)
    machine.passes(SECOND)
    machine.unix += after - before
    assert 0 <= clock.now() - first - SECOND <= SECOND
    assert clock.now() - received <= 2 * SECOND
    assert 0 <= received <= MAX_UNIX_NANO
    machine.passes(HOUR)
    assert clock.now() - first == HOUR + SECOND, "it goes on from there"
    assert 0 <= clock.unix_nano_of(clock.now()) <= MAX_UNIX_NANO


def test_what_was_received_before_the_clock_was_set_and_put_after_it_is_fresh() -> None:
    for step in (25 * HOUR, HOUR // 2, -HOUR, NOW):
        machine = Machine()
        clock = machine.clock()
        received = machine.unix
        machine.passes(SECOND)
        machine.unix += step
        assert clock.now() - clock.time_of(received) == SECOND if step > 0 else clock.now() - received < SECOND * 2
        later = machine.unix
        machine.passes(2 * SECOND)
        assert clock.now() - clock.time_of(later) == 2 * SECOND


def test_a_time_of_receipt_that_cannot_be_is_taken_for_now() -> None:
    machine = Machine()
    clock = machine.clock()
    for received in (machine.unix - 25 * HOUR, machine.unix + HOUR, 0, -1, 2**80):
        assert clock.time_of(received) == clock.now()


def resumed(last: Machine, offset: int, machine: Machine, *, boot: str = "boot", now_boot: str = "boot") -> int:
    """How much time the queue believes to have passed between two lives."""
    clock = machine.clock(now_boot)
    clock.resume(Reading(last.unix, last.elapsed), offset, boot)
    return clock.now() - (last.unix - offset)


def test_a_restart_under_the_same_boot_knows_how_long_it_took_whatever_the_clock_says() -> None:
    for unix in (NOW + 3 * SECOND, NOW + 25 * HOUR, 7, LATEST_UNIX_NANO * 4):
        took = resumed(Machine(), 0, Machine(unix=unix, elapsed=503 * SECOND))
        assert took == pytest.approx(3 * SECOND, abs=SECOND)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NOW, NOW + 5 * HOUR),  # it was off, or the clock was wrong: a board without a battery starts years back
        (NOW, NOW - 5 * HOUR),
        (NOW, 5 * SECOND),
        (5 * SECOND, NOW),
        (5 * SECOND, 9 * SECOND),
        (NOW, 2**70),
    ],
)
def test_a_restart_of_the_machine_makes_nothing_older(before: int, after: int) -> None:
    assert resumed(Machine(unix=before), 0, Machine(unix=after, elapsed=SECOND), now_boot="other") == 0


def test_what_the_clock_was_set_by_in_an_earlier_life_counts_in_the_next_one() -> None:
    last = Machine()
    assert resumed(last, NOW - 7, Machine(unix=NOW + HOUR, elapsed=last.elapsed + HOUR)) == HOUR


def test_a_boot_that_the_kernel_does_not_tell_is_never_the_same() -> None:
    assert resumed(Machine(), 0, Machine(unix=NOW + HOUR), boot="", now_boot="") == 0
