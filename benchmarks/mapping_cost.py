"""What mapping an event costs: the hand encoder, protobuf objects and SDK log objects on the same events, in one run.

The other two get a lighter task: they only copy KubeArmor's fields under the mapping's plain keys and parse nothing out
of them, so the ratios are floors. CPU time, not wall time; the best of several rounds.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otelbridge.event import Stream
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.events import stamp_time
from otelbridge.simulator.generator import generate

BATCH = 512
STARTED, STEP_NANOSECONDS = 1_785_000_000_000_000_000, 137_000
RECEIVED = 1_790_000_000_123_456_789

# What the two comparisons copy: (KubeArmor's field, the key it gets).
PLAIN = (
    ("NamespaceName", "k8s.namespace.name"), ("PodName", "k8s.pod.name"), ("ContainerName", "k8s.container.name"),
    ("ContainerID", "container.id"), ("ContainerImage", "container.image.name"), ("Labels", "kubearmor.labels"),
    ("Type", "kubearmor.type"), ("Operation", "kubearmor.operation"), ("Result", "kubearmor.result"),
    ("Source", "kubearmor.source"), ("Resource", "kubearmor.resource"), ("Data", "kubearmor.data"),
    ("ProcessName", "process.executable.path"), ("ParentProcessName", "kubearmor.process.parent.executable.path"),
    ("Cwd", "process.working_directory"), ("TTY", "kubearmor.tty"), ("HostPID", "process.pid"),
    ("HostPPID", "process.parent_pid"), ("PID", "process.vpid"), ("UID", "process.real_user.id"),
    ("PolicyName", "security_rule.name"), ("Severity", "kubearmor.severity"), ("Tags", "kubearmor.tags"),
    ("Message", "security_rule.description"), ("Action", "kubearmor.action"), ("Enforcer", "kubearmor.enforcer"),
)  # fmt: skip
RESOURCE_FIELDS = 6

Event = tuple[Stream, bytes]


def events(count: int, seed: int) -> list[Event]:
    """A busy cluster's events; process ids, paths and arguments are new with every event."""
    made = []
    for number, (stream, message) in enumerate(itertools.islice(generate(seed), count)):
        stamp_time(message, STARTED + number * STEP_NANOSECONDS)
        made.append((stream, message.SerializeToString()))
    return made


def by_hand(batch: Sequence[Event], mapper: Mapper) -> bytes:
    return mapper.assemble([mapper.map(stream, decode(stream, body), RECEIVED) for stream, body in batch])


def by_objects(batch: Sequence[Event], mapper: Mapper) -> bytes:  # noqa: ARG001  # all ways are called alike
    request = ExportLogsServiceRequest()
    groups: dict[tuple[Any, ...], Any] = {}
    for stream, body in batch:
        message: Any = (pb.Alert if stream is Stream.ALERTS else pb.Log).FromString(body)
        values = FETCH[stream](message)
        key = values[:RESOURCE_FIELDS]
        group = groups.get(key)
        if group is None:
            logs = request.resource_logs.add()
            for (_, name), value in zip(PLAIN, key, strict=False):
                logs.resource.attributes.add(key=name).value.string_value = value
            group = groups[key] = logs.scope_logs.add()
        record = group.log_records.add(time_unix_nano=RECEIVED, observed_time_unix_nano=RECEIVED, severity_number=9)
        record.body.string_value = f"{message.Operation} {message.Resource} by {message.ProcessName}: {message.Result}"
        for (_, name), value in zip(PLAIN[RESOURCE_FIELDS:], values[RESOURCE_FIELDS:], strict=False):
            if value == "":
                continue
            held = record.attributes.add(key=name).value
            if isinstance(value, str):
                held.string_value = value
            else:
                held.int_value = value
    return request.SerializeToString()


def by_sdk(batch: Sequence[Event], mapper: Mapper) -> bytes:  # noqa: ARG001  # all ways are called alike
    records = []
    resources: dict[tuple[Any, ...], Resource] = {}
    scope = InstrumentationScope("bench")
    for stream, body in batch:
        message: Any = (pb.Alert if stream is Stream.ALERTS else pb.Log).FromString(body)
        values = FETCH[stream](message)
        key = values[:RESOURCE_FIELDS]
        resource = resources.get(key)
        if resource is None:
            resource = resources[key] = Resource({name: value for (_, name), value in zip(PLAIN, key, strict=False)})
        attributes = {
            name: value
            for (_, name), value in zip(PLAIN[RESOURCE_FIELDS:], values[RESOURCE_FIELDS:], strict=False)
            if value != ""
        }
        record = LogRecord(
            timestamp=RECEIVED,
            observed_timestamp=RECEIVED,
            severity_number=SeverityNumber.INFO,
            body=f"{message.Operation} {message.Resource} by {message.ProcessName}: {message.Result}",
            attributes=attributes,
        )
        records.append(ReadableLogRecord(log_record=record, resource=resource, instrumentation_scope=scope))
    return encode_logs(records).SerializeToString()


FETCH = {
    Stream.ALERTS: attrgetter(*(field for field, _ in PLAIN)),
    Stream.LOGS: attrgetter(*(field for field, _ in PLAIN if field in pb.Log.DESCRIPTOR.fields_by_name)),
}


def cost(
    way: Callable[[Sequence[Event], Mapper], bytes], made: Sequence[Event], rounds: int, mapper: Mapper | None = None
) -> float:
    """Microseconds of CPU per event, the best of several rounds; without a mapper, each round has to learn anew."""
    best = float("inf")
    given = mapper
    for _ in range(rounds):
        mapper = given or Mapper(MappingSettings(), version="benchmark")
        gc.collect()
        started = time.process_time_ns()
        for start in range(0, len(made), BATCH):
            way(made[start : start + BATCH], mapper)
        best = min(best, (time.process_time_ns() - started) / 1000 / len(made))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    made = events(options.events, options.seed)
    figures: dict[str, float] = {"event_bytes": sum(len(body) for _, body in made) / len(made)}
    figures["hand_us"] = cost(by_hand, made, options.rounds)
    # What a bridge that has run for a minute pays: its workloads, rules and processes are known.
    learned = Mapper(MappingSettings(), version="benchmark")
    cost(by_hand, made, 1, learned)
    figures["hand_learned_us"] = cost(by_hand, made, options.rounds, learned)
    figures["protobuf_objects_us"] = cost(by_objects, made, options.rounds)
    figures["sdk_us"] = cost(by_sdk, made, options.rounds)
    figures["objects_ratio"] = figures["protobuf_objects_us"] / figures["hand_us"]
    figures["sdk_ratio"] = figures["sdk_us"] / figures["hand_us"]
    print(json.dumps({name: round(figure, 2) for name, figure in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
