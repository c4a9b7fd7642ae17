"""Encoded event in, message out, whatever it takes: an event that does not parse is still evidence.

Three ways, each for what the one before cannot take: the generated class (`strict`); a shadow of it whose texts are
bytes, for invalid UTF-8, which KubeArmor copies out of command lines and socket paths (`lenient`); and the bytes as
they are (`raw`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from otelbridge.event import Stream
from otelbridge.mapping.lenient import parse_leniently, strip_nul
from otelbridge.mapping.wire import Value
from otelbridge.pb import kubearmor_pb2 as pb

Event: TypeAlias = "pb.Alert | pb.Log | pb.Message"

_KINDS: Mapping[Stream, type[Event]] = {Stream.ALERTS: pb.Alert, Stream.LOGS: pb.Log, Stream.MESSAGES: pb.Message}
_LOGS, _ALERTS = Stream.LOGS, Stream.ALERTS
# Bound once: to look a method up on a message's class costs as much as the parse.
_parse_alert, _parse_log, _parse_message = pb.Alert.FromString, pb.Log.FromString, pb.Message.FromString
_GROUP_START = 3  # the wire type of groups, which no KubeArmor ever used


class Decoded(NamedTuple):
    """An event that can be mapped."""

    message: Event
    how: str
    """`strict`, `lenient` or `raw`."""
    why: str
    """What the stricter ways complained about; empty for `strict`."""
    unknown: Mapping[int, list[Value]]
    """Values of fields that this bridge's KubeArmor does not have yet, by field number."""
    sanitized: bool = False
    """Zero bytes were taken out of texts."""
    body: bytes = b""
    """The bytes, where they are all that there is (`raw`)."""


_NOTHING_UNKNOWN: Mapping[int, list[Value]] = {}


def decode(stream: Stream, body: bytes) -> Decoded:
    """Decodes one event of a stream; never raises."""
    if stream is _LOGS:
        parse: Callable[[bytes], Event] = _parse_log
    elif stream is _ALERTS:
        parse = _parse_alert
    else:
        parse = _parse_message
    try:
        message = parse(body)
    except DecodeError as error:
        return _leniently(stream, body, str(error))
    unknown = _NOTHING_UNKNOWN
    if len(UnknownFieldSet(message)):
        unknown = _unknown(message)
    # A zero byte of the encoded event is one of a text, or the length of something empty: only then look closer.
    sanitized = b"\0" in body and strip_nul(message)
    return tuple.__new__(
        Decoded, (message, "strict", "", unknown, sanitized, b"")
    )  # a named tuple's own way takes 1 µs


def _leniently(stream: Stream, body: bytes, why: str) -> Decoded:
    kind = _KINDS.get(stream, pb.Message)
    message = kind()
    try:
        bare = parse_leniently(message, body)
    except DecodeError as error:
        return Decoded(kind(), "raw", str(error), _NOTHING_UNKNOWN, body=body)
    return Decoded(message, "lenient", why, _unknown(bare), strip_nul(message))


def _unknown(message: Message) -> dict[int, list[Value]]:
    fields: dict[int, list[Value]] = {}
    for field in UnknownFieldSet(message):  # type: ignore[attr-defined]  # the stubs lack __iter__
        fields.setdefault(field.field_number, []).append(_value(field.wire_type, field.data))
    return fields


def _value(wire_type: int, data: Any) -> Value:
    if wire_type == _GROUP_START:
        # A set of unknown fields again; its own text is an address in memory.
        return str([(field.field_number, _value(field.wire_type, field.data)) for field in data])
    if isinstance(data, bytes):
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data
    assert isinstance(data, int)
    return data
