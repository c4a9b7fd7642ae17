"""`otelbridge queue replay`: what the flight recorder kept of a span of time goes to an endpoint once more."""

from __future__ import annotations

import itertools
import sqlite3
import time
from typing import TYPE_CHECKING, Annotated

import typer

from otelbridge.cli.exits import Exit
from otelbridge.cli.output import fail, say
from otelbridge.cli.settings_options import ConfigOption, QueueDirectoryOption, SetOption, load_or_exit
from otelbridge.cli.times import instant

if TYPE_CHECKING:
    from otelbridge.queue.change import Retained
    from otelbridge.send.sender import Sender

REPLAY_EXAMPLES = (
    "otelbridge queue replay --since 10m --to http://collector:4317",
    "otelbridge queue replay --since 2026-01-31T12:00:00Z --until 2026-01-31T12:30:00Z --to http://collector:4317",
)
MAX_TRIES = 5
RETRY_SECONDS = 1.0
"""Pause after a retryable answer without a delay of its own, doubled each time."""


def replay(
    *,
    since: Annotated[str, typer.Option(metavar="TIME", help="From when: 10m (ago), or an instant.")],
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Until when; now where not given.")] = None,
    to: Annotated[str | None, typer.Option(metavar="URL", help="Endpoint; send.endpoint where not given.")] = None,
    protocol: Annotated[str | None, typer.Option(help="grpc, http/protobuf or console.")] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
) -> None:
    """Send delivered batches again.

    Those that were retained (queue.retain_seconds), to this or another endpoint. Records keep their log.record.uid.
    """
    loaded = load_or_exit(config, sets, quiet=True, queue_directory=queue_directory, endpoint=to, protocol=protocol)
    try:
        begin, end = instant(since), instant(until) if until else time.time_ns()
    except ValueError as error:
        fail(f"Wrong usage: {error}", Exit.WRONG_USAGE)
    from otelbridge import __version__  # noqa: PLC0415  # with grpc: only this command pays for it
    from otelbridge.queue.errors import QueueUnusable  # noqa: PLC0415
    from otelbridge.queue.inspect import inspect  # noqa: PLC0415
    from otelbridge.send.sender import open_sender  # noqa: PLC0415

    directory = loaded.settings.queue.directory
    batches = records = 0
    try:
        sender = open_sender(loaded.settings.send, version=__version__)
    except ValueError as error:
        fail(f"The settings cannot be used: {error}", Exit.WRONG_USAGE)
    try:
        with inspect(directory) as found:
            for kept in found.retained(begin, end):
                records += _send(sender, kept)
                batches += 1
    except QueueUnusable as error:
        fail(str(error), Exit.UNREACHABLE)
    except sqlite3.Error as error:
        fail(f"The queue in {directory} cannot be read: {error}", Exit.UNREACHABLE)
    finally:
        sender.close()
    say(f"{records} records in {batches} batches replayed to {sender.endpoint}.")
    if not batches:
        say("The flight recorder kept nothing of that time; queue.retain_seconds says how long it keeps.")


def _send(sender: Sender, kept: Retained) -> int:
    """Sends one batch until it is accepted; ends the command when it will not be. Returns the records accepted."""
    from otelbridge.queue.outcome import Accepted, RetryLater  # noqa: PLC0415
    from otelbridge.queue.packing import is_whole  # noqa: PLC0415

    if not is_whole(kept.request):
        say(f"A batch of {kept.records} records is damaged; left out.")
        return 0
    pause = RETRY_SECONDS
    for attempt in itertools.count(1):
        outcome = sender.send(kept.request, records=kept.records)
        if isinstance(outcome, Accepted):
            if outcome.rejected:
                say(f"{outcome.rejected} records were rejected: {outcome.message}")
            return kept.records - outcome.rejected
        if not isinstance(outcome, RetryLater):
            fail(f"{sender.endpoint} does not take it: {outcome.code}: {outcome.why}")
        if attempt == MAX_TRIES:
            fail(
                f"{sender.endpoint} did not take it in {attempt} tries ({outcome.code}: {outcome.why})",
                Exit.UNREACHABLE,
            )
        time.sleep(outcome.after_seconds or pause)
        pause *= 2
    raise AssertionError("never reached: the count has no end")
