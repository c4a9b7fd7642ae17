from __future__ import annotations

import os
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Checkpoint, Mirror, note_of, read_note, read_page
from otelbridge.queue.clock import Reading
from otelbridge.telemetry.ledger import Account, Ledger, Posting


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


def test_a_page_with_any_byte_changed_is_not_believed() -> None:
    page = checkpoint().page()
    for place in range(len(page)):
        spoiled = bytearray(page)
        spoiled[place] ^= 0x20
        assert read_page(bytes(spoiled)) is None
    assert read_page(page[:-1]) is None
    assert read_page(b"") is None
    assert read_page(None) is None


def test_the_mirror_gives_back_the_last_page_and_note_though_earlier_ones_were_longer(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    assert mirror.read() == (None, "")
    mirror.write(checkpoint().page())
    mirror.write_note("a long note")
    mirror.write(Checkpoint(revision=4).page())
    assert mirror.read()[1] == "a long note"
    mirror.write_note("note")
    mirror.close()
    read, note = Mirror(tmp_path).read()
    assert read is not None
    assert (read.revision, read.ledger.postings(), note) == (4, [], "note")


def test_the_mirror_follows_no_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    (tmp_path / "queue.checkpoint").symlink_to(target)
    mirror = Mirror(tmp_path)
    mirror.write(checkpoint().page())
    mirror.close()
    assert target.read_bytes() == b""
    assert mirror.read() == (None, "")


def test_a_mirror_that_is_a_pipe_stops_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "queue.checkpoint")
    assert Mirror(tmp_path).read() == (None, "")


def test_the_note_about_watching_is_read_back_and_bounded() -> None:
    watched = {(f"node{n}:32767", Stream.ALERTS): n for n in range(3_100)}
    read = read_note(note_of(watched))
    assert len(read) == 3_000
    assert read["node3099:32767", Stream.ALERTS] == 3099
    assert read_note(None) == read_note("{") == read_note("[[1]]") == {}
