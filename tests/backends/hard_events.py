"""Events that no sample shows: every field filled, names out of values, numbers out of bounds, no event at all."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor import FieldDescriptor

from otelbridge.event import Stream
from otelbridge.pb.kubearmor_pb2 import Alert, Log

OPERATIONS = ("Process", "File", "Network", "Capabilities", "Syscall", "Device", "NetworkFirewall")
HASH = "ab" * 32
TIMESTAMP, UPDATED_TIME = 1785000000, "2026-07-25T17:20:00.123456Z"
NAMES_AT_A_TIME = 20
STRANGE_SOCKETS = 100
"""So many events of one process, each with names of its own, would fill an index of 1,000 fields twice."""
UNKNOWN_FIELDS = (
    b"\xc0\x0c\x07",  # field 200, a number
    b"\xc2\x0c\x04text",  # the same field, a text
    b"\xc0\x0c\x07\xc0\x0c\x08",  # the same field, twice
)
"""Of a KubeArmor that is newer than the bridge."""


def hard_events() -> Iterator[tuple[Stream, bytes]]:
    """Each with its stream; all of them different."""
    for operation in OPERATIONS:
        yield Stream.ALERTS, everything(Alert(), operation).SerializeToString()
        yield Stream.LOGS, everything(Log(), operation).SerializeToString()
    for number in range(STRANGE_SOCKETS):
        yield Stream.LOGS, strange_socket(number).SerializeToString()
    for unknown in UNKNOWN_FIELDS:
        yield Stream.ALERTS, everything(Alert(), "File").SerializeToString() + unknown
    yield Stream.ALERTS, Alert(Timestamp=TIMESTAMP, Resource="QQ").SerializeToString().replace(b"QQ", b"\xff\xfe")
    yield Stream.ALERTS, b"\xff\xff\xff"
    for action in ("Block", "Audit (Block)"):
        passed = Alert()
        everything(passed, "File")
        passed.Action, passed.Result = action, "Passed"
        yield Stream.ALERTS, passed.SerializeToString()
    for uid in (-2, -448690528, 0, 2**31 - 1):
        log = Log(Timestamp=TIMESTAMP, UID=uid, HostPID=1, ProcessName="/bin/sudo", Type="HostLog")
        yield Stream.LOGS, log.SerializeToString()


def everything(event: Alert | Log, operation: str) -> Alert | Log:
    """The event with a value in every field that it has."""
    for field in event.DESCRIPTOR.fields:
        if field.message_type is None:
            value = 7 if field.type != FieldDescriptor.TYPE_STRING else f"some {field.name}"
            if field.is_repeated:
                getattr(event, field.name).append(value)
            else:
                setattr(event, field.name, value)
    event.Timestamp, event.UpdatedTime = TIMESTAMP, UPDATED_TIME
    event.Operation, event.HashAlgo, event.Result = operation, "sha256", "Permission denied"
    event.ProcessHash = event.ParentHash = event.ResourceHash = HASH
    event.ContainerImage, event.Labels = f"shop/web:1@sha256:{HASH}", "app=web,app.kubernetes.io/name=web"
    event.Owner.Ref, event.Owner.Name, event.Owner.Namespace = "Deployment", "web", "shop"
    event.ExecEvent.ExecID, event.ExecEvent.ExecutableName = "4294967297", "bash"
    event.Data = "syscall=SYS_CONNECT fd=3 lsm=FILE_OPEN flags=O_RDONLY mode=0644 userid=-1 group=7 device=USB"
    event.EventData.update({"syscall": "SYS_CONNECT", "fd": "3", "fd.more": "4", "": "empty", "with blank": "x"})
    return event


def strange_socket(number: int) -> Log:
    """A process connects to a Unix socket whose path looks like further fields."""
    names = [f"k{number}_{at}" for at in range(NAMES_AT_A_TIME)]
    path = "/tmp/s" + "".join(f"\n{name}={name}.value" for name in names)
    event = Log(Timestamp=TIMESTAMP, HostName="node-1", NamespaceName="shop", PodName="web-1", HostPID=7)
    event.Type, event.Operation, event.Result = "ContainerLog", "Network", "Passed"
    event.Resource, event.Data = f"sa_family=AF_UNIX sun_path={path}", "syscall=SYS_CONNECT fd=3"
    event.EventData.update({name: f"{name}.value" for name in names})
    return event
