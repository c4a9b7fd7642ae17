"""A LogRecord's parts in, its bytes out: the plain way, for records that are rare."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from otelbridge.mapping.severity import severity_text
from otelbridge.mapping.wire import (
    BODY,
    DROPPED_ATTRIBUTES_COUNT,
    EVENT_NAME,
    RECORD_ATTRIBUTE,
    SEVERITY_NUMBER,
    SEVERITY_TEXT,
    Attribute,
    Value,
    any_value,
    attributes,
    delimited,
    varint,
)

MAX_RARE_BYTES = 64 << 10  # of a value that may be longer than others: the original event, a list of keys
_TIMES = Struct("<BQBQ").pack  # LogRecord.time_unix_nano and .observed_time_unix_nano, each after its tag
_OBSERVED = Struct("<BQ").pack
_TIME_TAG, _OBSERVED_TAG = 0x09, 0x59


def times(unix_nano: int, observed_unix_nano: int) -> bytes:
    """LogRecord.time_unix_nano, unless it is unknown, and .observed_time_unix_nano."""
    if unix_nano:
        return _TIMES(_TIME_TAG, unix_nano, _OBSERVED_TAG, observed_unix_nano)
    return _OBSERVED(_OBSERVED_TAG, observed_unix_nano)


def head(severity_number: int, event_name: str) -> bytes:
    """The fields of a LogRecord that say what kind of record it is."""
    return (
        SEVERITY_NUMBER
        + varint(severity_number)
        + delimited(SEVERITY_TEXT, severity_text(severity_number).encode())
        + delimited(EVENT_NAME, event_name.encode())
    )


def tail(cut: list[str], dropped: int) -> bytes:
    """The confession: which values were cut, and how many attributes are missing. Empties `cut`."""
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
        head(severity_number, event_name),
        delimited(BODY, any_value(body)),
        attributes(RECORD_ATTRIBUTE, pairs, limit_bytes, cut),
        tail(cut, dropped),
    ]
    return b"".join(parts)
