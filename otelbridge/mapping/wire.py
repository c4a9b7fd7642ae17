"""Encodes OTLP's protobuf: attributes, LogRecords, and the ExportLogsServiceRequest that they travel in.

Field numbers are those of opentelemetry-proto 1.x, whose stability they share. Whoever wants to know what the bytes say
parses them with `opentelemetry.proto`; the tests do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from struct import Struct
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from otelbridge import clamp
from otelbridge.event import Stream
from otelbridge.protobuf import MAX_VARINT_BYTES, TWO_DIGITS, TWO_DIGITS_END, delimited, varint

try:
    from otelbridge.mapping import fastpath_wire
except ImportError:  # it was installed where there is no C compiler
    fastpath_wire = None  # type: ignore[assignment]

Value: TypeAlias = "str | int | float | bool | bytes | Sequence[Value] | Mapping[str, Value]"
"""What an attribute or a body can hold."""
Attribute: TypeAlias = tuple[str, Value]

RESOURCE_ATTRIBUTE = b"\x0a"  # Resource.attributes = 1
RECORD_ATTRIBUTE = b"\x32"  # LogRecord.attributes = 6
BODY = b"\x2a"  # LogRecord.body = 5
SEVERITY_NUMBER = b"\x10"  # LogRecord.severity_number = 2
SEVERITY_TEXT = b"\x1a"  # LogRecord.severity_text = 3
DROPPED_ATTRIBUTES_COUNT = b"\x38"  # LogRecord.dropped_attributes_count = 7
EVENT_NAME = b"\x62"  # LogRecord.event_name = 12

INSTANCE_KEY = "otelbridge.instance"
MAX_INSTANCE_BYTES = 256
SCOPE_NAME = "otelbridge.kubearmor"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

MAX_DEPTH = (
    4  # of nested arrays and maps; what is deeper is written as text: parsers downstream have limits of their own
)
_DOUBLE = Struct("<d").pack
MAX_UTF8_BYTES = 4  # of a character
UINT64 = (1 << 64) - 1
KEPT_SIZES = 512  # of one key
KEPT_TEXTS, SHORT_TEXT_CHARS = 2048, 120  # namespaces, images and labels come back with each pod


def any_value(value: Value, depth: int = MAX_DEPTH) -> bytes:  # noqa: PLR0911  # one return per type
    """The content of an AnyValue."""
    match value:
        case str():
            return delimited(b"\x0a", value.encode())
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case int():
            return b"\x18" + varint(value & UINT64)
        case float():
            return b"\x21" + _DOUBLE(value)
        case bytes():
            return delimited(b"\x3a", value)
        case _ if depth == 0:
            return any_value(str(value))
        case Mapping():
            pairs = (delimited(b"\x0a", key_value(key, inner, depth - 1)) for key, inner in value.items())
            return delimited(b"\x32", b"".join(pairs))
        case _:
            return delimited(b"\x2a", b"".join(delimited(b"\x0a", any_value(inner, depth - 1)) for inner in value))


def key_value(key: str, value: Value, depth: int = MAX_DEPTH) -> bytes:
    """The content of a KeyValue."""
    return delimited(b"\x0a", key.encode()) + delimited(b"\x12", any_value(value, depth))


def clip(text: str, limit_bytes: int) -> str:
    """The longest beginning of the text that fits into so many bytes of UTF-8."""
    limit = max(0, limit_bytes)
    raw = text[: limit + 1].encode()  # of a text of some MiB no more is copied
    return text if len(raw) <= limit else raw[:limit].decode(errors="ignore")


def one_line(text: str) -> str:
    r"""The text with whatever could break a line, move a cursor or hide text written out: `\n`, `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def head(tag: bytes, key: str, size: int) -> bytes:
    """Everything of an attribute with a text value that stands before the text, whose length in bytes is given."""
    inner = b"\x0a" + varint(size)
    name = delimited(b"\x0a", key.encode())
    value = b"\x12" + varint(len(inner) + size) + inner
    return tag + varint(len(name) + len(value) + size) + name + value


H = TypeVar("H")


class Heads(Generic[H]):
    """What stands before a text of so many bytes; made when first asked for, and kept: lengths come back.

    `recall(size) or learn(size)` is how to ask: an index of a dictionary's subclass takes three times as long.
    """

    __slots__ = ("_kept", "_make", "recall")

    def __init__(self, make: Callable[[int], H]) -> None:
        self._make = make
        self._kept: dict[int, H] = {}
        self.recall: Callable[[int], H | None] = self._kept.get

    def learn(self, size: int) -> H:
        """What `recall` does not know."""
        if len(self._kept) >= KEPT_SIZES:
            self._kept.clear()
        made = self._kept[size] = self._make(size)
        return made


def text_heads(key: str, tag: bytes = RECORD_ATTRIBUTE) -> Heads[bytes]:
    """What stands before the text of an attribute: for one whose text is new with every event, a table look-up."""
    return Heads(lambda size: head(tag, key, size))


def body_heads() -> Heads[bytes]:
    """What stands before a record's body, given as text in UTF-8."""
    return Heads(_body_head)


def _body_head(size: int) -> bytes:
    inner = b"\x0a" + varint(size)
    return BODY + varint(len(inner) + size) + inner


def int_heads(key: str) -> list[bytes]:
    """What stands before the varint of an attribute with an integer value, by the varint's length."""
    name = delimited(b"\x0a", key.encode())
    return [
        RECORD_ATTRIBUTE + varint(len(name) + 3 + digits) + name + b"\x12" + varint(1 + digits) + b"\x18"
        for digits in range(MAX_VARINT_BYTES + 1)
    ]


def attributes(tag: bytes, pairs: Iterable[Attribute], limit_bytes: int, cut: list[str]) -> bytes:
    """Encoded attributes. Empty values are left out; what is over the limit is clipped, its key appended to `cut`."""
    parts = []
    for key, value in pairs:
        if value.__class__ is str:
            if value:
                parts.append(_text_attribute(tag, key, value, limit_bytes, cut))
        elif value or isinstance(value, int | float):
            short = _clipped(value, limit_bytes)
            if short != value:
                cut.append(key)
                if not short:
                    continue
            parts.append(delimited(tag, key_value(key, short)))
    return b"".join(parts)


def attributes_encoder(*, native: bool) -> Callable[[bytes, Iterable[Attribute], int, list[str]], bytes]:
    """`attributes`, compiled where it is and is asked for; the bytes are the same."""
    return partial(fastpath_wire.attributes, other=attributes) if native and fastpath_wire is not None else attributes


def _text_attribute(tag: bytes, key: str, text: str, limit_bytes: int, cut: list[str]) -> bytes:
    if len(text) + len(key) < SHORT_TEXT_CHARS <= limit_bytes // MAX_UTF8_BYTES:
        return _short_text(tag, key, text)
    raw = text[: limit_bytes + 1].encode()
    if len(raw) > limit_bytes:
        cut.append(key)
        raw = clip(text, limit_bytes).encode()
    return head(tag, key, len(raw)) + raw


@lru_cache(maxsize=KEPT_TEXTS)
def _short_text(tag: bytes, key: str, text: str) -> bytes:
    raw = text.encode()
    return head(tag, key, len(raw)) + raw


def _clipped(value: Value, limit_bytes: int) -> Value:
    match value:
        case str():
            return clip(value, limit_bytes)
        case bytes():
            return value[:limit_bytes]
        case list() | tuple():
            kept: list[Value] = []
            room = limit_bytes
            for item in value:
                short = _clipped(item, room)
                room -= len(str(short))
                if short == item and room >= 0:
                    kept.append(short)
                    continue
                if short and not kept:  # the beginning of the only one is more than nothing
                    kept.append(short)
                return kept
            return value
        case _:
            return value


MAX_RARE_BYTES = 64 << 10  # of a value that may be longer than others: the original event, a list of keys
_TIMES = Struct("<BQBQ").pack  # LogRecord.time_unix_nano and .observed_time_unix_nano, each after its tag
_OBSERVED = Struct("<BQ").pack
_TIME_TAG, _OBSERVED_TAG = 0x09, 0x59


def times(unix_nano: int, observed_unix_nano: int) -> bytes:
    """LogRecord.time_unix_nano, unless it is unknown, and .observed_time_unix_nano."""
    if not 0 < observed_unix_nano <= clamp.MAX_UNIX_NANO:
        observed_unix_nano = clamp.unix_nano(observed_unix_nano)
    if unix_nano:
        return _TIMES(_TIME_TAG, unix_nano, _OBSERVED_TAG, observed_unix_nano)
    return _OBSERVED(_OBSERVED_TAG, observed_unix_nano)


_RANGES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_NUMBERS_PER_RANGE = 4


def severity_text(number: int) -> str:
    """OpenTelemetry's short name: 9 is INFO, 10 INFO2, 13 WARN."""
    kind, rank = divmod(number - 1, _NUMBERS_PER_RANGE)
    return _RANGES[kind] + (str(rank + 1) if rank else "")


def record_head(severity_number: int, event_name: str) -> bytes:
    """The fields of a LogRecord that say what kind of record it is."""
    return (
        SEVERITY_NUMBER
        + varint(severity_number)
        + delimited(SEVERITY_TEXT, severity_text(severity_number).encode())
        + delimited(EVENT_NAME, event_name.encode())
    )


def tail(cut: list[str], dropped: int) -> bytes:
    """Encodes `kubearmor.truncated` and the count of attributes left out, and clears the list."""
    encoded = DROPPED_ATTRIBUTES_COUNT + varint(dropped) if dropped else b""
    if cut:
        names = sorted(set(cut))
        cut.clear()
        encoded += attributes(RECORD_ATTRIBUTE, [("kubearmor.truncated", names)], MAX_RARE_BYTES, [])
    return encoded


def log_record(
    *,
    unix_nano: int,
    observed_unix_nano: int,
    severity_number: int,
    event_name: str,
    body: Value,
    pairs: Sequence[Attribute],
    limit_bytes: int,
    cut: list[str],
    dropped: int = 0,
) -> bytes:
    """An encoded LogRecord. Keys of clipped values are added to those in `cut`, reported, and taken out."""
    parts = [
        times(unix_nano, observed_unix_nano),
        record_head(severity_number, event_name),
        delimited(BODY, any_value(body)),
        attributes(RECORD_ATTRIBUTE, pairs, limit_bytes, cut),
        tail(cut, dropped),
    ]
    return b"".join(parts)


class Record(NamedTuple):
    """One log record, ready to be put into a request."""

    stream: Stream
    resource: bytes
    """Encoded Resource. Equal resources are the same object."""
    encoded: bytes
    """Encoded LogRecord."""
    time_unix_nano: int
    """When it happened, 0 where the event does not tell."""


def assembler(version: str, *, instance: str = "", native: bool = True) -> Callable[[list[Record]], bytes]:
    """What makes one encoded ExportLogsServiceRequest of some records; the bytes are the same, compiled or not.

    The scope has the bridge's version, and its instance as the attribute `otelbridge.instance`.
    """
    scope = delimited(b"\x0a", SCOPE_NAME.encode()) + delimited(b"\x12", version.encode())
    scope += attributes(
        b"\x1a", [(INSTANCE_KEY, instance)], MAX_INSTANCE_BYTES, []
    )  # InstrumentationScope.attributes = 3
    schema = delimited(b"\x1a", SCHEMA_URL.encode())  # the same field in ScopeLogs and ResourceLogs
    make = fastpath_wire.assemble if native and fastpath_wire is not None else assemble
    return partial(make, scope=delimited(b"\x0a", scope), schema=schema)


def assemble(records: list[Record], scope: bytes, schema: bytes) -> bytes:
    """One request: a ResourceLogs per resource, with one scope each; `scope` and `schema` are encoded fields.

    In the order of the resources, so that those of a namespace are neighbours, which saves a fifth once compressed.
    """
    groups: dict[bytes, list[bytes]] = {}
    digits = TWO_DIGITS
    for _, resource, encoded, _ in records:
        group = groups.get(resource)
        if group is None:
            group = groups[resource] = [scope]
        size = len(encoded)
        group += (b"\x12", digits[size] if size < TWO_DIGITS_END else varint(size), encoded)
    parts: list[bytes] = []
    for resource, group in sorted(groups.items()):
        group.append(schema)
        scope_logs = b"".join(group)
        resource_part = delimited(b"\x0a", resource)
        scope_head = b"\x12" + varint(len(scope_logs))
        size = len(resource_part) + len(scope_head) + len(scope_logs) + len(schema)
        parts += (b"\x0a", varint(size), resource_part, scope_head, scope_logs, schema)
    return b"".join(parts)
