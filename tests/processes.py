"""Generates sessions of processes with the events that KubeArmor would send of them, and says which tree they are."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.events import stamp_time

SECOND = 1_000_000_000
STARTED = 1_785_000_000_123_456_000
RUNTIME_PID, RUNTIME = 900, "/usr/bin/runc"
UNKNOWN = "unknown"
"""Stands for the parent of whom nobody knows it: the trace's root."""
Event = tuple[Stream, pb.Alert | pb.Log]


@dataclass
class Made:
    """A process that was made up."""

    number: int
    parent: Made | None
    pid: int
    vpid: int
    born: int
    depth: int = 1
    exec_id: str = "0"
    told: list[Event] = field(default_factory=list)
    """Its own events that were not lost."""

    @property
    def name(self) -> str:
        return f"p{self.number:03}"

    @property
    def path(self) -> str:
        return f"/app/{self.name}"


@dataclass
class Session:
    """One exec session, or one container, with its processes in the order of their birth."""

    container: str
    processes: list[Made]

    def events(self) -> list[Event]:
        """All that were not lost, in the order of their times."""
        return sorted((event for made in self.processes for event in made.told), key=lambda event: event[1].UpdatedTime)

    def tree(self) -> dict[str, str]:
        """Name of each process that events speak of to its parent's, as far as they tell."""
        told: dict[str, str] = {}
        for made in self.processes:
            if made.told:
                told[made.name] = made.parent.name if made.parent else "runc"
                told.setdefault(told[made.name], UNKNOWN)
        return told


def session(
    seed: int, *, depth: int = 6, processes: int = 200, loss: float = 0.0, low_half: int = 0, started: int = STARTED
) -> Session:
    """A session that grows `depth` deep; some processes have the pid of one that is gone.

    Args:
        seed: of what is made up.
        depth: of the deepest process, the first one counted.
        processes: in it.
        loss: the share of events that never arrive.
        low_half: of ExecID; 0 makes it a container's own processes.
        started: when, in Unix nanoseconds.
    """
    chance = random.Random(seed)
    container = f"{seed:064x}"
    made: list[Made] = []
    for number in range(processes):
        deepest = made[-1] if made and number < depth else None
        parent = deepest or (chance.choice([one for one in made if one.depth < depth]) if made else None)
        born = started + number * SECOND // 10
        made.append(Made(number, parent, 10_000 + number, 10 + number, born, (parent.depth if parent else 0) + 1))
    _use_pids_again(made)
    for one in made:
        if low_half:
            one.exec_id = str((one.pid if one.parent else 77) << 32 | low_half)
        for step, operation in enumerate(("Process", *chance.choices(("File", "Network"), k=chance.randrange(4)))):
            if chance.random() >= loss:
                stream = chance.choice((Stream.ALERTS, Stream.LOGS))
                event = _event(one, stream, operation, one.born + step * SECOND // 50)
                event.ContainerID = container
                one.told.append((stream, event))
    return Session(container, made)


def _use_pids_again(made: list[Made]) -> None:
    """Every fifth process of the second half gets the pid of a childless one that has ended two seconds before."""
    parents = {id(one.parent) for one in made}
    childless = [one for one in made if id(one) not in parents]
    ended = iter(childless)
    for later in made[len(made) // 2 :: 5]:
        earlier = next(ended)
        if earlier.born < later.born - 2 * SECOND:
            later.pid = earlier.pid


def _event(one: Made, stream: Stream, operation: str, moment: int) -> pb.Alert | pb.Log:
    event: pb.Alert | pb.Log = pb.Alert() if stream is Stream.ALERTS else pb.Log()
    event.Type = "MatchedPolicy" if stream is Stream.ALERTS else "ContainerLog"
    event.ClusterName, event.HostName = "default", "node-1"
    event.NamespaceName, event.PodName, event.ContainerName = "shop", "cart-1", "app"
    event.HostPID, event.PID = one.pid, one.vpid
    event.HostPPID = one.parent.pid if one.parent else RUNTIME_PID
    event.PPID = one.parent.vpid if one.parent else RUNTIME_PID
    event.ProcessName = one.path
    event.ParentProcessName = one.parent.path if one.parent else RUNTIME
    event.Operation, event.Result = operation, "Passed"
    event.ExecEvent.ExecID = one.exec_id
    event.ExecEvent.ExecutableName = one.parent.name if one.parent else "runc"
    if operation == "Process":
        event.Source, event.Resource = event.ParentProcessName, f"{one.path} --id={one.number}"
        event.Data = "syscall=SYS_EXECVE"
    else:
        event.Source, event.Resource = f"{one.path} --id={one.number}", f"/tmp/{one.name}/{moment}"
        event.Data = "syscall=SYS_OPENAT fd=-100 flags=O_RDONLY"
    stamp_time(event, moment)
    return event


def tree_of(spans: Iterable[trace_pb2.Span]) -> dict[str, str]:
    """Name of each process to its parent's, read from spans; what goes on with a process is left out.

    A process without a parent that is known hangs at the root; two processes of one name are a fault.
    """
    every = list(spans)
    by_id = {span.span_id: span for span in every}
    found: dict[str, str] = {}
    for span in every:
        said = said_by(span)
        if "otelbridge.trace.root" in said or "otelbridge.process.continued" in said:
            continue
        assert span.name not in found, f"two spans of {span.name}"
        parent = by_id[span.parent_span_id]
        is_root = "otelbridge.trace.root" in said_by(parent)
        assert is_root == (said.get("otelbridge.process.parent") == UNKNOWN)
        found[span.name] = UNKNOWN if is_root else parent.name
    return found


def said_by(span: trace_pb2.Span | trace_pb2.Span.Event) -> Mapping[str, str | int | bool]:
    """The attributes of a span, or of an event on it."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in span.attributes}


def spans_in(requests: Sequence[bytes]) -> Iterator[trace_pb2.Span]:
    """All spans of some requests."""
    for request in requests:
        for per_resource in ExportTraceServiceRequest.FromString(request).resource_spans:
            for per_scope in per_resource.scope_spans:
                yield from per_scope.spans
