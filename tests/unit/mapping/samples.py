"""What the tests of the mapping share: sample events, a record taken apart, and shorthand for making events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otelbridge.event import Stream
from otelbridge.mapping.decode import Event, decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import Record
from otelbridge.pb import kubearmor_pb2 as pb
from tests.contract import breaches, record_breaches

SAMPLES = Path(__file__).parents[2] / "samples"
RECEIVED = 1_790_000_000_123_456_789
STREAMS = {pb.Alert: Stream.ALERTS, pb.Log: Stream.LOGS, pb.Message: Stream.MESSAGES}
KINDS = {"alert": pb.Alert, "log": pb.Log, "message": pb.Message}


class Seen(NamedTuple):
    """A record as an endpoint would see it."""

    record: LogRecord
    attributes: dict[str, Any]
    resource: dict[str, Any]
    body: Any

    @property
    def all(self) -> dict[str, Any]:
        return {**self.resource, **self.attributes}


def event(document: Mapping[str, Any]) -> Event:
    """A line of a sample file as a message."""
    fields = {name: int(value) if isinstance(value, float) else value for name, value in document.items()}
    kind = str(fields.pop("_kind", ""))
    if not kind:
        kind = "log" if str(fields.get("Type", "")).endswith("Log") else "alert"
    made: Event = json_format.ParseDict(fields, KINDS[kind]())
    return made


def sample_events() -> Iterator[tuple[str, Event]]:
    for name in ("alerts", "logs", "constructed", "odd"):
        lines = (SAMPLES / f"{name}.json").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            yield f"{name}.json:{number}", event(json.loads(line))


def sample(file: str, line: int) -> Event:
    return dict(sample_events())[f"{file}.json:{line}"]


def mapped(message: Event, settings: MappingSettings | None = None) -> Record:
    mapper = Mapper(settings or MappingSettings(), version="1.2.3")
    stream = STREAMS[type(message)]
    return mapper.map(stream, decode(stream, message.SerializeToString()), RECEIVED)


def see(record: Record) -> Seen:
    parsed = LogRecord.FromString(record.encoded)
    assert record_breaches(parsed) == []
    keys = [pair.key for pair in parsed.attributes]
    assert len(keys) == len(set(keys)), f"an attribute appears twice: {sorted(keys)}"
    resource = Resource.FromString(record.resource)
    assert breaches(resource.attributes, given=True) == []
    keys = [pair.key for pair in resource.attributes]
    assert len(keys) == len(set(keys)), f"a resource attribute appears twice: {sorted(keys)}"
    return Seen(
        parsed,
        {pair.key: plain(pair.value) for pair in parsed.attributes},
        {pair.key: plain(pair.value) for pair in resource.attributes},
        plain(parsed.body),
    )


def seen(message: Event, **settings: Any) -> Seen:
    """Maps one event under the settings given, and looks at what came out."""
    return see(mapped(message, MappingSettings(**settings)))


def plain(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
        case None:
            return None
        case kind:
            return getattr(value, kind)


def records_of(request: bytes) -> list[tuple[dict[str, Any], LogRecord]]:
    """Resource and record of everything in a request, in order."""
    return [
        ({pair.key: plain(pair.value) for pair in resource_logs.resource.attributes}, record)
        for resource_logs in ExportLogsServiceRequest.FromString(request).resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]


def alert(**fields: Any) -> pb.Alert:
    """A blocked execution, but for what the test is about."""
    usual = {
        "UpdatedTime": "2026-07-25T17:20:00.123456Z", "ClusterName": "default", "HostName": "node-1",
        "NamespaceName": "shop", "PodName": "web-0", "ContainerID": "c0ffee", "ContainerName": "web",
        "Type": "MatchedPolicy", "PolicyName": "no-apt", "Severity": "5", "Operation": "Process", "Action": "Block",
        "Result": "Permission denied", "HostPID": 7, "Resource": "/usr/bin/apt update", "Source": "/bin/bash",
        "ParentProcessName": "/bin/bash", "ProcessName": "/usr/bin/apt", "Data": "syscall=SYS_EXECVE",
    }  # fmt: skip
    return pb.Alert(**{**usual, **fields})


def log(**fields: Any) -> pb.Log:
    """A file that was read, but for what the test is about."""
    usual = {
        "UpdatedTime": "2026-07-25T17:20:00.123456Z", "ClusterName": "default", "HostName": "node-1",
        "NamespaceName": "shop", "PodName": "web-0", "ContainerID": "c0ffee", "ContainerName": "web",
        "Type": "ContainerLog", "Operation": "File", "Result": "Passed", "HostPID": 7, "Resource": "/etc/passwd",
        "Source": "/bin/cat /etc/passwd", "ProcessName": "/bin/cat",
        "Data": "syscall=SYS_OPENAT fd=-100 flags=O_RDONLY|O_CLOEXEC",
    }  # fmt: skip
    return pb.Log(**{**usual, **fields})
