"""The plan of an alert's or a log's record, as data: what it is made of, in which order, and what identifies the event.

Both encoders read it: `record_encoder.py`, the reference, and `fastpath.pyx`, the compiled one.
"""

from __future__ import annotations

from collections.abc import Mapping

ORDER = (
    "times", "head", "workload", "rule", "process", "detail", "resource", "source", "numbers", "session", "body",
    "rest", "uid",
)  # fmt: skip
"""The parts of an encoded LogRecord, in their order. `session` and `rest` are those of unusual events only; the id is
the last, so that whoever wants it need not search for it."""

NUMBER_KEYS: Mapping[str, str] = {
    "HostPID": "process.pid",
    "HostPPID": "process.parent_pid",
    "PID": "process.vpid",
    "PPID": "kubearmor.process.parent_vpid",
    "UID": "process.real_user.id",
}
"""Field to attribute. 0 means unknown, but for the UID of a process whose HostPID is known: that is root."""

IDENTITY_NUMBERS = ("Timestamp", *NUMBER_KEYS)
IDENTITY_TEXTS = ("UpdatedTime", "Source", "Resource", "Data", "ExecEvent.ExecID")
"""What `log.record.uid` is a digest of: the stream, a digest of each group's fields, the event's own numbers and texts,
and then whatever is unusual about it. Always the event as it was received, whatever the settings are."""


COMMAND, FILE, PARSED, OTHER = "command", "file", "parsed", "other"
"""The role that an event's Resource plays: the command line that was executed (Source is then the parent); a file; a
text that says something only together with Data: a peer, a direction, a capability; or anything else."""

RAW_RESOURCE, RAW_DATA = "kubearmor.resource", "kubearmor.data"
RESOURCE_KEYS: Mapping[str, tuple[tuple[str, bool], ...]] = {
    COMMAND: (("process.command_line", False), (RAW_RESOURCE, False)),
    FILE: (("file.path", False), (RAW_RESOURCE, False), ("file.name", True)),
    OTHER: ((RAW_RESOURCE, False),),
    PARSED: (),
}
"""By role, the attributes that hold the Resource, and whether they hold only what stands behind its last slash, if
anything. Those of a parsed one are worked out together with Data."""

SOURCE_KEY, PARENT_KEY = "process.command_line", "kubearmor.source"
"""Source is the process's own command line; where a command was executed, its parent, which is only kept where
ParentProcessName does not say the same."""
