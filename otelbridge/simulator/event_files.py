"""Reads events from the files that people have: JSON in any layout, in log lines and wrappers, gzip-compressed or not.

An event may be a line, a pretty-printed object, or an element of an array. It may stand behind the prefix of a log
line (`kubectl logs --prefix --timestamps`, containerd's and CRI-O's files), in the `log` of a docker or fluent-bit
record, or in the `_source` of an Elasticsearch hit. What is read is bounded by the size of one JSON value.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from otelbridge.simulator.events import EventJsonError, ParsedEvent, event_from_document, event_from_json

SAMPLES = ("alerts", "logs", "constructed", "odd")
"""Recorded from public documents, built by hand after KubeArmor's code, and broken values seen in the wild."""

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_VALUE_BYTES = 256 * 1024 * 1024
"""Of one JSON value; an array of events counts as one."""

WRAPPERS = ("hits", "_source", "log_processed", "log", "message")
"""Keys that an event stands under: an Elasticsearch answer and hit, fluent-bit's parsed log, docker's line, others'."""

_OPENING = (b"{", b"[")
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]')
"""A whole string, or a bracket outside of one. JSON's strings never go over a line's end."""
_PREFIX = re.compile(rb"^(?:\[pod/[^\]]+\] )?(?:\d{4}-\d\d-\d\dT\S+ )?(?:std(?:out|err) [FP] )?(?=[{\[])")
"""What `kubectl logs` and the container runtimes write before a line of a container."""


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

    Args:
        lines: of any JSON, with their line ends; see the module.
        name: what the lines come from, for `place`.
    """
    for number, value in _values(lines):
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
    """The lines of a stream, decompressed where it begins as gzip does.

    Raises:
        OSError: damaged gzip.
    """
    stream = cast("BinaryIO", raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("Any", raw)))
    if cast("io.BufferedReader", stream).peek(len(GZIP_MAGIC))[: len(GZIP_MAGIC)] != GZIP_MAGIC:
        yield from stream
        return
    try:
        yield from gzip.GzipFile(fileobj=stream)
    except (EOFError, zlib.error) as error:
        raise OSError(f"damaged gzip: {error}") from error


def sample_events(names: Iterable[str] = SAMPLES) -> Iterator[ParsedEvent]:
    """The events that come with the package."""
    folder = resources.files("otelbridge.simulator") / "samples"
    for name in names:
        lines = (folder / f"{name}.jsonl").read_bytes().splitlines()
        yield from (event_from_json(line) for line in lines)


def _values(lines: Iterable[bytes]) -> Iterator[tuple[int, object]]:
    """Each JSON value of the text with the line it begins on; an `EventJsonError` in place of what is none."""
    gathered: list[bytes] = []
    begun = depth = size = 0
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        text = _PREFIX.sub(b"", text.strip() if not gathered else text.rstrip(), count=1)
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
        if depth > 0 and text[:1] and size <= MAX_VALUE_BYTES and gathered[0][:1] in (b"{", b"["):
            continue
        yield begun, _parsed(b"\n".join(gathered))
        gathered, depth, size = [], 0, 0
    if gathered:
        yield begun, _parsed(b"\n".join(gathered))


def _depth(text: bytes) -> int:
    """Brackets opened less brackets closed."""
    found = [token for token in _STRUCTURE.findall(text) if len(token) == 1]
    return sum(1 if token in _OPENING else -1 for token in found)


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return EventJsonError(f"not JSON: {error}")


def _unwrapped(value: Any) -> Iterator[object]:
    """The documents in a value: an array's elements, the insides of docker's, fluent-bit's, Elasticsearch's records."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(reversed(one))
            continue
        inner = _inside(one) if isinstance(one, dict) else None
        if inner is None:
            yield one
        else:
            waiting.append(inner)


def _inside(record: dict[str, Any]) -> dict[str, Any] | list[Any] | None:
    """What a log record carries as an object, or as the JSON text of one; None where it carries nothing."""
    for key in WRAPPERS:
        inner = record.get(key)
        if isinstance(inner, str) and inner.lstrip().startswith(("{", "[")):
            inner = _parsed(inner.encode("utf-8", "surrogatepass"))
        if isinstance(inner, dict | list):
            return inner
    return None
