"""The way out of a disk that the queue has filled itself: once nothing in the file is owed any more, it starts anew.

Deletions need space too. The reserve gives it, once; where batches came in after that and took it, SQLite can neither
record what was delivered nor move its log. Exports go on, and at their end the file holds nothing but what is to be
deleted: only giving it up gives the space back.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from otelbridge.queue.holding import Holding
from otelbridge.queue.weather import Weather

ENDINGS = ("-wal", "-shm", "")  # an old log beside a new database would be taken for its own


def renew(holding: Holding) -> None:
    """Gives the file of a full disk up if nothing in it is owed, kept or lent; `recover` makes the next one."""
    store = holding.store
    if store is None or holding.weather is not Weather.FULL or holding.desk.loans():
        return
    if sum(holding.counts.batches.values()) > len(holding.room) or holding.pending.dead_letters:
        return
    try:
        if store.dead_letter_sizes() or store.retained_bytes():
            return
    except sqlite3.Error:
        return  # `recover` will meet it too
    # The books first, in a file whose space is reserved: a start without the database goes by them.
    holding.mirror.write(holding.books.page())
    holding.pending.notes |= holding.notes
    holding.shut()
    with contextlib.suppress(OSError):  # what is left is opened again, and what waits is deleted in it
        for ending in ENDINGS:
            Path(f"{holding.path}{ending}").unlink(missing_ok=True)
