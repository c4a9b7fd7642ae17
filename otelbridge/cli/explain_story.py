"""One event and the record it became go in; where each field went, and why, comes out.

The mapping's table says where a field can go. It went there if the record would be another one there without the field,
or with another value in it: both are tried out, so the story cannot differ from the mapping.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from otelbridge.event import Stream
from otelbridge.gate.rules import Verdict
from otelbridge.mapping.decode import Event, as_map
from otelbridge.mapping.fields import FIELDS, MESSAGE_FIELDS, Field

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
    """The story of an event.

    Args:
        place: where it was read, `file:line`.
        stream: which message it is.
        message: the event, redacted where the gate does that.
        verdict: the gate's.
        to_document: the mapping, tried out on the message and on copies that lack a field.
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
