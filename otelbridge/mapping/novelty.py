"""What is new with every event, encoded anew: what was touched, the command line, process ids, the exec session."""

from __future__ import annotations

from otelbridge.mapping.detail import Role
from otelbridge.mapping.session import low_half
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import (
    FOUR_DIGITS_END,
    RECORD_ATTRIBUTE,
    TWO_DIGITS,
    TWO_DIGITS_END,
    TWO_MORE,
    attributes,
    int_heads,
    text_attribute,
    text_heads,
    varint,
)

_UINT64 = (1 << 64) - 1


NUMBER_KEYS = (
    "process.pid", "process.parent_pid", "process.vpid", "kubearmor.process.parent_vpid", "process.real_user.id"
)  # fmt: skip


class Novelty:
    """Encoders for the fields of the group `event`. Keys of values that had to be cut are appended to `cut`."""

    def __init__(self, settings: MappingSettings, cut: list[str]) -> None:
        limit = settings.max_value_bytes
        self._keep_raw = settings.keep_raw
        self._limit = limit
        self._path_heads, self._name_heads = text_heads("file.path"), text_heads("file.name")
        self._resource_heads = text_heads("kubearmor.resource")
        self._command_line = text_attribute("process.command_line", limit, cut)
        self._source = text_attribute("kubearmor.source", limit, cut)
        self._resource = text_attribute("kubearmor.resource", limit, cut)
        self._file_path = text_attribute("file.path", limit, cut)
        self._file_name = text_attribute("file.name", limit, cut)
        self._exec_id = text_attribute("kubearmor.exec.id", limit, cut)
        self._session_id = text_attribute("kubearmor.exec.session_id", limit, cut)
        self._number_heads = tuple(int_heads(key) for key in NUMBER_KEYS)
        self._root = attributes(RECORD_ATTRIBUTE, [("process.real_user.id", 0)], limit, [])

    def resource(self, role: Role, resource: str) -> bytes:
        """Resource by the role that it plays, and raw."""
        if not resource:
            return b""
        if role is Role.FILE:
            return self._file(resource)
        if role is Role.OTHER:
            return self._resource(resource)
        return (
            self._command_line(resource) + self._resource(resource) if self._keep_raw else self._command_line(resource)
        )

    def _file(self, path: str) -> bytes:
        """Most events are about files, so their path is encoded once for all three attributes."""
        raw = path.encode()
        size = len(raw)
        if size > self._limit or not self._keep_raw:
            name = path.rpartition("/")[2]
            encoded = self._file_path(path) + (self._file_name(name) if name else b"")
            return encoded + self._resource(path) if self._keep_raw else encoded
        heads, raw_heads = self._path_heads[size], self._resource_heads[size]
        name_bytes = raw.rpartition(b"/")[2]
        if not name_bytes:
            return b"".join((heads, raw, raw_heads, raw))
        return b"".join((heads, raw, raw_heads, raw, self._name_heads[len(name_bytes)], name_bytes))

    def source(self, role: Role, source: str, parent: str) -> bytes:
        """Source: the command line, but on exec events the parent, which has an attribute of its own already."""
        if not source:
            return b""
        if role is not Role.COMMAND:
            return self._command_line(source)
        return b"" if source == parent else self._source(source)

    def numbers(self, numbers: tuple[int, int, int, int, int]) -> bytes:
        """HostPID, HostPPID, PID, PPID and UID. 0 means unknown, but for the UID of a known process: that is root."""
        encoded = b""
        for heads, number in zip(self._number_heads, numbers, strict=True):
            if 0 < number < TWO_DIGITS_END:  # what `varint` does, without the call: an event has five of them
                digits = TWO_DIGITS[number]
            elif 0 < number < FOUR_DIGITS_END:
                digits = TWO_MORE[number & 0x3FFF] + TWO_DIGITS[number >> 14]
            elif number:
                digits = varint(number & _UINT64)
            else:
                continue
            encoded += heads[len(digits)] + digits
        return encoded + self._root if numbers[0] and not numbers[4] else encoded

    def session(self, exec_id: str) -> bytes:
        """The exec session that the process belongs to."""
        low = low_half(exec_id)
        return self._exec_id(exec_id) + (b"" if low is None else self._session_id(f"{low:08x}"))
