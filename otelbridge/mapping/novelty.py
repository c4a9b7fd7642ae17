"""What is new with every event, encoded anew: what was touched, the command line, process ids, the exec session."""

from __future__ import annotations

from otelbridge.mapping.detail import Role
from otelbridge.mapping.session import low_half
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import RECORD_ATTRIBUTE, attributes, int_heads, text_attribute, text_heads, varint

_UINT64 = (1 << 64) - 1


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
        self._host_pid, self._host_ppid = int_heads("process.pid"), int_heads("process.parent_pid")
        self._pid, self._ppid = int_heads("process.vpid"), int_heads("kubearmor.process.parent_vpid")
        self._user_id = int_heads("process.real_user.id")
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
        host_pid, host_ppid, pid, ppid, user_id = numbers
        encoded = b""
        if host_pid:
            digits = varint(host_pid & _UINT64)
            encoded = self._host_pid[len(digits)] + digits
            if not user_id:
                encoded += self._root
        if host_ppid:
            digits = varint(host_ppid & _UINT64)
            encoded += self._host_ppid[len(digits)] + digits
        if pid:
            digits = varint(pid & _UINT64)
            encoded += self._pid[len(digits)] + digits
        if ppid:
            digits = varint(ppid & _UINT64)
            encoded += self._ppid[len(digits)] + digits
        if user_id:
            digits = varint(user_id & _UINT64)
            encoded += self._user_id[len(digits)] + digits
        return encoded

    def session(self, exec_id: str) -> bytes:
        """The exec session that the process belongs to."""
        low = low_half(exec_id)
        return self._exec_id(exec_id) + (b"" if low is None else self._session_id(f"{low:08x}"))
