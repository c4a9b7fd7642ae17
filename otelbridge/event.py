"""What all components share: streams, raw events, gaps, floods, steps of a connection; what KubeArmor's texts mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, Literal, NamedTuple


class Signal(StrEnum):
    """OTLP's kinds of requests, each taken by a service of its own."""

    LOGS = "logs"
    TRACES = "traces"


class Stream(StrEnum):
    """Where a record comes from: one of KubeArmor's three streams, or the bridge itself."""

    ALERTS = "alerts"
    LOGS = "logs"
    MESSAGES = "messages"
    GAPS = "gaps"
    """The bridge's own records about what it could not see."""
    SPANS = "spans"
    """Processes as spans: no log records, but they travel as such do."""


UpstreamStream = Literal[Stream.ALERTS, Stream.LOGS, Stream.MESSAGES]
"""For what an operator can ask for: gaps are never subscribed to, and never filtered."""
UPSTREAM_STREAMS = (Stream.ALERTS, Stream.LOGS, Stream.MESSAGES)


NANOSECONDS = 1_000_000_000
"""Of a second."""

LOG_SERVICE = "feeder.LogService"


class StreamFacts(NamedTuple):
    """What the components have to know of one of KubeArmor's streams. Empty for the bridge's own."""

    method: str = ""
    """Of KubeArmor's LogService."""
    filter: str = ""
    """Asked for: a mere gate on both servers; any other word ends the stream with OK at once."""
    message: str = ""
    """The name of its protobuf message."""
    undecodable_event: str = ""
    """The event name of a record whose message could not be decoded."""
    prompt: bool = False
    """Its records are sent without lingering."""
    signal: Signal = Signal.LOGS
    """What its records are to an endpoint."""


STREAMS: Mapping[Stream, StreamFacts] = {
    Stream.GAPS: StreamFacts(prompt=True),
    Stream.ALERTS: StreamFacts("WatchAlerts", "policy", "Alert", "kubearmor.alert.other", prompt=True),
    Stream.MESSAGES: StreamFacts("WatchMessages", "all", "Message", "kubearmor.agent.message"),
    Stream.LOGS: StreamFacts("WatchLogs", "system", "Log", "kubearmor.telemetry.other"),
    Stream.SPANS: StreamFacts(signal=Signal.TRACES),
}
"""By rank: the first is taken out of the queue first and shed last. Of the records, logs come last:
they are nearly all of the traffic, and SQLite fills pages best at the end of a table. Ranks are part of what is on
disk: a new stream goes to the end."""
STREAM_BY_RANK = tuple(STREAMS)


class RawEvent(NamedTuple):
    """One event as it came off the wire. A named tuple: one is made for every event, and it is the cheapest to make."""

    stream: Stream
    body: bytes
    """The encoded protobuf message, not looked at yet."""
    received_unix_nano: int
    upstream: str
    """The configured address that it came from, `host:port`."""


class GapCause(StrEnum):
    """Why a stretch of time could not be seen."""

    DISCONNECT = "disconnect"
    HEARTBEAT_LOSS = "heartbeat_loss"
    THROTTLED = "throttled"
    """KubeArmor itself stopped reporting alerts for a container."""
    OVERFLOW = "overflow"
    """Events arrived faster than the bridge could take them to disk; suspected, where it kept the upstream waiting."""
    RESTART = "restart"
    """The bridge itself was not running."""
    CORRUPTION = "corruption"
    """Records that were held on disk could not be read back."""
    STALL = "stall"
    """The upstream answered late although the connection stayed: its nodes may have dropped events meanwhile."""
    PAUSE = "pause"
    """The bridge itself stood still: a suspended machine, a frozen container."""
    NODE_SILENT = "node_silent"
    """One node behind the upstream fell silent, against its habit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectStep:
    """One step of a connection attempt: those of a preflight, and the subscription's `health` and `subscribe`."""

    name: str
    started_unix_nano: int
    ended_unix_nano: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch of time that could not be seen: it becomes the log record `otelbridge.gap`."""

    stream: Stream | None
    """None: all streams of the upstream, as when one of its nodes is silent."""
    upstream: str
    """The configured address, or empty when no upstream was involved (corruption)."""
    cause: GapCause
    started_unix_nano: int
    ended_unix_nano: int
    attempts: int = 0
    """Connection attempts that it took to see again."""
    lost_records: int | None = None
    """Exact, where the bridge counted them itself."""
    estimated_records: int | None = None
    """The stream's recent rate times the duration, where there was a rate."""
    node: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""
    detail: str = ""
    """One sentence for a human: the status text, the limit that was hit, the file set aside."""
    suspected: bool = False
    """Nothing proves that events were missed: the upstream was connected, and answered late or fell silent."""

    covered_by: str = ""
    """Another road to the same events that was watched all the time."""

    @property
    def stream_name(self) -> str:
        """The stream's name, or `all`."""
        return self.stream.value if self.stream else "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Events of one kind that were counted instead of sent: they become the log record `otelbridge.flood`."""

    stream: Stream
    """Alerts or logs."""
    kind: str
    """`stream/policy/namespace/workload/operation/outcome`."""
    sample: bytes
    """An encoded Alert or Log with the workload and the rule of the first one."""
    events: int
    started_unix_nano: int
    ended_unix_nano: int
    processes: int
    """Different executables: exact where they are few, an estimate where many."""
    process_examples: tuple[str, ...]
    resources: int
    """Different files, or peers, as above."""
    resource_examples: tuple[str, ...]


RecordGap = Callable[[Gap], None]
"""Where a component leaves a gap that it has found, to become a record; from any thread, never raises, never blocks."""


MAX_NAME = 256
"""Characters of each part of a kind."""


class EventKind(NamedTuple):
    """What makes two events "the same again"."""

    stream: Stream
    policy: str
    namespace: str
    workload: str
    """The pod's controller, or the pod, or the node of an event outside of pods."""
    operation: str
    outcome: str

    def __str__(self) -> str:
        return "/".join(part or "-" for part in self)


def kind_of(stream: Stream, message: Any) -> EventKind:
    """The kind of an Alert or a Log."""
    owner, pod, host, namespace, operation, result = _PARTS(message)
    policy = message.PolicyName if stream is Stream.ALERTS else ""
    texts = (policy, namespace, owner or pod or host, operation, outcome_of(result))
    return EventKind(stream, *[text[:MAX_NAME] for text in texts])


_PARTS = attrgetter("Owner.Name", "PodName", "HostName", "NamespaceName", "Operation", "Result")

MAX_SEVERITY = 10
_OUTCOMES = {
    "Passed": "allowed",
    "Permission denied": "denied",
    "Operation not permitted": "denied",
    "Removed": "denied",  # a USB device that KubeArmor took off the bus
}


def outcome_of(result: str) -> str:
    """`allowed`, `denied` or `failed`, by KubeArmor's Result; empty where it gives none.

    KubeArmor's Action is what was meant, not what happened. A Result that is none of the known ones is an errno text:
    the operation failed for a reason of its own.
    """
    return _OUTCOMES.get(result, "failed") if result else ""


def severity_of(text: str) -> int:
    """A policy's severity, 1 to 10; 0 where it names none."""
    level = int(text) if len(text) <= len(str(MAX_SEVERITY)) and text.isascii() and text.isdigit() else 0
    return level if level <= MAX_SEVERITY else 0


MAX_PARSED_CHARS = 65_537
"""Of one text that is taken apart: more than any attribute holds, twice what KubeArmor's monitor can send. An event may
have 16 MiB of labels or Data, and to take those apart would hold up all others for seconds."""


def labels_of(text: str) -> dict[str, str]:
    """`k=v,k2=v2` as a dictionary, sorted: Go writes maps in random order.

    A part without `=` belongs to the value before it, because Docker's values may hold commas.
    """
    labels: list[tuple[str, list[str]]] = []
    for part in text[:MAX_PARSED_CHARS].split(","):
        key, equals, value = part.partition("=")
        if equals and key:
            labels.append((key, [value]))
        elif labels:
            labels[-1][1].append(part)
    return dict(sorted((key, ",".join(values)) for key, values in labels))
