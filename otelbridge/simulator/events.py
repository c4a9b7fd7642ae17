"""Makes KubeArmor's messages from JSON documents, and stamps fresh times and sequence numbers on them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

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
