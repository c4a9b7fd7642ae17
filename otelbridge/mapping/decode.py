"""Decodes an event, whatever its bytes are: an event that does not parse is still evidence.

Three ways, each for what the one before cannot take: the generated class (`strict`); a shadow of it whose texts are
bytes, for invalid UTF-8, which KubeArmor copies out of command lines and socket paths (`lenient`); and the bytes as
they are (`raw`). Fields that this bridge's KubeArmor does not have are found in one pass over the bytes, and nothing is
built from what is nested in them. So work and memory are linear in the event's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from otelbridge.event import STREAMS, UPSTREAM_STREAMS, Stream
from otelbridge.mapping.wire import Value, clip
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.protobuf import DELIMITED, END_GROUP, FIXED32, FIXED64, GROUP, VARINT, fields, read_varint

MAX_FIELDS = 10_000
"""Fields that are looked at, groups' own included: 5 ms. KubeArmor's events have some 50."""
_FIXED = {FIXED64: Struct("<Q"), FIXED32: Struct("<I")}
BROKEN_OFF = "it ends in the middle of a field"


class TooManyFieldsError(Exception):
    """The event has more fields than anybody would send in good faith."""


def unknown_fields(body: bytes, known: Mapping[int, int]) -> list[str]:
    """The unknown fields as `number=value`, in the order of the message.

    A value is a number, a text, or `0x` and hexadecimal digits where it is neither.

    Args:
        body: an encoded message; what protobuf could not parse is read as far as it goes.
        known: the wire types of the fields that it has a place for, by number.

    Raises:
        DecodeError: it ends in the middle of a field.
        TooManyFieldsError: it has more fields than are looked at.
    """
    found: list[str] = []
    depth = group_start = 0
    try:
        for looked_at, (number, wire_type, start, content, end) in enumerate(fields(body)):
            if looked_at == MAX_FIELDS:
                raise TooManyFieldsError(f"it has more than {MAX_FIELDS} fields")
            if wire_type == GROUP:
                group_start = group_start if depth else content
                depth += 1
            elif wire_type == END_GROUP:
                depth -= 1
                if not depth:
                    found.append(f"{number}=0x{body[group_start:start].hex()}")
            elif not depth and known.get(number) != wire_type:
                found.append(f"{number}={_shown(wire_type, body[content:end])}")
    except ValueError as error:
        raise DecodeError(BROKEN_OFF) from error
    return found


def _shown(wire_type: int, content: bytes) -> str:
    if wire_type == VARINT:
        return str(read_varint(content, 0)[0])
    if wire_type in _FIXED:
        return str(_FIXED[wire_type].unpack(content)[0])
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"0x{content.hex()}"


_STRING, _BYTES = FieldDescriptor.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_BYTES


@cache
def shadow(descriptor: Descriptor) -> type[Message]:
    """The message's class with bytes in place of text: on the wire the two are the same. Made when first needed."""
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.file.CopyToProto(file)
    del file.service[:]
    pending = list(file.message_type)
    while pending:
        kind = pending.pop()
        pending.extend(kind.nested_type)
        for field in kind.field:
            if field.type == descriptor_pb2.FieldDescriptorProto.TYPE_STRING:
                field.type = _BYTES
        if kind.options.map_entry:  # maps cannot have bytes as keys: on the wire a map is repeated entries anyway
            kind.options.map_entry = False
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(descriptor.full_name))


def parse_leniently(message: Message, body: bytes) -> None:
    r"""Fills the message; bytes that are not UTF-8 become `\xff` and so on.

    Raises:
        google.protobuf.message.DecodeError: it is not even protobuf.
    """
    bare = shadow(message.DESCRIPTOR)()
    bare.ParseFromString(body)
    _copy(bare, message)


def strip_nul(message: Message) -> bool:
    """Takes zero bytes out of all texts: protobuf allows them, several back-ends do not. True if there were any."""
    found = False
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            dirty = {key: text for key, text in value.items() if "\0" in key or "\0" in text}
            for key, text in dirty.items():
                del value[key]
                value[key.replace("\0", "")] = text.replace("\0", "")
            found |= bool(dirty)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            found |= strip_nul(value)
        elif field.type == _STRING and field.is_repeated:
            if any("\0" in text for text in value):
                value[:] = [text.replace("\0", "") for text in value]
                found = True
        elif field.type == _STRING and "\0" in value:
            setattr(message, field.name, value.replace("\0", ""))
            found = True
    return found


_ESCAPES = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}


def _text(raw: bytes) -> str:
    """As `backslashreplace` decodes, which takes three times as long for bytes that are all wrong."""
    return raw.decode(errors="surrogateescape").translate(_ESCAPES)


def _copy(bare: Message, message: Message) -> None:
    for field, value in bare.ListFields():
        target = message.DESCRIPTOR.fields_by_name[field.name]
        if target.message_type is not None and target.message_type.GetOptions().map_entry:
            entries = getattr(message, field.name)
            for entry in value:
                entries[_text(entry.key)] = _text(entry.value)
        elif target.type == FieldDescriptor.TYPE_MESSAGE:
            _copy(value, getattr(message, field.name))
        elif target.type == _STRING and target.is_repeated:
            getattr(message, field.name).extend(_text(raw) for raw in value)
        else:
            setattr(message, field.name, _text(value) if target.type == _STRING else value)


Event: TypeAlias = "pb.Alert | pb.Log | pb.Message"

KINDS: Mapping[Stream, type[Event]] = {stream: getattr(pb, STREAMS[stream].message) for stream in UPSTREAM_STREAMS}
_INTEGERS = frozenset({FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64})
_WIRE_TYPES: Mapping[type[Event], Mapping[int, int]] = {
    kind: {field.number: VARINT if field.type in _INTEGERS else DELIMITED for field in kind.DESCRIPTOR.fields}
    for kind in KINDS.values()
}
# Bound once: to look a method up on a message's class costs as much as the parse.
_PARSERS: Mapping[Stream, Callable[[bytes], Event]] = {stream: kind.FromString for stream, kind in KINDS.items()}
MAX_CHEAP_BYTES = 64 << 10
"""protobuf's own list of unknown fields takes 30 times their bytes: fine for usual events, and quick."""


class Decoded(NamedTuple):
    """An event that can be mapped."""

    message: Event
    how: str
    """`strict`, `lenient` or `raw`."""
    why: str
    """What the stricter ways complained about; empty for `strict`."""
    unknown: Sequence[str] = ()
    """Fields that this bridge's KubeArmor does not have yet, `number=value`."""
    sanitized: bool = False
    """Zero bytes were taken out of texts."""
    body: bytes = b""
    """The bytes, where they are all that there is (`raw`)."""


def decode(stream: Stream, body: bytes) -> Decoded:
    """Decodes one event of a stream; never raises."""
    unknown: Sequence[str] = ()
    is_large = len(body) > MAX_CHEAP_BYTES
    try:
        if is_large:  # before it is parsed: half a million entries of a map take a second
            unknown = unknown_fields(body, _WIRE_TYPES[KINDS[stream]])
        message = _PARSERS[stream](body)
        if not is_large and len(UnknownFieldSet(message)):
            unknown = unknown_fields(body, _WIRE_TYPES[type(message)])
    except DecodeError as error:
        return _leniently(stream, body, str(error))
    except TooManyFieldsError as error:
        return Decoded(KINDS[stream](), "raw", str(error), body=body)
    # A zero byte of the encoded event is one of a text, or the length of something empty: only then look closer.
    sanitized = 0 in body and strip_nul(message)
    return tuple.__new__(
        Decoded, (message, "strict", "", unknown, sanitized, b"")
    )  # a named tuple's own way takes 1 µs


def _leniently(stream: Stream, body: bytes, why: str) -> Decoded:
    kind = KINDS[stream]
    message = kind()
    try:
        parse_leniently(message, body)
        unknown = unknown_fields(body, _WIRE_TYPES[kind])
    except (DecodeError, TooManyFieldsError) as error:
        return Decoded(kind(), "raw", str(error), body=body)
    return Decoded(message, "lenient", why, unknown, strip_nul(message))


MAX_MAP_ENTRIES = 64


def as_map(message: Message, limit_bytes: int) -> dict[str, Value]:
    """The non-empty fields by their names in the proto; long texts are clipped, so that the whole stays valid."""
    return {field.name: _plain(field, value, limit_bytes) for field, value in message.ListFields()}


def as_json(message: Message, limit_bytes: int) -> str:
    """The same as JSON text, numbers as numbers: as KubeArmor's own tools print it."""
    return json.dumps(as_map(message, limit_bytes), ensure_ascii=False, separators=(",", ":"))


def _plain(field: FieldDescriptor, value: Any, limit_bytes: int) -> Value:
    if isinstance(value, str):
        return clip(value, limit_bytes)
    if isinstance(value, Message):
        return as_map(value, limit_bytes)
    if isinstance(value, Mapping):
        entries = sorted(value.items())[:MAX_MAP_ENTRIES]
        return {clip(key, limit_bytes): clip(text, limit_bytes) for key, text in entries}
    if field.is_repeated:
        return [clip(item, limit_bytes) for item in list(value)[:MAX_MAP_ENTRIES]]
    return int(value)
