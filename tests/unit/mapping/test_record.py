"""Time, id, body, exec session: what is new with every record."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest

from otelbridge.event import Stream
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from tests.unit.mapping.samples import RECEIVED, alert, log, mapped, sample_events, see, seen

NOON = 1_785_000_000_000_000_000


def uid(message: Any, **settings: Any) -> str:
    return str(seen(message, **settings).attributes["log.record.uid"])


@pytest.mark.parametrize(
    ("updated", "timestamp", "unix_nano"),
    [
        ("2026-07-25T17:20:00.123456Z", 1_785_000_000, NOON + 123_456_000),
        ("2026-07-25T17:20:00.000000Z", 0, NOON),
        ("2026-07-25T17:20:00Z", 0, NOON),
        ("2026-07-25T17:20:00.123456789Z", 0, NOON + 123_456_789),
        ("2026-07-25T19:20:00.5+02:00", 0, NOON + 500_000_000),
        ("", 1_785_000_000, NOON),
        ("", 0, 0),
        ("yesterday", 1_785_000_000, NOON),
        ("1969-12-31T23:59:59.000000Z", 0, 0),
        ("", -5, 0),
        ("", 1 << 62, 0),
        ("2026-13-25T17:20:00.123456Z", 0, 0),
        ("2026-07-25T17:20:00.12345xZ", 1_785_000_000, NOON),
    ],
)
def test_the_time_of_the_event(updated: str, timestamp: int, unix_nano: int) -> None:
    record = mapped(log(UpdatedTime=updated, Timestamp=timestamp))
    assert record.time_unix_nano == unix_nano
    assert see(record).record.time_unix_nano == unix_nano
    assert see(record).record.observed_time_unix_nano == RECEIVED


def test_times_of_different_seconds_do_not_mix() -> None:
    mapper = Mapper(MappingSettings(), version="1")
    for second in (5, 6, 5, 59, 0):
        message = log(UpdatedTime=f"2026-07-25T17:20:{second:02}.000007Z")
        record = mapper.map(Stream.LOGS, decode(Stream.LOGS, message.SerializeToString()), RECEIVED)
        assert record.time_unix_nano == NOON + second * 10**9 + 7000
        assert mapper.event_unix_nano(message) == record.time_unix_nano


def test_a_time_that_is_none_is_kept_as_text() -> None:
    found = seen(log(UpdatedTime="yesterday", Timestamp=5)).attributes
    assert found["kubearmor.updated_time"] == "yesterday"
    assert "kubearmor.timestamp" not in found
    found = seen(log(Timestamp=5)).attributes
    assert found["kubearmor.timestamp"] == 5, "it disagrees with UpdatedTime"
    assert "kubearmor.updated_time" not in found


def test_an_id_is_the_text_of_a_uuid() -> None:
    assert str(uuid.UUID(uid(alert()))) == uid(alert())


def test_two_copies_of_an_event_share_their_id() -> None:
    message = log(Operation="Network", Resource="remoteip=10.0.0.1 port=80 protocol=TCP", Data="kprobe=tcp_connect")
    pairs = [("Kprobe", "tcp_connect"), ("Remoteip", "10.0.0.1"), ("New", "x"), ("Newer", "y")]
    ids = set()
    for order in range(5):
        copy = pb.Log()
        copy.CopyFrom(message)
        for key, value in random.Random(order).sample(pairs, len(pairs)):
            copy.EventData[key] = value
        if order % 2:
            copy.Resource += f" remotehost=svc/default/web-{order}"
        ids.add(uid(copy))
    assert len(ids) == 1


def test_the_id_does_not_depend_on_the_records_shape() -> None:
    message = alert(Labels="a=b", Source="x" * 9000)
    message.ExecEvent.ExecID = "5"
    everything: dict[str, Any] = {
        "body": "json", "parse_labels": True, "cluster_name": "c", "resource_granularity": "node",
        "keep_original": True, "keep_raw": False, "max_value_bytes": 256,
        "event_name_attribute": True, "mitre_techniques": False, "kubernetes": False,
    }  # fmt: skip
    assert uid(message) == uid(message, **everything)


def test_events_that_differ_only_in_what_was_cut_differ_in_their_id() -> None:
    for field in ("Source", "Resource", "Data", "PodName", "PolicyName", "ProcessName"):
        ids = {uid(alert(**{field: "x" * 9000 + end})) for end in "ab"}
        assert len(ids) == 2, field


@pytest.mark.parametrize("kind", [pb.Alert, pb.Log])
def test_events_that_differ_in_any_field_differ_in_their_id(kind: type[pb.Alert | pb.Log]) -> None:
    base = (alert if kind is pb.Alert else log)()
    ids = {uid(base)}
    count = 1
    for field in kind.DESCRIPTOR.fields:
        changed = kind.FromString(base.SerializeToString())
        if field.name == "EventData":
            changed.EventData["Novel"] = "x"
        elif field.name == "Owner":
            changed.Owner.Name = "x"
        elif field.name == "ExecEvent":
            changed.ExecEvent.ExecID = "77"
        elif field.is_repeated:
            changed.ATags.append("x")  # type: ignore[union-attr]
        elif isinstance(getattr(changed, field.name), str):
            setattr(changed, field.name, "x=y")
        else:
            setattr(changed, field.name, 4242)
        ids.add(uid(changed))
        count += 1
        assert len(ids) == count, field.name
    ids.add(uid(pb.Alert(HostName="x")))
    ids.add(uid(pb.Log(HostName="x")))
    assert len(ids) == count + 2, "the stream is part of it"


def test_a_separator_inside_a_value_does_not_blur_the_id() -> None:
    assert uid(log(Source="a\x1fb", Resource="c")) != uid(log(Source="a", Resource="b\x1fc"))


def test_no_two_samples_share_an_id() -> None:
    ids = [uid(message) for _, message in sample_events()]
    assert len(set(ids)) == len(ids)


def test_the_body_is_one_line_that_says_what_happened() -> None:
    message = alert(NamespaceName="wordpress-mysql", PodName="wordpress-787f", PolicyName="ksp-block", Severity="3")
    assert seen(message).body == (
        "Block Process /usr/bin/apt update by /bin/bash in wordpress-mysql/wordpress-787f: "
        "Permission denied (policy ksp-block, severity 3)"
    )
    message.Message = "No package managers here"
    assert seen(message).body.startswith("No package managers here: Block Process /usr/bin/apt update")
    assert seen(log()).body == "File /etc/passwd by /bin/cat in shop/web-0: Passed"
    assert (
        seen(pb.Log(HostName="n", Operation="Syscall", Data="syscall=SYS_MOUNT")).body
        == "Syscall syscall=SYS_MOUNT on n"
    )


@pytest.mark.parametrize("field", ["Resource", "PodName", "PolicyName", "Message", "ProcessName", "ParentProcessName"])
def test_nothing_that_an_event_holds_breaks_the_line(field: str) -> None:
    hostile = "a\nb\r\x1b[31mred\u202etxt\x85\u2028\x7f"
    found = seen(alert(**{field: hostile}))
    assert found.body.isprintable()
    assert "\\n" in found.body or field == "ProcessName"
    assert hostile in found.all.values(), "the attribute stays as it was"


def test_a_long_body_keeps_its_end() -> None:
    found = seen(alert(Resource="/bin/x " + "é" * 4000))
    assert len(found.body.encode()) <= 1024
    assert found.body.endswith(
        "…by /bin/bash in shop/web-0: Permission denied (policy no-apt, severity 5)".replace("…by", "… by")
    )
    found = seen(alert(PolicyName="p" * 5000, Message="m" * 5000, PodName="n" * 5000), max_body_bytes=128)
    assert len(found.body.encode()) <= 128


def test_the_body_as_json_and_as_a_map() -> None:
    message = alert(PID=3, ATags=["a", "b"])
    message.EventData["K"] = "v"
    message.Owner.Name = "web"
    as_map = seen(message, body="map").body
    assert as_map["PID"] == 3
    assert as_map["ATags"] == ["a", "b"]
    assert as_map["EventData"] == {"K": "v"}
    assert as_map["Owner"] == {"Name": "web"}
    assert "TTY" not in as_map
    assert json.loads(seen(message, body="json").body) == as_map
    assert json.loads(seen(message, keep_original=True).attributes["log.record.original"]) == as_map


def test_an_exec_session_and_its_forked_child_share_its_id() -> None:
    ids = [(100 << 32) | 0xBEEF1234, (200 << 32) | 0xBEEF1234, (300 << 32) | 0xBEEF1235]
    found = [seen(alert(ExecEvent=pb.ExecEvent(ExecID=str(exec_id)))) for exec_id in ids]
    assert [one.attributes["kubearmor.exec.session_id"] for one in found] == ["beef1234", "beef1234", "beef1235"]
    assert {(one.record.trace_id, one.record.span_id) for one in found} == {(b"", b"")}, "no span has such an id"


@pytest.mark.parametrize("exec_id", ["0", ""])
def test_outside_a_session_there_is_no_id(exec_id: str) -> None:
    found = seen(alert(ExecEvent=pb.ExecEvent(ExecID=exec_id)))
    assert not [key for key in found.attributes if key.startswith("kubearmor.exec.id")]
    assert uid(alert(ExecEvent=pb.ExecEvent(ExecID=exec_id))) == uid(alert())


def test_an_exec_id_that_is_none_is_kept() -> None:
    found = seen(alert(ExecEvent=pb.ExecEvent(ExecID="not a number")))
    assert found.attributes["kubearmor.exec.id"] == "not a number"
    assert "kubearmor.exec.session_id" not in found.attributes


@pytest.mark.parametrize(
    ("field", "key"),
    [("Source", "kubearmor.source"), ("Resource", "kubearmor.resource"), ("Data", "kubearmor.data"),
     ("PolicyName", "security_rule.name"), ("ProcessName", "process.executable.path"),
     ("PodName", "k8s.pod.name"), ("Labels", "kubearmor.labels")],
)  # fmt: skip
def test_a_long_value_is_cut_between_characters_and_told(field: str, key: str) -> None:
    text = "a" + "é" * 5000
    found = seen(alert(**{field: text}))
    kept = found.all[key]
    assert text.startswith(kept)
    assert 8190 <= len(kept.encode()) <= 8192
    assert key in found.attributes["kubearmor.truncated"]


def test_a_cut_value_is_told_each_time_although_parts_are_remembered() -> None:
    mapper = Mapper(MappingSettings(max_value_bytes=256), version="1")
    body = alert(PolicyName="p" * 300, PodName="q" * 300).SerializeToString()
    for _ in range(3):
        found = see(mapper.map(Stream.ALERTS, decode(Stream.ALERTS, body), RECEIVED))
        assert found.attributes["kubearmor.truncated"] == [
            "k8s.pod.name", "security_rule.name", "security_rule.ruleset.name", "service.instance.id", "service.name"
        ]  # fmt: skip
    assert mapper.tally.truncated == 3
    usual = see(mapper.map(Stream.ALERTS, decode(Stream.ALERTS, alert().SerializeToString()), RECEIVED))
    assert "kubearmor.truncated" not in usual.attributes


def test_a_message_escapes_and_cuts_its_body_and_keeps_the_text() -> None:
    found = seen(
        pb.Message(Level="WARN", Message="a\nb", HostIP="10.0.2.15", UpdatedTime="2026-07-25T17:20:00.123456Z")
    )
    assert found.body == "a\\nb"
    assert found.attributes["kubearmor.message"] == "a\nb"
    assert found.record.event_name == "kubearmor.agent.message"
    assert found.record.time_unix_nano == NOON + 123_456_000
    assert found.resource["host.ip"] == ["10.0.2.15"]
    found = seen(pb.Message(Message="x" * 9000), max_body_bytes=200)
    assert found.attributes["kubearmor.truncated"] == ["kubearmor.message"]
    assert json.loads(seen(pb.Message(Level="INFO", Message="m"), body="json").body) == {
        "Level": "INFO",
        "Message": "m",
    }


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (pb.Alert(), "An alert that says nothing."),
        (pb.Log(), "A log that says nothing."),
        (pb.Alert(Operation="File"), "File"),
        (pb.Alert(PolicyName="p"), "(policy p)"),
        (
            pb.Log(Operation="File", PodName="web", NamespaceName="shop", ProcessName="/bin/cat"),
            "File by /bin/cat in shop/web",
        ),
    ],
)
def test_a_body_has_no_hole_where_nothing_was_touched(message: pb.Alert | pb.Log, body: str) -> None:
    assert seen(message).body == body


def test_a_body_without_anything_touched_keeps_to_its_limit() -> None:
    message = pb.Log(Operation="Process", PodName="p" * 100, NamespaceName="n" * 100, ParentProcessName="/" + "x" * 100)
    assert len(seen(message, max_body_bytes=128).body.encode()) <= 128
