"""The table of the mapping: every field of KubeArmor's messages and every attribute that they become, once.

To map a new field is to add a line to `FIELDS`, and one to `ATTRIBUTES` for a new key: its type, meaning and an example.
Keys come from here and values from events; no key is the beginning of another one's name, and each has one type, so that
every back-end can keep them. `docs/registry/` is generated from these tables.

A field belongs to a group. Fields of one group repeat together from event to event, so their encoded attributes are
worked out once and remembered. A field with an `as_is` kind needs no code: it is written under its first key. The others
are parsed by their group's module; their keys are listed for the documentation and for `explain`.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from otelbridge.mapping.details import EVENT_DATA_KEYS, OTHER_EVENT_DATA


class Type(StrEnum):
    """Of an attribute's value, in the words of OpenTelemetry's registries."""

    STRING = "string"
    INT = "int"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    STRINGS = "string[]"
    STRING_TEMPLATE = "template[string]"
    """Any key that begins with this one and a dot: by an operator's choice only."""


class Declared(NamedTuple):
    """One attribute."""

    key: str
    type: Type
    brief: str
    example: str | float | list[str]


_S, _I, _D, _B, _L = Type.STRING, Type.INT, Type.DOUBLE, Type.BOOLEAN, Type.STRINGS
_T = Type.STRING_TEMPLATE
_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

# fmt: off
# ruff: noqa: E501  # one line per attribute, however long
ATTRIBUTES: tuple[Declared, ...] = (
    # the resource, or, with a coarser one, the record
    Declared("service.name", _S, "The workload, `kubearmor` for a node's own events, or a configured name.", "cart"),
    Declared("service.namespace", _S, "The workload's namespace.", "shop"),
    Declared("service.instance.id", _S, "The workload's namespace, pod and container, with dots between.", "shop.cart-7d9f.app"),
    Declared("k8s.cluster.name", _S, "The cluster.", "prod-eu"),
    Declared("k8s.node.name", _S, "The node.", "node-1"),
    Declared("k8s.namespace.name", _S, "The namespace.", "shop"),
    Declared("k8s.pod.name", _S, "The pod.", "cart-7d9f"),
    Declared("k8s.pod.uid", _S, "The pod's uid, where Docker's name of the container tells it.", "0b79c32b-2f4c-4da8-b771-e6baa7ebede4"),
    Declared("k8s.pod.label", _T, "A label of the pod, by opt-in; dots in the label's key become `_`.", "web"),
    Declared("k8s.deployment.name", _S, "The controller.", "cart"),
    Declared("k8s.replicaset.name", _S, "The controller.", "cart"),
    Declared("k8s.statefulset.name", _S, "The controller.", "db"),
    Declared("k8s.daemonset.name", _S, "The controller.", "agent"),
    Declared("k8s.job.name", _S, "The controller.", "import"),
    Declared("k8s.cronjob.name", _S, "The controller.", "nightly"),
    Declared("k8s.container.name", _S, "The container.", "app"),
    Declared("k8s.container.restart_count", _I, "Restarts, where Docker's name of the container tells them.", 3),
    Declared("host.name", _S, "The node, or the machine.", "node-1"),
    Declared("host.id", _S, "The machine's id.", "bf0f4c61b1d14e3f9f2b7f5c6a0a4f1e"),
    Declared("host.ip", _L, "The machine's address.", ["10.0.0.1"]),
    Declared("container.id", _S, "The container's id.", _HASH),
    Declared("container.name", _S, "The container's name outside of Kubernetes, or as Docker calls it.", "web"),
    Declared("container.label", _T, "A label of a container outside of Kubernetes, by opt-in; dots in its key become `_`.", "web"),
    Declared("container.image.name", _S, "The image without tag and digest.", "docker.io/library/nginx"),
    Declared("container.image.tags", _L, "The image's tag.", ["1.27"]),
    Declared("container.image.repo_digests", _L, "The image with each digest that is known of it.", [f"docker.io/library/nginx@sha256:{_HASH}"]),
    Declared("container.image.id", _S, "The image's own digest, which stands for its configuration.", f"sha256:{_HASH}"),
    Declared("oci.manifest.digest", _S, "The digest of the image's manifest.", f"sha256:{_HASH}"),
    Declared("kubearmor.cluster.name", _S, "The cluster's name outside of Kubernetes.", "edge"),
    Declared("kubearmor.cluster.reported", _S, "The cluster's name as KubeArmor knows it, where another is configured.", "west"),
    Declared("kubearmor.namespace", _S, "KubeArmor's namespace outside of Kubernetes.", "container_namespace"),
    Declared("kubearmor.pod", _S, "KubeArmor's pod outside of Kubernetes.", "web"),
    Declared("kubearmor.owner.kind", _S, "The kind of a controller that has no key of its own.", "Rollout"),
    Declared("kubearmor.owner.name", _S, "That controller.", "web"),
    Declared("kubearmor.owner.namespace", _S, "The controller's namespace, where it is not the pod's.", "ops"),
    Declared("kubearmor.container.image", _S, "The image as KubeArmor writes it, where its parts do not say the same.", f"sha256:{_HASH}"),
    # what KubeArmor says about it
    Declared("kubearmor.stream", _S, "`alerts`, `logs`, `messages`, or `gaps` for records of the bridge's own.", "alerts"),
    Declared("kubearmor.type", _S, "KubeArmor's Type.", "MatchedPolicy"),
    Declared("kubearmor.operation", _S, "KubeArmor's Operation, in lower case.", "process"),
    Declared("kubearmor.action", _S, "What KubeArmor meant to do; not what came of it.", "Block"),
    Declared("kubearmor.result", _S, "`Passed`, or the text of an error.", "Permission denied"),
    Declared("kubearmor.outcome", _S, "What came of it: `allowed`, `denied` or `failed`.", "denied"),
    Declared("kubearmor.enforcer", _S, "What enforced it.", "BPFLSM"),
    Declared("kubearmor.preset", _S, "The preset's name.", "ExecPreset"),
    Declared("kubearmor.severity", _I, "The policy's severity, 1 to 10.", 5),
    Declared("kubearmor.severity_text", _S, "The severity where it is no such number.", "high"),
    Declared("kubearmor.tags", _L, "The policy's tags.", ["MITRE", "NIST"]),
    Declared("kubearmor.tags_text", _S, "KubeArmor's Tags, where ATags says something else.", "MITRE,NIST"),
    Declared("kubearmor.mitre.technique.ids", _L, "MITRE techniques found in the tags.", ["T1036"]),
    Declared("kubearmor.throttle.max_alerts_per_second", _I, "The limit that a container exceeded.", 10),
    Declared("kubearmor.throttle.interval", _I, "Seconds for which its alerts are dropped.", 30),
    Declared("kubearmor.version", _S, "KubeArmor's version.", "v1.7.4"),
    Declared("security_rule.name", _S, "The policy.", "block-shells"),
    Declared("security_rule.ruleset.name", _S, "The policy, which is a set of rules.", "block-shells"),
    Declared("security_rule.category", _S, "The kind of policy.", "KubeArmorPolicy"),
    Declared("security_rule.description", _S, "The policy's own words.", "No shells in production"),
    # who did it
    Declared("process.executable.path", _S, "The executable.", "/usr/bin/curl"),
    Declared("process.executable.name", _S, "Its name.", "curl"),
    Declared("process.command_line", _S, "The command line, blanks between its words.", "/usr/bin/curl -s example.org"),
    Declared("process.working_directory", _S, "The working directory.", "/app"),
    Declared("process.interactive", _B, "True where there is a terminal.", "true"),
    Declared("process.pid", _I, "The process, in the node's numbering.", 4242),
    Declared("process.parent_pid", _I, "Its parent.", 4200),
    Declared("process.vpid", _I, "The process, in the container's numbering.", 7),
    Declared("process.real_user.id", _I, "The user's id, unsigned.", 1000),
    Declared("process.real_user.name", _S, "The user's name, on a node's own events.", "root"),
    Declared("kubearmor.process.parent_vpid", _I, "The parent, in the container's numbering.", 1),
    Declared("kubearmor.process.parent.executable.path", _S, "The parent's executable.", "/bin/bash"),
    Declared("kubearmor.source", _S, "KubeArmor's Source, where it is neither the command line nor the parent.", "bash"),
    Declared("kubearmor.tty", _S, "The terminal.", "pts0"),
    Declared("kubearmor.exec.id", _S, "KubeArmor's id of a process that was executed into a container.", "345808838658293"),
    Declared("kubearmor.exec.session_id", _S, "What all processes of such a session share.", "beef1234"),
    Declared("kubearmor.exec.executable_name", _S, "The task's name, before the exec.", "bash"),
    Declared("kubearmor.hash.process", _S, "The hash of the executable, in hexadecimal digits.", _HASH),
    Declared("kubearmor.hash.parent", _S, "The hash of the parent's executable.", _HASH),
    Declared("kubearmor.hash.resource", _S, "The hash of what was touched.", _HASH),
    Declared("kubearmor.hash.algorithm", _S, "How the hashes were made.", "sha256"),
    # what was touched, and how it was seen
    Declared("kubearmor.resource", _S, "KubeArmor's Resource.", "/etc/shadow"),
    Declared("kubearmor.data", _S, "KubeArmor's Data.", "syscall=SYS_OPENAT fd=-100 flags=O_RDONLY"),
    Declared("kubearmor.syscall.name", _S, "The system call.", "openat"),
    Declared("kubearmor.lsm.hook", _S, "The hook of the Linux security module.", "file_open"),
    Declared("kubearmor.kprobe", _S, "The kernel probe.", "tcp_connect"),
    Declared("kubearmor.kfunc", _S, "The kernel function.", "udp_sendmsg"),
    Declared("kubearmor.capability", _S, "The capability.", "CAP_NET_RAW"),
    Declared("kubearmor.file.open_flags", _L, "How a file was opened.", ["O_RDONLY", "O_CLOEXEC"]),
    Declared("file.path", _S, "The file.", "/etc/shadow"),
    Declared("file.name", _S, "Its name.", "shadow"),
    Declared("file.mode", _S, "The mode that was asked for.", "420"),
    Declared("file.owner.id", _S, "The owner that was asked for.", "0"),
    Declared("file.group.id", _S, "The group that was asked for.", "0"),
    Declared("network.peer.address", _S, "The other end.", "10.0.0.7"),
    Declared("network.peer.port", _I, "Its port.", 443),
    Declared("network.local.address", _S, "The own end.", "0.0.0.0"),  # noqa: S104  # an example
    Declared("network.local.port", _I, "Its port.", 8080),
    Declared("network.transport", _S, "`tcp`, `udp` or `unix`.", "tcp"),
    Declared("network.type", _S, "`ipv4` or `ipv6`.", "ipv4"),
    Declared("network.protocol.name", _S, "`dns` for queries.", "dns"),
    Declared("source.address", _S, "The sender, on firewall events.", "10.0.0.7"),
    Declared("source.port", _I, "Its port.", 34567),
    Declared("destination.address", _S, "The receiver, on firewall events.", "10.0.0.8"),
    Declared("destination.port", _I, "Its port.", 443),
    Declared("dns.question.name", _S, "The name that was asked for.", "example.org"),
    Declared("kubearmor.dns.question.type", _S, "The kind of query.", "AAAA"),
    Declared("kubearmor.socket.domain", _S, "The socket's domain.", "AF_INET"),
    Declared("kubearmor.socket.type", _L, "The socket's type and its flags.", ["SOCK_STREAM", "SOCK_CLOEXEC"]),
    Declared("kubearmor.socket.protocol", _S, "The protocol, where it is none of `network.transport`.", "ICMP"),
    Declared("kubearmor.network.direction", _S, "`ingress` or `egress`.", "egress"),
    Declared("kubearmor.network.peer.kind", _S, "What the relay knows the other end as: `pod` or `svc`.", "svc"),
    Declared("kubearmor.network.peer.namespace", _S, "Its namespace.", "shop"),
    Declared("kubearmor.network.peer.name", _S, "Its name.", "db"),
    Declared("kubearmor.quota.level", _S, "What a quota is counted by.", "pod"),
    Declared("kubearmor.quota.limit", _S, "The quota.", "2MB"),
    Declared("kubearmor.device.class", _I, "The USB device's class.", 8),
    Declared("kubearmor.device.subclass", _I, "Its subclass.", 6),
    Declared("kubearmor.device.protocol", _I, "Its protocol.", 80),
    Declared("kubearmor.device.level", _I, "How many hubs stand between.", 1),
    Declared("kubearmor.device.sys_path", _S, "Its path in /sys.", "/sys/bus/usb/devices/1-1"),
    Declared("kubearmor.labels", _S, "KubeArmor's Labels.", "app=web,tier=front"),
    *(Declared(key, _S, f"KubeArmor's EventData `{name}`, where Data and Resource do not say the same.", "x") for name, key in EVENT_DATA_KEYS.items()),
    Declared(OTHER_EVENT_DATA, _L, "All other EventData that Data and Resource do not say, as `name=text`.", ["Mood=x"]),
    # KubeArmor's messages about itself
    Declared("kubearmor.level", _S, "The message's level.", "INFO"),
    Declared("kubearmor.message", _S, "The message, where the body is not the whole of it.", "two\nlines"),
    # what the bridge adds
    Declared("log.record.uid", _S, "A digest of the event as it was received: the same event has the same id on every road it takes.", "e272c4bc-a1bb-4cd4-754f-2f8ab9391087"),
    Declared("log.record.original", _S, "The whole event as JSON, by opt-in.", '{"Operation":"File"}'),
    Declared("event.name", _S, "The record's event name again, by opt-in.", "kubearmor.alert.file"),
    Declared("kubearmor.timestamp", _I, "KubeArmor's Timestamp, where it is not the record's time.", 1785000000),
    Declared("kubearmor.updated_time", _S, "KubeArmor's UpdatedTime, where it is no time.", "yesterday"),
    Declared("kubearmor.truncated", _L, "Keys of attributes that were cut.", ["process.command_line"]),
    Declared("kubearmor.sanitized", _L, "`nul`: zero bytes were taken out of the event's texts.", ["nul"]),
    Declared("kubearmor.decode", _S, "`lenient` or `raw`, where the event did not parse as it should.", "lenient"),
    Declared("kubearmor.decode_error", _S, "Why, on `raw` records.", "Error parsing message"),
    Declared("kubearmor.unknown_fields", _L, "Fields of a KubeArmor that is newer than this bridge, as `number=value`.", ["46=x"]),
    Declared("otelbridge.instance", _S, "The bridge that sent the record: the name of its pod or machine. On the scope.", "otelbridge-x7k2p"),
    Declared("otelbridge.gap.start", _S, "When a blind stretch began.", "2026-07-25T17:20:00.123456Z"),
    Declared("otelbridge.gap.end", _S, "When it ended.", "2026-07-25T17:20:12.623456Z"),
    Declared("otelbridge.gap.duration", _D, "Its seconds.", 12.5),
    Declared("otelbridge.gap.cause", _S, "Why: `disconnect`, `heartbeat_loss`, `throttled`, `overflow`, `restart`, `corruption`, `stall`, `node_silent`.", "disconnect"),
    Declared("otelbridge.gap.stream", _S, "The stream that could not be seen, or `all`.", "alerts"),
    Declared("otelbridge.gap.suspected", _B, "True where nothing proves that events were missed.", "true"),
    Declared("otelbridge.gap.covered_by", _S, "Another road to the same events that was watched all the time (feed.roads).", "kubearmor-b:32767"),
    Declared("otelbridge.gap.upstream", _S, "Where it comes from.", "kubearmor:32767"),
    Declared("otelbridge.gap.detail", _S, "A sentence for people.", "UNAVAILABLE: Socket closed"),
    Declared("otelbridge.gap.attempts", _I, "Attempts that it took to see again.", 3),
    Declared("otelbridge.gap.lost_records", _I, "Records that were lost, where they were counted.", 250),
    Declared("otelbridge.flood.kind", _S, "What the events of a flood have in common: stream, policy, namespace, workload, operation and outcome.", "alerts/block-curl/shop/web/Process/denied"),
    Declared("otelbridge.flood.events", _I, "Events that were counted instead of sent.", 4312),
    Declared("otelbridge.flood.start", _S, "When the first of them happened.", "2026-07-25T17:20:00.123456Z"),
    Declared("otelbridge.flood.end", _S, "When the last of them happened.", "2026-07-25T17:20:59.623456Z"),
    Declared("otelbridge.flood.processes", _I, "Different executables; beyond 127 an estimate.", 1),
    Declared("otelbridge.flood.process_examples", _L, "The first of them.", ["/usr/bin/curl"]),
    Declared("otelbridge.flood.resources", _I, "Different files or peers; beyond 127 an estimate.", 37),
    Declared("otelbridge.flood.resource_examples", _L, "The first of them.", ["/app/payload"]),
    Declared("otelbridge.gap.estimated_records", _I, "About how many were missed, from the rate before.", 40),
)
# fmt: on

BY_KEY = {declared.key: declared for declared in ATTRIBUTES}


def declared(key: str) -> Declared | None:
    """The declaration of an attribute's key, which may be one of a template."""
    found = BY_KEY.get(key)
    if found is not None and found.type is not Type.STRING_TEMPLATE:
        return found
    return next((one for one in ATTRIBUTES if one.type is Type.STRING_TEMPLATE and key.startswith(f"{one.key}.")), None)


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
