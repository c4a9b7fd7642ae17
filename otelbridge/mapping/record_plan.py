"""The plan of an alert's or a log's record, as data: what it is made of, in which order, and what identifies the event.

Both encoders read it: `record_encoder.py`, the reference, and `fastpath.pyx`, the compiled one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

ORDER = (
    "times", "head", "workload", "rule", "process", "detail", "resource", "source", "numbers", "session", "uid", "body",
    "rest",
)  # fmt: skip
"""The parts of an encoded LogRecord, in their order. `session` and `rest` are those of unusual events only."""

NUMBER_KEYS: Mapping[str, str] = {
    "HostPID": "process.pid",
    "HostPPID": "process.parent_pid",
    "PID": "process.vpid",
    "PPID": "kubearmor.process.parent_vpid",
    "UID": "process.real_user.id",
}
"""Field to attribute. 0 means unknown, but for the UID of a process whose HostPID is known: that is root."""

IDENTITY_GROUPS = ("workload", "rule", "process")
IDENTITY_NUMBERS = ("Timestamp", *NUMBER_KEYS)
IDENTITY_TEXTS = ("UpdatedTime", "Source", "Resource", "Data", "ExecEvent.ExecID")
"""What `log.record.uid` is a digest of: the stream, a digest of each group's fields, the event's own numbers and texts,
and then whatever is unusual about it. Always the event as it was received, whatever the settings are."""


class Role(Enum):
    """What an event's Resource is."""

    COMMAND = "command"
    """The command line that was executed; Source is then the parent."""
    FILE = "file"
    PARSED = "parsed"
    """It says something only together with Data: a peer, a direction, a capability."""
    OTHER = "other"


class Piece(Enum):
    """How much of a text an attribute holds."""

    WHOLE = "whole"
    LAST_NAME = "last name"
    """What stands behind the last slash, if anything."""


RAW_RESOURCE, RAW_DATA = "kubearmor.resource", "kubearmor.data"
RESOURCE_KEYS: Mapping[Role, tuple[tuple[str, Piece], ...]] = {
    Role.COMMAND: (("process.command_line", Piece.WHOLE), (RAW_RESOURCE, Piece.WHOLE)),
    Role.FILE: (("file.path", Piece.WHOLE), (RAW_RESOURCE, Piece.WHOLE), ("file.name", Piece.LAST_NAME)),
    Role.OTHER: ((RAW_RESOURCE, Piece.WHOLE),),
    Role.PARSED: (),
}
"""Attributes that hold the Resource. Those of a parsed one are worked out together with Data."""

SOURCE_KEY, PARENT_KEY = "process.command_line", "kubearmor.source"
"""Source is the process's own command line; where a command was executed, its parent, which is only kept where
ParentProcessName does not say the same."""
