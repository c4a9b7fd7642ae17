"""Declares what records, metrics and spans may hold: keys with their types, meanings and examples, and spans.

`docs/registry/` and the tables of the documentation are made from it, and the tests hold to it what the product emits: no
key is the beginning of another one's name, and each has one type, so that every back end can keep them.
"""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from otelbridge.mapping.details import EVENT_DATA_KEYS, OTHER_EVENT_DATA
from otelbridge.telemetry import names as n


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
    Declared("otelbridge.gap.cause", _S, "Why: `disconnect`, `heartbeat_loss`, `throttled`, `overflow`, `restart`, `corruption`, `stall`, `pause`, `node_silent`.", "disconnect"),
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


@dataclass(frozen=True, slots=True)
class SpanName:
    """One kind of span."""

    name: str
    kind: str
    description: str
    attributes: tuple[str, ...]


_RPC = (n.RPC_SYSTEM, n.RPC_METHOD, n.STATUS_CODE, *n.SERVER, n.ERROR_TYPE)

SPANS = (
    SpanName(
        n.CONNECT,
        "internal",
        "One attempt to subscribe, linked to the attempt before it.",
        (*n.SERVER, n.ATTEMPT, n.CONNECTION_ID, n.STATUS_CODE, n.ERROR_TYPE, n.ERROR_CLASS),
    ),
    SpanName(n.STEPS["resolve"], "internal", "The DNS lookup.", (*n.SERVER, n.ERROR_TYPE)),
    SpanName(n.STEPS["connect"], "internal", "The TCP connection.", (*n.SERVER, n.ERROR_TYPE)),
    SpanName(n.STEPS["tls"], "internal", "The TLS handshake.", (*n.SERVER, n.ERROR_TYPE)),
    SpanName(n.STEPS["health"], "client", "The first health check.", _RPC),
    SpanName(n.STEPS["subscribe"], "internal", "Opening the streams.", (*n.SERVER, n.ERROR_TYPE)),
    SpanName(n.OTHER_STEP, "internal", "Any other step.", (*n.SERVER, n.ERROR_TYPE)),
    SpanName(
        n.CONNECTION,
        "internal",
        "The life of a connection, written at its end; its span events are the changes of state and the missed heartbeats.",
        (*n.SERVER, n.CONNECTION_ID, n.STATUS_CODE, n.ERROR_TYPE, n.EVENTS, n.LAST_EVENT),
    ),
    *(
        SpanName(
            method, "client", f"The life of the stream of {stream}, written at its end.", (*_RPC, n.STREAM, n.EVENTS)
        )
        for stream, method in n.WATCH.items()
    ),
)

SPAN_EVENTS: Mapping[str, tuple[str, ...]] = {
    n.STATE_CHANGED: (n.STATE, n.REASON),
    n.HEARTBEAT_MISSED: (n.MISSES, n.REASON),
}
"""Events of the span of a connection, and their attributes."""

PROCESS_SPAN_KEYS = (
    "otelbridge.trace.root", "process.pid", "process.parent_pid", "process.vpid", "process.executable.path",
    "process.executable.name", "process.command_line", "otelbridge.process.start", "otelbridge.process.end",
    "otelbridge.process.parent", "otelbridge.process.continued", "error.type", "kubearmor.truncated",
)  # fmt: skip
PROCESS_EVENT_KEYS = (
    "kubearmor.outcome", "kubearmor.action", "security_rule.name", "log.record.uid", "kubearmor.resource",
    "kubearmor.truncated",
)  # fmt: skip
"""What the spans of processes, and the events on them, can hold."""
