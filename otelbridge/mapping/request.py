"""Puts records together as one encoded ExportLogsServiceRequest, grouped by resource."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.mapping.wire import TWO_DIGITS, TWO_DIGITS_END, attributes, delimited, varint

try:
    from otelbridge.mapping import fastpath_wire
except ImportError:  # it was installed where there is no C compiler
    fastpath_wire = None  # type: ignore[assignment]

INSTANCE_KEY = "otelbridge.instance"
MAX_INSTANCE_BYTES = 256
SCOPE_NAME = "otelbridge.kubearmor"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"


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
    """What makes one encoded ExportLogsServiceRequest of some records.

    Args:
        version: of the scope.
        instance: of the bridge; the scope's attribute `otelbridge.instance`.
        native: compiled, if it is; the bytes are the same.
    """
    scope = delimited(b"\x0a", SCOPE_NAME.encode()) + delimited(b"\x12", version.encode())
    scope += attributes(
        b"\x1a", [(INSTANCE_KEY, instance)], MAX_INSTANCE_BYTES, []
    )  # InstrumentationScope.attributes = 3
    schema = delimited(b"\x1a", SCHEMA_URL.encode())  # the same field in ScopeLogs and ResourceLogs
    make = fastpath_wire.assemble if native and fastpath_wire is not None else assemble
    return partial(make, scope=delimited(b"\x0a", scope), schema=schema)


def assemble(records: list[Record], scope: bytes, schema: bytes) -> bytes:
    """One request: a ResourceLogs per resource, with one scope each.

    In the order of the resources, so that those of a namespace are neighbours, which saves a fifth once compressed.

    Args:
        records: what it holds.
        scope: the encoded field ScopeLogs.scope.
        schema: the encoded field schema_url.
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
