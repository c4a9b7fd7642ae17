from collections.abc import Callable, Iterable
from typing import Any

from otelbridge.mapping.wire import Record

def attributes(
    tag: bytes, pairs: Iterable[tuple[str, Any]], limit_bytes: int, cut: list[str], other: Callable[..., bytes]
) -> bytes: ...
def assemble(records: list[Record], scope: bytes, schema: bytes) -> bytes: ...
def span_event(unix_nano: int, act: bytes, uid_head: bytes, uid: bytes, touched: bytes) -> bytes: ...
