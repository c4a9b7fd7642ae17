"""The start of a life: what an earlier one left is taken over, and whatever it cost is said."""

from __future__ import annotations

import sqlite3

from otelbridge.queue.change import Change
from otelbridge.queue.errors import QueueUnusable
from otelbridge.queue.holding import Holding
from otelbridge.queue.letters import Letters
from otelbridge.queue.owner import CURE
from otelbridge.queue.power import tell_of_power_cut
from otelbridge.queue.settings import QueueSettings
from otelbridge.queue.weather import PRIMARY_CODE, sentence
from otelbridge.telemetry.happenings import QueueOpened, Tell

PASSING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)


def passing(error: Exception) -> bool:
    """Whether it is worth starting all the same: the disk may recover; a missing permission will not."""
    return getattr(error, "sqlite_errorcode", -1) & PRIMARY_CODE in PASSING


def start(holding: Holding, letters: Letters, settings: QueueSettings, *, boot: str, tell: Tell) -> None:
    """Opens the holding; on a full or failing disk it starts from memory.

    Raises:
        QueueUnusable: the file can't be made, read or written.
    """
    try:
        holding.open()
    except (sqlite3.Error, OSError) as error:
        if not passing(error):
            holding.close()
            raise QueueUnusable(settings.directory, sentence(error), CURE) from error
        holding.degrade(error)
    letters.count()
    tell_of_power_cut(holding.books, boot, tell)
    holding.books.open_under_boot = boot if settings.synchronous == "normal" else ""
    holding.write(Change())
    counts = holding.counts
    held = sum(counts.records.values())
    tell(QueueOpened(path=str(holding.path), held_records=held, held_bytes=counts.total_bytes()))
