"""The `kubectl exec` session that a process belongs to: ExecID in, attributes and trace context out."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from otelbridge.mapping.wire import SPAN_ID, TRACE_ID, Attribute, delimited

NO_SESSION = ("", "0")
_TRACE_ID_BYTES = 16
_SPAN_ID_BYTES = 8
_LOW_32_BITS = 0xFFFF_FFFF
_MAX_DIGITS = 20  # of a uint64


class Session(NamedTuple):
    """An exec session, as seen from one of its processes."""

    attributes: list[Attribute]
    low: int
    """The part of ExecID that all processes of the session share: a forked child carries its own pid in the high half."""


def session(exec_id: str) -> Session | None:
    """The session, or none where the process is in none or the id is not one."""
    if exec_id in NO_SESSION:
        return None
    if len(exec_id) > _MAX_DIGITS or not (exec_id.isascii() and exec_id.isdigit()):
        return Session([("kubearmor.exec.id", exec_id)], 0)
    low = int(exec_id) & _LOW_32_BITS
    return Session([("kubearmor.exec.id", exec_id), ("kubearmor.exec.session_id", f"{low:08x}")], low)


def trace_context(container: tuple[str, str, str], low: int, host_pid: int) -> bytes:
    """LogRecord.trace_id and .span_id: one trace per session, one span per process.

    Args:
        container: cluster, node and container id.
        low: what the session's processes share.
        host_pid: the process, 0 for unknown.
    """
    digest = sha256("\0".join((*container, str(low))).encode()).digest()[:_TRACE_ID_BYTES]
    trace = delimited(TRACE_ID, digest)
    if host_pid <= 0:
        return trace
    return trace + delimited(SPAN_ID, host_pid.to_bytes(_SPAN_ID_BYTES, "big"))
