"""Fuzzes the opening of a queue whose files hold anything: it opens or says why not, and then holds and gives out.

The first byte of an input chooses a file, and whether it is overwritten in places (three bytes say where, one how many
bytes follow) or as a whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.queue.model import Accepted, QueueUnusable
from tests.integration.queue.oracle import assert_balanced, open_queue, put

MODULES = ("queue.checkpoint", "queue.recovery", "queue.state", "queue.file", "queue.store")
FILES = ("queue.db", "queue.checkpoint", "queue.db-wal", "queue.lock", "commands/resend-1")
WHOLE = 0x80
PLACE_BYTES = 4


class Target:
    """A queue with some batches in it, copied and damaged for each input."""

    def __init__(self, folder: Path) -> None:
        self._origin, self._copy = folder / "origin", folder / "copy"
        queue = open_queue(self._origin)
        for stream in Stream:
            put(queue, stream, range(3))
        queue.close()

    def try_one(self, data: bytes) -> None:
        """Carries one input through; an exception other than `QueueUnusable`, or a ledger that is out, is a fault."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._origin, self._copy)
        choice = data[0] if data else 0
        damaged = self._copy / FILES[(choice & ~WHOLE) % len(FILES)]
        damaged.parent.mkdir(exist_ok=True)
        content = bytearray(damaged.read_bytes() if damaged.exists() else b"")
        damaged.write_bytes(data[1:] if choice & WHOLE else _edited(content, data[1:]))
        try:
            queue = open_queue(self._copy)
        except QueueUnusable:
            return
        try:
            put(queue, Stream.ALERTS, [1000])
            while (lease := queue.take(max_bytes=1 << 20, max_records=100)) is not None:
                queue.settle(lease, Accepted())
            assert_balanced(queue)
        finally:
            queue.close()


def _edited(content: bytearray, edits: bytes) -> bytes:
    while len(edits) >= PLACE_BYTES and content:
        at, count = int.from_bytes(edits[:3]) % len(content), edits[3]
        new, edits = edits[PLACE_BYTES : PLACE_BYTES + count], edits[PLACE_BYTES + count :]
        content[at : at + len(new)] = new
    return bytes(content)
