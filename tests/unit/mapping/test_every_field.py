"""Every non-empty field of every sample is found again, by its value: a field new in the proto fails until mapped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from docs.declared import ATTRIBUTES, Type
from otelbridge.event import Stream
from otelbridge.mapping.decode import Event
from otelbridge.mapping.fields import FIELDS, MESSAGE_FIELDS
from otelbridge.pb import kubearmor_pb2 as pb
from tests.unit.mapping import samples
from tests.unit.mapping.samples import Seen, alert, log, sample_events, see, seen

Reappears = Callable[[Any, Seen, Event], bool]


def under(*keys: str) -> Reappears:
    """As it is, under one of the keys, on the record or its resource."""
    return lambda value, found, _: any(found.all.get(key) == value for key in keys)


def without(part: str, *keys: str) -> Reappears:
    return lambda value, found, _: any(found.all.get(key) == value.rstrip(part) for key in keys)


def has_time(value: Any, found: Seen, _: Event) -> bool:
    nano = found.record.time_unix_nano
    if isinstance(value, int):
        return value in {nano // 10**9, found.attributes.get("kubearmor.timestamp")}
    whole = datetime.fromtimestamp(nano // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return value in {f"{whole}.{nano % 10**9 // 1000:06d}Z", found.attributes.get("kubearmor.updated_time")}


def has_image(value: str, found: Seen, _: Event) -> bool:
    if found.all.get("kubearmor.container.image") == value:
        return True
    name: str = found.all.get("container.image.name", "")
    tag = found.all.get("container.image.tags", [""])[0]
    digest = found.all.get("oci.manifest.digest", "")
    return value == name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def has_owner_kind(value: str, found: Seen, _: Event) -> bool:
    return f"k8s.{value.lower()}.name" in found.resource or found.resource.get("kubearmor.owner.kind") == value


def has_owner_name(value: str, found: Seen, event: Event) -> bool:
    kind = event.Owner.Ref.lower()  # type: ignore[union-attr]
    return value in {found.resource.get(f"k8s.{kind}.name"), found.resource.get("kubearmor.owner.name")}


def has_tags(value: str, found: Seen, _: Event) -> bool:
    return value == ",".join(found.attributes["kubearmor.tags"]) or found.attributes.get("kubearmor.tags_text") == value


def has_severity(value: str, found: Seen, _: Event) -> bool:
    return str(found.attributes.get("kubearmor.severity", found.attributes.get("kubearmor.severity_text"))) == value


def has_directory(value: str, found: Seen, event: Event) -> bool:
    enforcer = getattr(event, "Enforcer", "")
    if value == "/" and (enforcer == "BPFLSM" or enforcer.startswith("PRESET-")):
        return "process.working_directory" not in found.attributes  # those never pass it
    return found.attributes.get("process.working_directory") == (value.rstrip("/") or "/")


def has_hash(value: str, found: Seen, *, key: str) -> bool:
    return bool(found.attributes.get(key) == value)


def has_event_data(value: Mapping[str, str], found: Seen, event: Event) -> bool:
    """As an attribute of its own, or word by word in the raw texts that it was made of."""
    told = f" {event.Data} {event.Resource} ".replace(",", " , ")  # type: ignore[union-attr]
    if any(
        raw not in {"", found.attributes.get(key)}
        for raw, key in ((event.Data, "kubearmor.data"), (event.Resource, "kubearmor.resource"))  # type: ignore[union-attr]
    ):
        return False
    kept = {key: text for key, text in found.attributes.items() if key.startswith("kubearmor.event_data.")}
    return all(
        f" {key[0].lower()}{key[1:]}={text} ".replace(",", " , ") in told
        or f" {key}={text} ".replace(",", " , ") in told
        or text in kept.values()
        or f"{key}={text}" in kept.get("kubearmor.event_data.other", [])
        for key, text in value.items()
    )


def has_level(value: str, found: Seen, _: Event) -> bool:
    return found.record.severity_text == value and found.attributes["kubearmor.level"] == value


REAPPEARS: Mapping[str, Reappears] = {
    "Timestamp": has_time,
    "UpdatedTime": has_time,
    "ClusterName": under("k8s.cluster.name"),
    "HostName": lambda value, found, _: found.resource["host.name"] == found.resource["k8s.node.name"] == value,
    "NodeID": under("host.id", "host.name"),
    "NamespaceName": under("k8s.namespace.name"),
    "PodName": under("k8s.pod.name"),
    "Owner.Ref": has_owner_kind,
    "Owner.Name": has_owner_name,
    "Owner.Namespace": under("k8s.namespace.name", "kubearmor.owner.namespace"),
    "ContainerName": under("k8s.container.name", "container.name"),
    "ContainerID": under("container.id"),
    "ContainerImage": has_image,
    "Labels": under("kubearmor.labels"),
    "PolicyName": under("security_rule.name"),
    "Severity": has_severity,
    "Tags": has_tags,
    "ATags": under("kubearmor.tags"),
    "Message": under("security_rule.description"),
    "Type": under("kubearmor.type"),
    "Operation": lambda value, found, _: found.attributes["kubearmor.operation"] == value.lower(),
    "Action": under("kubearmor.action"),
    "Result": under("kubearmor.result"),
    "Enforcer": under("kubearmor.enforcer"),
    "MaxAlertsPerSec": under("kubearmor.throttle.max_alerts_per_second"),
    "DroppingAlertsInterval": under("kubearmor.throttle.interval"),
    "KubeArmorVersion": under("kubearmor.version"),
    "ProcessName": under("process.executable.path"),
    "ParentProcessName": under("kubearmor.process.parent.executable.path"),
    "UserName": under("process.real_user.name"),
    "TTY": under("kubearmor.tty"),
    "Cwd": has_directory,
    "ExecEvent.ExecutableName": under("kubearmor.exec.executable_name"),
    "ExecEvent.ExecID": lambda value, found, _: value == found.attributes.get("kubearmor.exec.id", "0"),
    "ProcessHash": lambda value, found, _: has_hash(value, found, key="kubearmor.hash.process"),
    "ParentHash": lambda value, found, _: has_hash(value, found, key="kubearmor.hash.parent"),
    "ResourceHash": lambda value, found, _: has_hash(value, found, key="kubearmor.hash.resource"),
    "HashAlgo": under("kubearmor.hash.algorithm"),
    "HostPID": under("process.pid"),
    "HostPPID": under("process.parent_pid"),
    "PID": under("process.vpid"),
    "PPID": under("kubearmor.process.parent_vpid"),
    "UID": lambda value, found, _: found.attributes["process.real_user.id"] == value % 2**32,
    "Source": under("process.command_line", "kubearmor.source", "kubearmor.process.parent.executable.path"),
    "Resource": under("kubearmor.resource"),
    "Data": under("kubearmor.data"),
    "EventData": has_event_data,
}
MESSAGE_REAPPEARS: Mapping[str, Reappears] = {
    **REAPPEARS,
    "HostIP": lambda value, found, _: found.resource["host.ip"] == [value],
    "Level": has_level,
    "Message": lambda value, found, _: found.body == value or found.attributes.get("kubearmor.message") == value,
}


def held_fields(message: Message, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every non-empty field by the descriptor, nested ones by their path."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE and not isinstance(value, Mapping):
            yield from held_fields(value, f"{prefix}{field.name}.")
        elif isinstance(value, Mapping):
            yield prefix + field.name, dict(value)
        else:
            yield prefix + field.name, list(value) if field.is_repeated else value


def all_fields(kind: type[Message]) -> set[str]:
    """Every field by the descriptor, nested ones by their path."""
    names = set()
    for field in kind.DESCRIPTOR.fields:
        nested = field.message_type if field.type == FieldDescriptor.TYPE_MESSAGE else None
        if nested is None or nested.GetOptions().map_entry:
            names.add(field.name)
        else:
            names.update(f"{field.name}.{inner.name}" for inner in nested.fields)
    return names


def losses(message: Event, found: Seen) -> list[str]:
    rules = MESSAGE_REAPPEARS if isinstance(message, pb.Message) else REAPPEARS
    return [name for name, value in held_fields(message) if name not in rules or not rules[name](value, found, message)]


@pytest.mark.parametrize(
    ("place", "message"), list(sample_events()), ids=lambda held: held if isinstance(held, str) else ""
)
def test_every_field_of_every_sample_is_found_again(place: str, message: Event) -> None:
    assert losses(message, seen(message)) == [], place


@pytest.mark.parametrize("granularity", ["container", "pod", "node"])
def test_nothing_is_lost_at_any_granularity(granularity: str) -> None:
    for place, message in sample_events():
        found = seen(message, resource_granularity=granularity)
        whole = Seen(found.record, found.all, found.all, found.body)
        assert losses(message, whole) == [], place


@pytest.mark.parametrize("kind", [pb.Alert, pb.Log])
def test_every_field_of_the_proto_stands_in_the_table_once(kind: type[Message]) -> None:
    names = [field.name for field in FIELDS]
    assert len(names) == len(set(names))
    assert all_fields(kind) <= set(names)


def test_the_table_names_no_field_that_does_not_exist() -> None:
    assert {field.name for field in FIELDS} == all_fields(pb.Alert) | all_fields(pb.Log)
    assert {field.name for field in MESSAGE_FIELDS} == all_fields(pb.Message)


def full(kind: type[pb.Alert | pb.Log]) -> pb.Alert | pb.Log:
    """A message in which no field is empty."""
    message = (alert if kind is pb.Alert else log)()
    for field in kind.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and not getattr(message, field.name):
            setattr(message, field.name, f"a-{field.name.lower()}")
        elif field.type == FieldDescriptor.TYPE_INT32 and not getattr(message, field.name):
            setattr(message, field.name, field.number + 1000)
    message.Timestamp = 1_785_000_000
    message.Owner.Ref, message.Owner.Name, message.Owner.Namespace = "Deployment", "web", "other"
    message.ExecEvent.ExecID, message.ExecEvent.ExecutableName = "824416229130095", "bash"
    message.ProcessHash, message.ParentHash, message.ResourceHash, message.HashAlgo = "a1", "b2", "c3", "sha256"
    message.EventData["Novel"] = "worth keeping"
    if isinstance(message, pb.Alert):
        message.ATags.extend(["MITRE", "MITRE_T1036"])
        message.KubeArmorVersion = "v1.7.4"
    return message


@pytest.mark.parametrize("kind", [pb.Alert, pb.Log])
def test_no_field_is_lost_even_when_all_are_set(kind: type[pb.Alert | pb.Log]) -> None:
    message = full(kind)
    assert {name for name, _ in held_fields(message)} == all_fields(kind)
    assert losses(message, seen(message)) == []


def test_a_message_keeps_its_whole_text() -> None:
    text = "two\nlines " + "x" * 2000
    message = pb.Message(UpdatedTime="2026-07-25T17:20:00.123456Z", HostName="n", HostIP="10.0.0.1", Message=text)
    assert losses(message, seen(message)) == []


def test_the_generic_check_itself_notices_a_loss() -> None:
    message = full(pb.Alert)
    found = seen(message)
    for key in ("kubearmor.resource", "security_rule.name", "kubearmor.event_data.other"):
        rest = {name: value for name, value in found.attributes.items() if name != key}
        assert losses(message, found._replace(attributes=rest)), key


def test_every_key_of_the_table_is_a_declared_attribute() -> None:
    for field in (*FIELDS, *MESSAGE_FIELDS):
        for key in field.keys:
            pattern = re.compile(re.sub("<[^>]*>", ".+", re.escape(key)))
            assert key.startswith("**") or any(
                pattern.fullmatch(f"{one.key}.x" if one.type is Type.STRING_TEMPLATE else one.key) for one in ATTRIBUTES
            ), f"{field.name}: {key}"


def test_streams_are_told_apart() -> None:
    for kind, stream in samples.STREAMS.items():
        record = samples.mapped(kind())
        assert record.stream is stream
        assert see(record).attributes["kubearmor.stream"] == stream.value
    assert Stream.GAPS not in samples.STREAMS.values()
