"""`otelbridge queue list|show|verify|...`: what is held and what was refused, without disturbing who holds it."""

from __future__ import annotations

import itertools
import platform
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import typer

from otelbridge import __version__
from otelbridge.cli.application import Commands, ConfigOption, OutputOption, QueueDirectoryOption, SetOption
from otelbridge.cli.loading import load_or_exit
from otelbridge.cli.output import (
    Exit,
    Output,
    age_in_words,
    fail,
    in_words,
    instant,
    print_json,
    print_table,
    say,
    size_in_words,
)
from otelbridge.event import NANOSECONDS, STREAMS, Stream, kind_of
from otelbridge.gate.flood import UnknownLayout, are_originals, read_originals
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper, Record
from otelbridge.mapping.settings import MappingSettings
from otelbridge.queue.dead_letters import Verb, leave
from otelbridge.queue.inspect import Inspection, inspect
from otelbridge.queue.model import Accepted, Batch, DeadLetter, QueueUnusable, Retained, RetryLater
from otelbridge.queue.packing import DamagedRequest, is_whole, unpacked
from otelbridge.send.console_sender import to_document, to_line
from otelbridge.send.sender import Sender, open_sender

REPLAY_EXAMPLES = (
    "otelbridge queue replay --since 2026-01-31T12:00:00Z --until 2026-01-31T12:30:00Z --to http://collector:4317",
    "otelbridge queue replay --since 1h --kind 'alerts/block-curl/*' --to http://collector:4317",
)
MAX_TRIES = 5
RETRY_SECONDS = 1.0
"""Pause after a retryable answer without a delay of its own, doubled each time."""


def replay(
    *,
    since: Annotated[str, typer.Option(metavar="TIME", help="From when: 10m (ago), or an instant.")],
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Until when; now where not given.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only events of floods, of kinds that fit this shell pattern."),
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="URL", help="Endpoint; send.endpoint where not given.")] = None,
    protocol: Annotated[str | None, typer.Option(help="grpc, http/protobuf or console.")] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
) -> None:
    """Send delivered batches again.

    Sends retained batches (queue.retain_seconds) to this or another endpoint. Events of floods, which were only counted
    before, are sent too, mapped by the current settings. Records keep their log.record.uid.
    """
    loaded = load_or_exit(config, sets, quiet=True, queue_directory=queue_directory, endpoint=to, protocol=protocol)
    try:
        begin, end = instant(since), instant(until) if until else time.time_ns()
    except ValueError as error:
        fail(f"Wrong usage: {error}", Exit.WRONG_USAGE)

    batches = records = 0
    try:
        sender = open_sender(loaded.settings.send, version=__version__)
    except ValueError as error:
        fail(f"The settings cannot be used: {error}", Exit.WRONG_USAGE)
    try:
        with opened(loaded.settings.queue.directory) as found:
            for kept in as_requests(found.retained(begin, end), loaded.settings.mapping, kind):
                records += _send(sender, kept)
                batches += 1
    finally:
        sender.close()
    say(f"{records} records in {batches} batches replayed to {sender.endpoint}.")
    if not batches:
        what = "of that kind and time" if kind else "of that time"
        say(f"The flight recorder kept nothing {what}; queue.retain_seconds says how long it keeps.")


REPLAY_BYTES = 768 * 1024
"""A request of events that are mapped now is complete when its records have grown to this."""


def as_requests(retained: Iterable[Retained], settings: MappingSettings, kind: str | None = None) -> Iterator[Retained]:
    """What the flight recorder kept, with requests in place of the events of floods, which are mapped now.

    With `kind`, a shell pattern, only events of floods, and of these kinds. Events in the layout of another version are
    left out, and reported.
    """
    mapper = Mapper(settings, version=__version__, instance=platform.node())
    records: dict[Stream, list[Record]] = {}
    kept = None
    for kept in retained:
        mapped = records.setdefault(kept.stream, [])
        try:
            content = unpacked(kept.request)
            if not are_originals(content):
                if kind is None:
                    yield kept
                continue
            for original in sorted(read_originals(content), key=attrgetter("received_unix_nano")):
                decoded = decode(kept.stream, original.body)
                if kind is None or fnmatchcase(str(kind_of(kept.stream, decoded.message)), kind):
                    mapped.append(mapper.map(kept.stream, decoded, original.received_unix_nano, original.uid))
        except (DamagedRequest, UnknownLayout) as error:
            say(f"A batch of {kept.records} records is damaged, or of another version; left out: {error}.")
        if sum(len(record.encoded) for record in mapped) >= REPLAY_BYTES:
            yield kept._replace(request=mapper.assemble(mapped), records=len(mapped))
            mapped.clear()
    for stream, mapped in records.items():
        if mapped and kept is not None:
            yield kept._replace(stream=stream, request=mapper.assemble(mapped), records=len(mapped))


def _send(sender: Sender, kept: Retained) -> int:
    """Sends one batch until it is accepted; ends the command when it will not be. Returns the records accepted."""
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


DEFAULT_LIMIT = 50

DeadLetterOption = Annotated[bool, typer.Option("--dead-letter", help="The number is a dead letter's.")]
LimitOption = Annotated[int, typer.Option(min=1, help="Show at most so many.")]


class QueuePart(StrEnum):
    """What a queue folder holds."""

    HELD = "held"
    DEAD_LETTERS = "dead-letters"
    RETAINED = "retained"


def list_batches(
    *,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the batches that wait for delivery.

    Stream by stream, the oldest first.
    """
    with opened(_directory(config, sets, queue_directory)) as found:
        held = found.held()
        batches = [batch for _, batch in zip(range(limit), found.batches(), strict=False)]
        owner = found.owner_pid
    if output is Output.JSON:
        records = {stream.value: count for stream, count in held.items()}
        print_json({"held": records, "owner_pid": owner, "batches": [asdict(batch) for batch in batches]})
        return
    now = time.time_ns()
    rows = [
        (
            b.number,
            b.stream.value,
            b.records,
            size_in_words(b.bytes),
            age_in_words((now - b.oldest_received_unix_nano) / NANOSECONDS),
        )
        for b in batches
    ]
    print_table(("batch", "stream", "records", "size", "age"), rows, numbers=("batch", "records", "size", "age"))
    say(f"{sum(held.values())} records held; {_owner(owner)}.")


def show(
    number: Annotated[int, typer.Argument(help="The batch's number, from `list`.")],
    *,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
    dead_letter: DeadLetterOption = False,
) -> None:
    """Print a batch, or a dead letter, as OTLP JSON."""
    with opened(_directory(config, sets, queue_directory)) as found:
        if dead_letter:
            letters = (letter for letter in found.dead_letters() if letter.id == number)
            held: Batch | DeadLetter | None = next(letters, None)
        else:
            held = found.batch(number)
    if held is None or not is_whole(held.request):
        fail(f"There is no {'dead letter' if dead_letter else 'batch'} {number}, or it is damaged.")
    print_json(to_document(held.request, STREAMS[held.stream].signal))


def verify(
    *,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check the queue file for damage.

    Reads the file, compares each batch with its checksum and the ledger with the batches. Exits with 1 on a fault.
    """
    with opened(_directory(config, sets, queue_directory)) as found:
        result = found.verify()
    if output is Output.JSON:
        print_json(asdict(result) | {"sound": result.sound})
    else:
        print(f"{result.batches} batches with {result.records} records read.")
        for number in result.damaged:
            print(f"Batch {number} is damaged.")
        if result.file_error:
            print(f"The file is damaged: {result.file_error}.")
        for stream, records in result.residue.items():
            if records:
                print(f"The ledger of {stream.value} is out by {records:+d}.")
        print(
            "The queue is sound." if result.sound else "The queue is not sound; a bridge that starts on it salvages it."
        )
    if not result.sound:
        raise typer.Exit(Exit.FAILED)


def dead_letters(
    *,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    output: OutputOption = Output.TEXT,
) -> None:
    """List what the endpoint refused for good, and why."""
    with opened(_directory(config, sets, queue_directory)) as found:
        letters = [letter for _, letter in zip(range(limit), found.dead_letters(), strict=False)]
    if output is Output.JSON:
        print_json([{key: value for key, value in letter._asdict().items() if key != "request"} for letter in letters])
        return
    rows = [(x.id, x.stream.value, x.records, in_words(x.refused_unix_nano), x.code, x.why) for x in letters]
    print_table(("letter", "stream", "records", "refused", "code", "why"), rows, numbers=("letter", "records"))


def resend(
    numbers: Annotated[list[int] | None, typer.Argument(help="Numbers of dead letters.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
) -> None:
    """Put dead letters back into the queue. The bridge does it at once, or when it is started."""
    _leave("resend", numbers, _directory(config, sets, queue_directory), everything=everything)


def discard(
    numbers: Annotated[list[int] | None, typer.Argument(help="Numbers of dead letters.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
) -> None:
    """Delete dead letters for good. They stay counted as rejected."""
    _leave("discard", numbers, _directory(config, sets, queue_directory), everything=everything)


def _leave(verb: Verb, numbers: list[int] | None, directory: Path, *, everything: bool) -> None:
    """Leaves a command for the bridge: nobody else writes to the queue."""
    if bool(numbers) == everything:
        fail(
            "Name the dead letters by their numbers (see `otelbridge queue dead-letters`), or --all.", Exit.WRONG_USAGE
        )
    with opened(directory) as found:
        owner = found.owner_pid
        known = [letter.id for letter in found.dead_letters()]
    unknown = sorted(set(numbers or ()) - set(known))
    if unknown:
        fail(f"There is no dead letter {', '.join(map(str, unknown))}.")
    if not known:
        say("There are no dead letters.")
        return
    try:
        leave(directory, verb, numbers or known)
    except OSError as error:
        fail(f"{directory} cannot be written: {error.strerror}", Exit.UNREACHABLE)
    when = "within a second" if owner is not None else "when a bridge starts on this queue"
    say(f"{len(numbers or known)} dead letters: {verb} {when}.")


def export(
    *,
    part: Annotated[QueuePart, typer.Option(help="Which part of the folder.")] = QueuePart.HELD,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
) -> None:
    """Print batches as OTLP JSON.

    What is held, refused or retained, one request per line. Nothing is taken out.
    """
    loaded = load_or_exit(config, sets, check_files=False, quiet=True, queue_directory=queue_directory)
    with opened(loaded.settings.queue.directory) as found:
        for held in _batches(found, part, loaded.settings.mapping):
            if is_whole(held.request):
                print(to_line(held.request, STREAMS[held.stream].signal))
            else:
                say("A damaged one was left out.")


def _batches(found: Inspection, part: QueuePart, settings: MappingSettings) -> Iterator[Batch | DeadLetter | Retained]:
    match part:
        case QueuePart.HELD:
            for listed in found.batches():
                batch = found.batch(listed.number)
                if batch is None:
                    say(f"Batch {listed.number} is damaged, or has just been delivered; left out.")
                else:
                    yield batch
        case QueuePart.DEAD_LETTERS:
            yield from found.dead_letters()
        case QueuePart.RETAINED:
            yield from as_requests(found.retained(), settings)


@contextmanager
def opened(directory: Path) -> Iterator[Inspection]:
    """The queue in that folder, read-only; ends the command where there is none."""
    try:
        with inspect(directory) as found:
            yield found
    except QueueUnusable as error:
        fail(str(error), Exit.UNREACHABLE)
    except sqlite3.Error as error:
        fail(f"The queue in {directory} cannot be read: {error}", Exit.UNREACHABLE)


def _directory(config: Path | None, sets: list[str] | None, queue_directory: str | None) -> Path:
    loaded = load_or_exit(config, sets, check_files=False, quiet=True, queue_directory=queue_directory)
    return loaded.settings.queue.directory


def _owner(pid: int | None) -> str:
    return "no bridge runs on this queue" if pid is None else f"the bridge on it is process {pid or '?'}"


_AT = "--queue-directory /var/lib/otelbridge"
HELP = "What is held on disk, and what the endpoint refused."
COMMANDS: Commands = (
    ("list", list_batches, ("otelbridge queue list", f"otelbridge queue list {_AT} --limit 10 --output json")),
    ("show", show, ("otelbridge queue show 4611686018427387905", "otelbridge queue show 12 --dead-letter")),
    ("verify", verify, ("otelbridge queue verify", f"otelbridge queue verify {_AT} --output json")),
    ("dead-letters", dead_letters, ("otelbridge queue dead-letters", f"otelbridge queue dead-letters {_AT}")),
    ("resend", resend, ("otelbridge queue resend 12 13", "otelbridge queue resend --all")),
    ("discard", discard, ("otelbridge queue discard 12", "otelbridge queue discard --all")),
    ("export", export, ("otelbridge queue export > held.jsonl", "otelbridge queue export --part dead-letters")),
    ("replay", replay, REPLAY_EXAMPLES),
)
