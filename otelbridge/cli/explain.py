"""`otelbridge explain [FILE]`: reads KubeArmor's events and shows how each is mapped, or the request sent for it."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from otelbridge import __version__
from otelbridge.cli.application import ConfigOption, SetOption
from otelbridge.cli.loading import load_or_exit
from otelbridge.cli.output import Exit, fail, print_json_line, say
from otelbridge.event import Stream
from otelbridge.gate.rules import Gate, Verdict
from otelbridge.mapping.decode import Event, as_map, decode
from otelbridge.mapping.fields import FIELDS, MESSAGE_FIELDS, Field
from otelbridge.mapping.mapper import Mapper
from otelbridge.send.console_sender import to_document
from otelbridge.settings.tree import Settings
from otelbridge.simulator.events import FoundEvent, NotAnEvent, opened, read_events, read_file
from otelbridge.telemetry.escape import escape

MAX_VALUE_BYTES = 64 * 1024
NESTED = frozenset(field.name.split(".")[0] for field in FIELDS if "." in field.name)
AS_ABOVE = "As above."
_VARIABLE = re.compile(r"<[^>]*>")
# Fields of the LogRecord: what the table, where they stand in bold, and what OTLP JSON call them.
_RECORD_KEYS = {
    "time_unix_nano": "timeUnixNano",
    "severity_number": "severityNumber",
    "severity_text": "severityText",
    "event_name": "eventName",
    "body": "body",
    "trace_id": "traceId",
}

ToDocument = Callable[[Event], Mapping[str, Any]]
"""The request that a message becomes, as OTLP JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldStory:
    """What became of one field of the event."""

    field: str
    value: Any
    went_to: Mapping[str, Any]
    """Attribute (or field of the LogRecord) to value; empty where the field shows in no place of its own."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What became of an event."""

    place: str
    """`file:line`."""
    kind: str
    kept: bool
    rule: str
    """The rule that decided, if one did."""
    redactions: int
    record: Mapping[str, Any]
    """Time, severity, event name and body."""
    fields: tuple[FieldStory, ...]
    made: Mapping[str, Any]
    """Attributes that no single field stands for."""


def tell(place: str, stream: Stream, message: Event, verdict: Verdict, to_document: ToDocument) -> Story:
    """Makes the story of an event that was read at `file:line`, and redacted where the gate does that.

    `to_document` maps the message, and copies of it that lack a field.
    """
    placed = _placed(to_document(message)) if verdict.keep else {}
    table = {field.name: field for field in (MESSAGE_FIELDS if stream is Stream.MESSAGES else FIELDS)}
    fields = tuple(
        FieldStory(
            field=name,
            value=value,
            went_to=_went_to(table[name], placed, message, to_document) if name in table else {},
            note=_note(table[name]) if name in table else "",
        )
        for name, value in _flattened(as_map(message, MAX_VALUE_BYTES))
    )
    told = {key for one in fields for key in one.went_to} | set(_RECORD_KEYS.values())
    return Story(
        place=place,
        kind=stream.value.removesuffix("s"),
        kept=verdict.keep,
        rule=verdict.rule,
        redactions=verdict.redactions,
        record={key: placed[key] for key in _RECORD_KEYS.values() if key in placed},
        fields=fields,
        made={key: value for key, value in placed.items() if key not in told},
    )


def _note(field: Field) -> str:
    """The table's note; on messages it refers to the alerts' lines, which nobody sees above it here."""
    if field.note != AS_ABOVE:
        return field.note
    return next(above.note for above in FIELDS if above.name == field.name)


def _placed(document: Mapping[str, Any]) -> dict[str, Any]:
    """What stands where in the one record of a request: fields of the LogRecord, attributes of it and its resource."""
    per_resource = document["resourceLogs"][0]
    found = per_resource["scopeLogs"][0]["logRecords"][0]
    record = {key: _plain(found[key]) if key == "body" else found[key] for key in _RECORD_KEYS.values() if key in found}
    return {**record, **_attributes(per_resource.get("resource", {})), **_attributes(found)}


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _plain(pair["value"]) for pair in holder.get("attributes", ())}


def _plain(value: Mapping[str, Any]) -> Any:
    """An AnyValue of OTLP JSON as a plain value."""
    for kind, held in value.items():
        if kind == "arrayValue":
            return [_plain(item) for item in held.get("values", ())]
        if kind == "kvlistValue":
            return {pair["key"]: _plain(pair["value"]) for pair in held.get("values", ())}
        return int(held) if kind == "intValue" else held
    return None


def _went_to(field: Field, placed: Mapping[str, Any], message: Event, to_document: ToDocument) -> dict[str, Any]:
    candidates = [key for pattern in field.keys for key in _matching(pattern, placed)]
    if not candidates:
        return {}
    others = [_placed(to_document(other)) for other in _others(field.name, message)]
    return {key: placed[key] for key in candidates if any(placed[key] != other.get(key) for other in others)}


def _matching(pattern: str, placed: Mapping[str, Any]) -> Iterator[str]:
    """The keys there are that a line of the table means: `<...>` stands for a variable part, bold for the LogRecord."""
    if pattern.startswith("**"):
        pattern = _RECORD_KEYS[pattern.strip("*")]
    if "<" in pattern:
        form = re.compile(".+".join(map(re.escape, _VARIABLE.split(pattern))))
        yield from (key for key in placed if form.fullmatch(key))
    elif pattern in placed:
        yield pattern


def _others(name: str, message: Event) -> Iterator[Event]:
    """A copy that lacks a field, and one that has something else in it; `Owner.Name` is a field of a field."""
    outer, _, inner = name.partition(".")
    for change in (None, "something else", 7):
        copy = type(message)()
        copy.CopyFrom(message)  # type: ignore[arg-type]  # of its own type
        holder, last = (getattr(copy, outer), inner) if inner else (copy, outer)
        if change is None:
            holder.ClearField(last)
        elif type(change) is type(getattr(holder, last)):
            setattr(holder, last, change)
        else:
            continue
        yield copy


def _flattened(event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in event.items():
        if name in NESTED:
            yield from ((f"{name}.{part}", inner) for part, inner in value.items())
        else:
            yield name, value


EXAMPLES = (
    "otelbridge explain events.jsonl",
    "otelbridge explain - --output otlp-json < events.jsonl",
)
STDIN = Path("-")
MAX_TOLD = 20
"""Parts that are no event; more are only counted."""


class ExplainOutput(StrEnum):
    """What is printed of an event."""

    TEXT = "text"
    JSON = "json"
    OTLP_JSON = "otlp-json"


def explain(
    file: Annotated[Path, typer.Argument(help="Events as JSON, in any layout, gzip too; - is stdin.")] = STDIN,
    *,
    output: Annotated[
        ExplainOutput, typer.Option("--output", "-o", help="text, json, or otlp-json: the very request that is sent.")
    ] = ExplainOutput.TEXT,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Show where each field of an event goes, and why.

    Alerts, logs and messages are told apart by their fields. The gate and mapping settings apply. Exits with 1 if part
    of the input is not an event; the rest is explained all the same.
    """
    loaded = load_or_exit(config, sets, check_files=False, quiet=True)
    explain_event = _explainer(loaded.settings, output)
    events = bad = 0
    for found in _found_in(file):
        if isinstance(found, NotAnEvent):
            bad += 1
            if bad <= MAX_TOLD:
                say(str(found))
        else:
            explain_event(found)
            events += 1
    if bad:
        fail(f"{bad} {'part' if bad == 1 else 'parts'} of it {'was' if bad == 1 else 'were'} not an event.")
    if not events:
        fail("There is no event in it.")


def _found_in(file: Path) -> Iterator[FoundEvent | NotAnEvent]:
    """What is in the file or in stdin; one that cannot be read ends the command."""
    try:
        if file == STDIN and sys.stdin is None:
            fail("stdin cannot be read: it is closed", Exit.UNREACHABLE)
        if file == STDIN:
            yield from read_events(opened(sys.stdin.buffer), "stdin")
        else:
            yield from read_file(file)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror or error}", Exit.UNREACHABLE)


def _explainer(settings: Settings, output: ExplainOutput) -> Callable[[FoundEvent], None]:
    """A function that explains one event."""
    gate, mapper = Gate(settings.gate), Mapper(settings.mapping, version=__version__)

    def explain_event(found: FoundEvent) -> None:
        place, parsed = found
        if parsed.unknown_keys:
            say(f"{place}: KubeArmor has no field for {', '.join(parsed.unknown_keys)}; ignored.")
        decoded = decode(parsed.stream, parsed.message.SerializeToString())
        verdict = gate.judge(parsed.stream, decoded.message)
        # Received when it happened: the same line gives the same record, whenever it is explained.
        received = mapper.event_unix_nano(decoded.message) or time.time_ns()

        def document(message: Event) -> dict[str, Any]:
            record = mapper.map(parsed.stream, decoded._replace(message=message), received)
            return to_document(mapper.assemble([record]))

        if output is not ExplainOutput.OTLP_JSON:
            story = tell(place, parsed.stream, decoded.message, verdict, document)
            (print_story if output is ExplainOutput.TEXT else _print_json)(story)
        elif verdict.keep:
            print_json_line(document(decoded.message))
        else:
            say(f"{place}: dropped by the rule {verdict.rule}.")

    return explain_event


def _print_json(story: Story) -> None:
    print_json_line(asdict(story))


def print_story(story: Story) -> None:
    """A story for people."""
    print(f"{escape(story.place)}  {story.kind}")
    if not story.kept:
        print(f"  Dropped by the rule {escape(story.rule)}.\n")
        return
    if story.rule:
        print(f"  Kept by the rule {escape(story.rule)}.")
    if story.redactions:
        print(f"  {story.redactions} secrets blacked out.")
    width = max((len(one.field) for one in story.fields), default=0)
    for one in story.fields:
        print(f"  {one.field:{width}}  {_shown(one.value)}")
        for key, value in one.went_to.items():
            same = value == one.value
            print(f"  {'':{width}}    -> {escape(key)}{'' if same else ' = ' + _shown(value)}")
        if one.note:
            print(f"  {'':{width}}    {one.note}")
    print("  The record also carries")
    for key, value in {**story.record, **story.made}.items():
        print(f"    {escape(key)} = {_shown(value)}")
    print()


def _shown(value: Any) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
