"""The mapping as data: the attributes that each field of KubeArmor's messages becomes, and the plan of a record.

To map a new field is to add a line to `FIELDS`; a new key is declared in `docs/declared.py`. Keys come from here, values
from events.

A field belongs to a group. Fields of one group repeat together from event to event, so their encoded attributes are
worked out once and remembered. A field with an `as_is` kind needs no code: it is written under its first key. The others
are parsed by their group's module; their keys are listed for the documentation and for `explain`.

The plan says what an alert's or a log's record is made of, in which order, and what identifies the event. Both encoders
read it: `record_encoder.py`, the reference, and `fastpath.pyx`, the compiled one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import NamedTuple


class Group(StrEnum):
    """Which fields repeat together, and which module works out their attributes."""

    WORKLOAD = "workload"
    """Where it happened: cluster, node, pod, container."""
    RULE = "rule"
    """What KubeArmor says about it: policy, action, result."""
    PROCESS = "process"
    """Who did it: executables, terminal, hashes."""
    EVENT = "event"
    """What is new with every event: times, process ids, command lines, paths."""


ALSO_IN = {"Enforcer": Group.PROCESS}
"""A group's attributes may depend on a field of another group."""


class FieldKind(Enum):
    """How a field becomes attributes."""

    AS_IS = "as_is"
    """Its value under its first key, when it is not empty."""
    PARSED = "parsed"
    """By code."""


class Field(NamedTuple):
    """One line of the table."""

    name: str
    """The proto field, `Owner.Name` for one of a nested message."""
    group: Group
    kind: FieldKind
    keys: tuple[str, ...]
    """Where it goes: attribute keys (`<...>` stands for a variable part), or fields of the LogRecord in bold."""
    note: str


_W, _R, _P, _E = Group.WORKLOAD, Group.RULE, Group.PROCESS, Group.EVENT
_IS, _BY = FieldKind.AS_IS, FieldKind.PARSED

# fmt: off
# ruff: noqa: E501  # one line per field, however long
FIELDS: tuple[Field, ...] = (
    Field("Timestamp", _E, _BY, ("**time_unix_nano**", "kubearmor.timestamp"), "In seconds; used where UpdatedTime does not tell, kept where it tells something else."),
    Field("UpdatedTime", _E, _BY, ("**time_unix_nano**", "kubearmor.updated_time"), "With its microseconds; kept as text only where it is not a time."),
    Field("ClusterName", _W, _BY, ("k8s.cluster.name", "kubearmor.cluster.name", "kubearmor.cluster.reported"), "A configured name wins; the placeholder `default` then goes."),
    Field("HostName", _W, _BY, ("host.name", "k8s.node.name"), "The node's name too, in Kubernetes."),
    Field("NodeID", _W, _BY, ("host.id", "host.name"), "Left out when it only repeats HostName."),
    Field("NamespaceName", _W, _BY, ("k8s.namespace.name", "kubearmor.namespace"), ""),
    Field("PodName", _W, _BY, ("k8s.pod.name", "kubearmor.pod"), ""),
    Field("Owner.Ref", _W, _BY, ("k8s.<kind>.name", "kubearmor.owner.kind"), "The kind of the controller names the key."),
    Field("Owner.Name", _W, _BY, ("k8s.<kind>.name", "k8s.pod.name", "kubearmor.owner.name"), "Under its kind for the six known ones; a bare pod owns itself."),
    Field("Owner.Namespace", _W, _BY, ("k8s.namespace.name", "kubearmor.owner.namespace"), "Only where it is not the pod's own."),
    Field("ContainerName", _W, _BY, ("k8s.container.name", "container.name", "k8s.pod.uid", "k8s.pod.name", "k8s.namespace.name", "k8s.container.restart_count"), "Docker's `k8s_...` form is taken apart and kept as `container.name`."),
    Field("ContainerID", _W, _BY, ("container.id",), ""),
    Field("ContainerImage", _W, _BY, ("container.image.name", "container.image.tags", "container.image.repo_digests", "container.image.id", "oci.manifest.digest", "kubearmor.container.image"), "Split; kept raw where its parts do not say the same."),
    Field("Labels", _W, _BY, ("kubearmor.labels", "k8s.pod.label.<key>", "container.label.<key>", "service.name"), "As KubeArmor wrote them; parsed onto the resource by opt-in."),
    Field("PolicyName", _R, _BY, ("security_rule.name", "security_rule.ruleset.name", "security_rule.category"), "A policy is a set of rules."),
    Field("Severity", _R, _BY, ("kubearmor.severity", "kubearmor.severity_text", "**severity_number**", "**severity_text**"), "A number; with the outcome it gives the record's severity."),
    Field("Tags", _R, _BY, ("kubearmor.tags", "kubearmor.tags_text", "kubearmor.mitre.technique.ids"), "Used where ATags is empty; kept as text where it says something else."),
    Field("ATags", _R, _BY, ("kubearmor.tags", "kubearmor.mitre.technique.ids"), ""),
    Field("Message", _R, _BY, ("security_rule.description", "**body**"), "The policy's own words."),
    Field("Type", _R, _BY, ("kubearmor.type", "security_rule.category"), ""),
    Field("Operation", _R, _BY, ("kubearmor.operation", "**event_name**"), "In lower case."),
    Field("Action", _R, _BY, ("kubearmor.action",), "What KubeArmor meant to do; not what came of it."),
    Field("Result", _R, _BY, ("kubearmor.result", "kubearmor.outcome", "**severity_number**"), "`allowed`, `denied` or `failed`."),
    Field("Enforcer", _R, _BY, ("kubearmor.enforcer", "kubearmor.preset"), ""),
    Field("MaxAlertsPerSec", _R, _IS, ("kubearmor.throttle.max_alerts_per_second",), "On throttling alerts."),
    Field("DroppingAlertsInterval", _R, _IS, ("kubearmor.throttle.interval",), "In seconds."),
    Field("KubeArmorVersion", _R, _IS, ("kubearmor.version",), "On some records only, so not on the resource."),
    Field("ProcessName", _P, _BY, ("process.executable.path", "process.executable.name"), ""),
    Field("ParentProcessName", _P, _IS, ("kubearmor.process.parent.executable.path",), ""),
    Field("UserName", _P, _IS, ("process.real_user.name",), ""),
    Field("TTY", _P, _BY, ("kubearmor.tty", "process.interactive"), ""),
    Field("Cwd", _P, _BY, ("process.working_directory",), "Without its trailing slash; `/` says nothing on alerts of BPFLSM and the presets."),
    Field("ExecEvent.ExecutableName", _P, _IS, ("kubearmor.exec.executable_name",), "The task's name; before the exec, on exec events."),
    Field("ProcessHash", _P, _BY, ("kubearmor.hash.process",), "All zero means unknown; base64 becomes hex."),
    Field("ParentHash", _P, _BY, ("kubearmor.hash.parent",), "The same."),
    Field("ResourceHash", _P, _BY, ("kubearmor.hash.resource",), "The same."),
    Field("HashAlgo", _P, _BY, ("kubearmor.hash.algorithm",), ""),
    Field("HostPID", _E, _BY, ("process.pid",), "0 means that no process is known."),
    Field("HostPPID", _E, _BY, ("process.parent_pid",), ""),
    Field("PID", _E, _BY, ("process.vpid",), "In the container's own numbering."),
    Field("PPID", _E, _BY, ("kubearmor.process.parent_vpid",), ""),
    Field("UID", _E, _BY, ("process.real_user.id",), "Unsigned; 0 is root where a process is known."),
    Field("ExecEvent.ExecID", _E, _BY, ("kubearmor.exec.id", "kubearmor.exec.session_id"), "Not for 0; a session shares the low 32 bits."),
    Field("Source", _E, _BY, ("process.command_line", "kubearmor.source", "kubearmor.process.parent.executable.path"), "The command line; on exec events the parent."),
    Field("Resource", _E, _BY, ("kubearmor.resource", "process.command_line", "file.path", "file.name", "network.<...>", "source.<...>", "destination.<...>", "kubearmor.socket.<...>", "kubearmor.network.<...>", "kubearmor.capability", "**body**"), "What was touched: command line, path, peer."),
    Field("Data", _E, _BY, ("kubearmor.data", "kubearmor.syscall.name", "kubearmor.lsm.hook", "kubearmor.kprobe", "kubearmor.kfunc", "kubearmor.file.open_flags", "kubearmor.capability", "file.mode", "file.owner.id", "file.group.id", "network.<...>", "source.<...>", "destination.<...>", "dns.question.name", "kubearmor.dns.question.type", "kubearmor.quota.<...>", "kubearmor.device.<...>"), "How it was seen."),
    Field("EventData", _E, _BY, ("kubearmor.event_data.<name>", "kubearmor.event_data.other"), "Only what Data and Resource do not say; names that KubeArmor does not make stay together."),
)

MESSAGE_FIELDS: tuple[Field, ...] = (
    Field("Timestamp", _E, _BY, ("**time_unix_nano**", "kubearmor.timestamp"), "As above."),
    Field("UpdatedTime", _E, _BY, ("**time_unix_nano**", "kubearmor.updated_time"), "As above."),
    Field("ClusterName", _W, _BY, ("k8s.cluster.name", "kubearmor.cluster.name", "kubearmor.cluster.reported"), "As above."),
    Field("HostName", _W, _BY, ("host.name", "k8s.node.name"), "As above."),
    Field("HostIP", _W, _BY, ("host.ip",), ""),
    Field("Type", _R, _IS, ("kubearmor.type",), ""),
    Field("Level", _R, _BY, ("kubearmor.level", "**severity_number**", "**severity_text**"), ""),
    Field("Message", _E, _BY, ("**body**", "kubearmor.message"), "Kept as an attribute too where the body is not the whole of it."),
)
# fmt: on


def as_is(fields: tuple[Field, ...], group: Group) -> tuple[tuple[str, str], ...]:
    """Key and name of those of a group's fields that need no code."""
    return tuple(
        (field.keys[0], field.name) for field in fields if field.group is group and field.kind is FieldKind.AS_IS
    )


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
