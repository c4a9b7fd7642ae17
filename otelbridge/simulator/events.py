"""Makes KubeArmor's messages from JSON, as people have it, and stamps fresh times and sequence numbers on them.

In a file an event may be a line, a pretty-printed object, an element of an array, or stand behind another one; gzip,
bzip2, xz and UTF-16 are undone. It may stand behind the prefix of a log line (`kubectl logs --prefix --timestamps`,
containerd's and CRI-O's files, long lines in pieces), in the `log` of a docker or fluent-bit record, in the `_source`
of an Elasticsearch hit, in a List or in Loki's answer. What is read is bounded by the size of one JSON value.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2

KubeArmorMessage = kubearmor_pb2.Alert | kubearmor_pb2.Log | kubearmor_pb2.Message
T = TypeVar("T")
Make = Callable[[], KubeArmorMessage]

KIND_KEY = "_kind"
"""Says which message it is where the fields do not; it is no field itself."""
KINDS: dict[str, tuple[Stream, Make]] = {
    "alert": (Stream.ALERTS, kubearmor_pb2.Alert),
    "log": (Stream.LOGS, kubearmor_pb2.Log),
    "message": (Stream.MESSAGES, kubearmor_pb2.Message),
}
ALERT_TYPES = ("MatchedPolicy", "MatchedHostPolicy", "SystemEvent", "PolicyMatched")
"""Types of the alert stream only. MatchedNetworkPolicy does not tell: up to KubeArmor 1.7.3 logs have it too."""
INTEGER_BITS = {FieldDescriptor.TYPE_INT32: 32, FieldDescriptor.TYPE_INT64: 64}

ALERT_ONLY_KEYS = frozenset(
    field.name.lower()
    for field in kubearmor_pb2.Alert.DESCRIPTOR.fields
    if field.name not in kubearmor_pb2.Log.DESCRIPTOR.fields_by_name
)
KNOWN_KEYS = frozenset(field.name.lower() for _, make in KINDS.values() for field in make().DESCRIPTOR.fields)


class EventJsonError(ValueError):
    """The text is not an event. Its text names the key and the value."""


class ParsedEvent(NamedTuple):
    """An event that was read from JSON."""

    stream: Stream
    message: KubeArmorMessage
    unknown_keys: tuple[str, ...]
    """Keys that the message has no field for, `Owner.Nickname` for one inside an object; they were ignored."""


def event_from_json(text: str | bytes) -> ParsedEvent:
    """Reads one event.

    Raises:
        EventJsonError: No JSON, or as `event_from_document`.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EventJsonError(f"not JSON: {error}") from error
    return event_from_document(document)


def event_from_document(document: object) -> ParsedEvent:
    """Makes an event of a JSON object.

    Keys are the field names of KubeArmor's proto, in any case: KubeArmor's own log file writes them with a small first
    letter. Whole numbers may come as 1252628.0 or as "1252628", as tools leave them; null and absent are the same.

    Raises:
        EventJsonError: No object, none of KubeArmor's fields in it, or a value that its field cannot hold.
    """
    if not isinstance(document, dict):
        raise EventJsonError(f"not a JSON object but {_shown(document)}")
    fields = {key: value for key, value in document.items() if key != KIND_KEY}
    if KNOWN_KEYS.isdisjoint(key.lower() for key in fields):
        raise EventJsonError(f"none of KubeArmor's fields is in it, only {_shown(list(fields))}")
    kind = document.get(KIND_KEY) or _kind(fields)
    if not isinstance(kind, str) or kind not in KINDS:
        raise EventJsonError(f"{KIND_KEY} must be one of {', '.join(KINDS)}, not {_shown(kind)}")
    stream, make = KINDS[kind]
    message = make()
    unknown: list[str] = []
    _fill(message, fields, "", unknown)
    return ParsedEvent(stream, message, tuple(unknown))


def _kind(document: dict[str, object]) -> str:
    filled = {key.lower(): value for key, value in document.items() if value not in (None, "", 0, [], {})}
    if filled.get("type") == "Message" or "level" in filled:
        return "message"
    if filled.get("type") in ALERT_TYPES or not ALERT_ONLY_KEYS.isdisjoint(filled):
        return "alert"
    return "log"


def _fill(message: Message, document: dict[str, object], path: str, unknown: list[str]) -> None:
    by_lower_name = {field.name.lower(): field for field in message.DESCRIPTOR.fields}
    for key, value in document.items():
        field = by_lower_name.get(key.lower())
        at = path + key
        if field is None:
            unknown.append(at)
        elif value is None:
            continue
        elif field.message_type is None and field.is_repeated:
            getattr(message, field.name).extend(_text(item, at) for item in _as(list, value, at))
        elif field.message_type is None:
            bits = INTEGER_BITS.get(field.type)
            setattr(message, field.name, _integer(value, bits, at) if bits else _text(value, at))
        elif field.message_type.GetOptions().map_entry:
            for name, item in _as(dict, value, at).items():
                getattr(message, field.name)[_text(name, at)] = _text(item, f"{at}.{name}")
        else:
            part = getattr(message, field.name)
            part.SetInParent()
            _fill(part, _as(dict, value, at), f"{at}.", unknown)


def _integer(value: object, bits: int, path: str) -> int:
    problem = EventJsonError(f"{path} must be a whole number of {bits} bits, not {_shown(value)}")
    number = value
    if isinstance(value, str):
        try:
            number = int(value) if value.lstrip("-").isdecimal() else float(value)
        except ValueError:
            raise problem from None
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise problem
    return number


def _text(value: object, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise EventJsonError(f"{path} must be a text, not {_shown(value)}")
    # JSON can spell a lone surrogate, protobuf cannot: it becomes U+FFFD as any invalid text does on the way.
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _as(kind: type[T], value: object, path: str) -> T:
    if isinstance(value, kind):
        return value
    raise EventJsonError(f"{path} must be {'an object' if kind is dict else 'a list'}, not {_shown(value)}")


def _shown(value: object) -> str:
    most = 60
    text = json.dumps(value)
    return text if len(text) <= most else text[: most - 3] + "..."


SEQUENCE = re.compile(rb"seq=(\d+);")
"""Finds the number in an encoded event or record; closed by `;` because the byte behind a text may be a digit too."""
NANOS_PER_SECOND = 1_000_000_000
NANOS_PER_MICROSECOND = 1_000


def stamp_time(message: KubeArmorMessage, unix_nano: int) -> None:
    """Sets both of the event's times, as KubeArmor writes them: whole seconds, and UTC text with six digits."""
    seconds, rest = divmod(unix_nano, NANOS_PER_SECOND)
    message.Timestamp = seconds
    whole = datetime.fromtimestamp(seconds, UTC)
    message.UpdatedTime = f"{whole:%Y-%m-%dT%H:%M:%S}.{rest // NANOS_PER_MICROSECOND:06}Z"


def stamp_sequence(message: KubeArmorMessage, number: int) -> None:
    """Hides `seq=number;` at the end of Data (a Message has none: of its text)."""
    mark = f"seq={number};"
    if isinstance(message, kubearmor_pb2.Message):
        message.Message = f"{message.Message} {mark}".lstrip()
    else:
        message.Data = f"{message.Data} {mark}".lstrip()


def sequences_in(encoded: bytes) -> list[int]:
    """All sequence numbers in some bytes: an event, an export request, a file."""
    return [int(number) for number in SEQUENCE.findall(encoded)]


SAMPLES = ("alerts", "logs", "constructed", "odd")
"""Recorded from public documents, built by hand after KubeArmor's code, and broken values seen in the wild."""

MAX_VALUE_BYTES = 256 * 1024 * 1024
"""Of one JSON value; an array of events counts as one."""

DECOMPRESSED: Mapping[bytes, tuple[str, Callable[[BinaryIO], io.BufferedIOBase]]] = {
    b"\x1f\x8b": ("gzip", lambda stream: gzip.GzipFile(fileobj=stream)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
}
"""What begins with these bytes is decompressed."""
FOREIGN = {b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
"""What begins with these cannot be."""
ENCODINGS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),  # what PowerShell's `>` writes
    (b"\xfe\xff", "utf-16"),
    (b"{\x00", "utf-16-le"),
    (b"\x00{", "utf-16-be"),
)
"""Texts that begin so are in these encodings; all others are UTF-8."""
HEAD_BYTES = 6

WRAPPERS = ("hits", "_source", "log_processed", "log", "message", "line", "items", "data", "result", "values")
"""Keys that an event stands under: an Elasticsearch answer and hit, fluent-bit's parsed log, docker's line, others',
logcli's, a List of Kubernetes, Loki's answer."""
BULK_ACTIONS = ({"index"}, {"create"})
"""The keys of the lines between the documents of an Elasticsearch bulk request."""

KARMOR_HEAD = "== "
KARMOR_HINT = "it is text of karmor for people; `karmor logs --json` prints events"

_OPENING = (b"{", b"[")
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]')
"""A whole string, or a bracket outside of one. JSON's strings never go over a line's end."""
_POD = rb"^(?:\[pod/[^\]]+\] )?"
_PREFIX = re.compile(_POD + rb"(?:\d{4}-\d\d-\d\dT\S+ )?(?=[{\[])")
"""What `kubectl logs` writes before a line of a container."""
_CRI = re.compile(
    _POD + rb"\d{4}-\d\d-\d\dT\S+ (?P<stream>stdout|stderr) (?P<tag>[FP])(?::\S*)? (?P<text>.*)", re.DOTALL
)
"""A line of a container runtime's file: F ends what lines with P began."""
_BETWEEN = re.compile(r"[\s,\x1e]*")
"""What may stand between two values: also a comma, and the separator of RFC 7464."""


class NotAnEvent(NamedTuple):
    """A stretch of the text that is not an event."""

    place: str
    """`file:line`, the line it begins on."""
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class FoundEvent(NamedTuple):
    """An event and where it was found."""

    place: str
    event: ParsedEvent


def read_events(lines: Iterable[bytes], name: str) -> Iterator[FoundEvent | NotAnEvent]:
    """Finds the events in a text, each as soon as its last line was read, so that it can follow a pipe.

    The lines have their line ends; `name` says what they come from, for `place`.
    """
    for number, value in _whole_logs(_values(_whole_lines(lines))):
        place = f"{name}:{number}"
        if isinstance(value, EventJsonError):
            yield NotAnEvent(place, str(value))
            continue
        for document in _unwrapped(value):
            try:
                yield FoundEvent(place, event_from_document(document))
            except EventJsonError as error:
                yield NotAnEvent(place, str(error))


def read_file(path: Path) -> Iterator[FoundEvent | NotAnEvent]:
    """Finds the events in a file.

    Raises:
        OSError: The file cannot be read, or is damaged gzip.
    """
    with path.open("rb") as raw:
        yield from read_events(opened(raw), str(path))


def opened(raw: BinaryIO) -> Iterator[bytes]:
    """The lines of a stream in UTF-8, decompressed where it begins as something compressed does.

    Raises:
        OSError: damaged, or compressed in a way that cannot be undone here.
    """
    stream: Any = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("Any", raw))
    what = "text"
    try:
        head = stream.peek(HEAD_BYTES)
        for magic, kind in FOREIGN.items():
            if head.startswith(magic):
                raise OSError(f"it is compressed with {kind}; decompress it first")
        for magic, (kind, decompress) in DECOMPRESSED.items():
            if head.startswith(magic):
                what, stream = kind, decompress(stream)
                head = stream.peek(HEAD_BYTES)
                break
        for mark, encoding in ENCODINGS:
            if head.startswith(mark):
                with io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
                    yield from (line.encode("utf-8", "surrogatepass") for line in text)
                return
        yield from stream
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise OSError(f"damaged {what}: {error}") from error
    except UnicodeDecodeError as error:
        raise OSError(f"damaged {what}: it is no {error.encoding}") from error


def sample_events(names: Iterable[str] = SAMPLES) -> Iterator[ParsedEvent]:
    """The events that come with the package."""
    folder = resources.files("otelbridge.simulator") / "samples"
    for name in names:
        lines = (folder / f"{name}.jsonl").read_bytes().splitlines()
        yield from (event_from_json(line) for line in lines)


def _whole_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, those of a container runtime whole again and without what stands before them."""
    begun: dict[bytes, tuple[int, bytes]] = {}
    for number, line in enumerate(lines, start=1):
        written = _CRI.match(line)
        if written is None:
            yield number, line
            continue
        first, before = begun.pop(written["stream"], (number, b""))
        text = before + written["text"].rstrip(b"\r\n")
        if written["tag"] == b"P" and len(text) <= MAX_VALUE_BYTES:
            begun[written["stream"]] = first, text
        else:
            yield first, text
    yield from begun.values()


def _values(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, object]]:
    """Each JSON value of the text with the line it begins on; an `EventJsonError` in place of what is none."""
    gathered: list[bytes] = []
    begun = depth = size = 0
    for number, line in lines:
        text = _PREFIX.sub(b"", line.strip() if not gathered else line.rstrip(), count=1)
        if not text.strip():
            continue
        if gathered and text.startswith(b"{") and gathered[0].startswith(b"{") and _depth(text) == 0:
            # Nothing inside an object begins with a whole object at the left edge: the one before was cut off.
            yield begun, EventJsonError("not JSON: it is cut off")
            gathered, depth, size = [], 0, 0
        if not gathered:
            begun = number
        gathered.append(text)
        depth += _depth(text)
        size += len(text)
        if depth > 0 and size <= MAX_VALUE_BYTES and gathered[0][:1] in _OPENING:
            continue
        yield from _parsed(b"\n".join(gathered), begun)
        gathered, depth, size = [], 0, 0
    if gathered:
        yield from _parsed(b"\n".join(gathered), begun)


def _depth(text: bytes) -> int:
    """Brackets opened less brackets closed."""
    found = [token for token in _STRUCTURE.findall(text) if len(token) == 1]
    return sum(1 if token in _OPENING else -1 for token in found)


def _parsed(encoded: bytes, first_line: int = 1) -> Iterator[tuple[int, object]]:
    """The values that stand one behind the other, with their lines."""
    try:
        text = encoded.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        yield first_line, EventJsonError("not JSON: it is no text in UTF-8")
        return
    decoder = json.JSONDecoder()
    position = 0
    while (position := cast("re.Match[str]", _BETWEEN.match(text, position)).end()) < len(text):
        line = first_line + text.count("\n", 0, position)
        try:
            value, position = decoder.raw_decode(text, position)
        except RecursionError:
            yield line, EventJsonError("not JSON that could be an event: it is nested too deeply")
            return
        except ValueError as error:
            why = KARMOR_HINT if text.startswith(KARMOR_HEAD) else str(error)
            yield line, EventJsonError(f"not JSON: {why}")
            return
        yield line, value


def _whole_logs(values: Iterable[tuple[int, object]]) -> Iterator[tuple[int, object]]:
    """Docker's records, whose lines it has cut into pieces of 16 KiB, whole again; all others as they are."""
    begun: dict[str, tuple[int, str]] = {}
    for number, value in values:
        record: dict[str, Any] = value if isinstance(value, dict) else {}
        log, stream = record.get("log"), record.get("stream")
        if not isinstance(log, str) or not isinstance(stream, str):
            yield number, value
            continue
        first, before = begun.pop(stream, (number, ""))
        text = before + log
        if text.lstrip().startswith(("{", "[")) and not text.endswith("\n") and not _complete(text):
            begun[stream] = first, text
        else:
            yield first, {**record, "log": text}
    yield from ((first, EventJsonError("not JSON: it is cut off")) for first, _ in begun.values())


def _complete(text: str) -> bool:
    return len(text) > MAX_VALUE_BYTES or _depth(text.encode("utf-8", "surrogatepass")) <= 0


def _unwrapped(value: Any) -> Iterator[object]:
    """The documents in a value: an array's elements, the insides of docker's, fluent-bit's, Elasticsearch's records."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(reversed(one))
            continue
        inner = _inside(one) if isinstance(one, dict) else None
        if inner is not None:
            waiting.append(inner)
        elif not (isinstance(one, dict) and set(one) in BULK_ACTIONS):
            yield one


def _inside(record: dict[str, Any]) -> list[Any] | dict[str, Any] | None:
    """What a log record carries as an object, or as the JSON text of one; None where it carries nothing."""
    for key in WRAPPERS:
        inner = record.get(key)
        if key == "values" and isinstance(inner, list):
            inner = [_from_text(pair[1]) if isinstance(pair, list) and len(pair) > 1 else pair for pair in inner]
        inner = _from_text(inner)
        if isinstance(inner, dict | list):
            return inner
    return None


def _from_text(value: Any) -> Any:
    """What stands in a text that looks like JSON; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    found = [inner for _, inner in _parsed(value.encode("utf-8", "surrogatepass"))]
    return found[0] if len(found) == 1 else found
