from collections.abc import Callable, Iterable
from typing import Any

from otelbridge.event import Stream
from otelbridge.mapping.wire import Record

def attributes(
    tag: bytes, pairs: Iterable[tuple[str, Any]], limit_bytes: int, cut: list[str], other: Callable[..., bytes]
) -> bytes: ...
def assemble(records: list[Record], scope: bytes, schema: bytes) -> bytes: ...
def span_event(unix_nano: int, act: bytes, uid_head: bytes, encoded: bytes, touched: bytes) -> bytes: ...
def record(record_class: type[Record], stream: Stream, resource: bytes, encoded: bytes, unix_nano: int) -> Record: ...
def in_span(record: Record, of_record: bytes, span_id: int) -> Record: ...
def span(
    of_span: bytes,
    span_id: int,
    above: int,
    start: int,
    end: int,
    named: bytes,
    keys: tuple[bytes, ...],
    pid: int,
    parent_pid: int,
    vpid: int,
    command_line: str,
    said: list[bytes],
) -> bytes: ...
