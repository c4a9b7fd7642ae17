"""The `kubectl exec` session that a process belongs to: ExecID in, its session's id and trace context out."""

from __future__ import annotations

from hashlib import sha256

from otelbridge.mapping.wire import SPAN_ID, TRACE_ID, delimited

NO_SESSION = ("", "0")
_TRACE_ID_BYTES = 16
_SPAN_ID_BYTES = 8
_LOW_32_BITS = 0xFFFF_FFFF
_MAX_DIGITS = 20  # of a uint64


def low_half(exec_id: str) -> int | None:
    """What all processes of a session share: a forked child carries its own pid in the id's high half.

    None where the text is not an id. It is in none of NO_SESSION.
    """
    if len(exec_id) > _MAX_DIGITS or not (exec_id.isascii() and exec_id.isdigit()):
        return None
    return int(exec_id) & _LOW_32_BITS


def trace_context(container: tuple[str, str, str], exec_id: str, host_pid: int) -> bytes:
    """LogRecord.trace_id and .span_id: one trace per session, one span per process.

    Args:
        container: cluster, node and container id.
        exec_id: its low half is what the session's processes share; where it is no id, there is no trace.
        host_pid: the process, 0 for unknown.
    """
    low = low_half(exec_id)
    if low is None:
        return b""
    digest = sha256("\0".join((*container, str(low))).encode()).digest()[:_TRACE_ID_BYTES]
    trace = delimited(TRACE_ID, digest)
    if host_pid <= 0:
        return trace
    return trace + delimited(SPAN_ID, host_pid.to_bytes(_SPAN_ID_BYTES, "big"))
