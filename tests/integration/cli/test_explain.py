from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.unit.cli.invoking import invoke

SAMPLES = Path(__file__).parents[2] / "samples"
ALERT = {
    "Timestamp": 1686475183, "UpdatedTime": "2023-06-11T09:19:43.451704Z", "HostName": "n-1", "NamespaceName": "shop",
    "PodName": "web-1", "PolicyName": "no-sh", "Severity": "5", "Type": "MatchedPolicy", "Operation": "Process",
    "Resource": "/bin/sh -c secret", "Action": "Block", "Result": "Permission denied",
}  # fmt: skip


def line(**changes: Any) -> str:
    return json.dumps(ALERT | changes) + "\n"


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("*.json")), ids=lambda file: file.name)
def test_every_sample_becomes_one_otlp_json_document_per_line(file: Path) -> None:
    ended = invoke("explain", str(file), "--output", "otlp-json")
    documents = ended.data.splitlines()
    assert ended.code == 0
    assert len(documents) == len(file.read_text(encoding="utf-8").splitlines())
    for document in documents:
        without_ids = json.loads(document)
        without_ids["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0].pop("traceId", None)  # hex, not base64
        request = Parse(json.dumps(without_ids), ExportLogsServiceRequest())
        assert len(request.resource_logs[0].scope_logs[0].log_records) == 1


def test_the_same_line_is_always_the_same_document() -> None:
    assert len({invoke("explain", "--output", "otlp-json", stdin=line()).data for _ in range(2)}) == 1


def test_the_story_says_where_each_field_went() -> None:
    (story,) = [json.loads(one) for one in invoke("explain", "-", "--output", "json", stdin=line()).data.splitlines()]
    went = {one["field"]: one["went_to"] for one in story["fields"]}
    assert set(went) == set(ALERT)
    assert went["PodName"] == {"k8s.pod.name": "web-1"}
    assert went["Severity"]["kubearmor.severity"] == 5
    assert went["Result"]["kubearmor.outcome"] == "denied"
    assert "process.command_line" in went["Resource"]
    assert story["kind"] == "alert"
    assert "log.record.uid" in story["made"]


def test_the_story_for_people_names_place_field_attribute_and_note() -> None:
    text = invoke("explain", stdin=line()).data
    assert text.startswith("stdin:1  alert\n")
    assert "-> k8s.pod.name\n" in text
    assert "-> kubearmor.outcome = denied\n" in text


def test_the_fields_of_a_message_are_explained_by_themselves() -> None:
    message = {
        "Timestamp": 1,
        "HostName": "n-1",
        "HostIP": "10.0.0.4",
        "Level": "WARN",
        "Message": "m",
        "Type": "Message",
    }
    (story,) = [json.loads(invoke("explain", "-", "--output", "json", stdin=json.dumps(message)).data)]
    told = {one["field"]: (one["went_to"], one["note"]) for one in story["fields"]}
    assert story["kind"] == "message"
    assert told["HostIP"][0] == {"host.ip": ["10.0.0.4"]}
    assert told["Level"][0] == {"kubearmor.level": "WARN", "severityNumber": 13, "severityText": "WARN"}
    assert told["HostName"][1] == "The node's name too, in Kubernetes."
    assert not [field for field, (_, note) in told.items() if "above" in note]


def test_unknown_keys_are_noted_and_ignored() -> None:
    ended = invoke("explain", "--output", "otlp-json", stdin=line(Typ="x"))
    assert (ended.code, len(ended.data.splitlines())) == (0, 1)
    assert "stdin:1: KubeArmor has no field for Typ; ignored." in ended.talk


def test_a_bad_line_is_named_and_the_others_are_explained_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(f"{line()}\nnonsense\n{line(PID='x')}{line()}", encoding="utf-8")
    ended = invoke("explain", str(file), "--output", "otlp-json")
    assert (ended.code, len(ended.data.splitlines())) == (1, 2)
    assert f"{file}:3: not JSON" in ended.talk
    assert f"{file}:4: PID must be a whole number" in ended.talk
    assert "2 parts of it were not an event." in ended.talk


def test_the_gates_rules_and_redactions_apply(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text(
        "gate:\n"
        "  rules: [{name: quiet, action: drop, namespace: [kube-*]}]\n"
        "  redact: [{name: word, pattern: secret}]\n"
        "send: {ca_file: /nowhere}\n",  # nothing is dialled, so it need not be there
        encoding="utf-8",
    )
    events = line() + line(NamespaceName="kube-system")
    documents = invoke("explain", "--config", str(file), "--output", "otlp-json", stdin=events)
    assert len(documents.data.splitlines()) == 1
    assert "secret" not in documents.data
    assert "stdin:2: dropped by the rule quiet." in documents.talk
    text = invoke("explain", "--config", str(file), stdin=events).data
    assert "1 secrets blacked out." in text
    assert "Dropped by the rule quiet." in text


def test_what_an_attacker_writes_cannot_steer_the_terminal() -> None:
    for output in ("text", "json", "otlp-json"):
        text = invoke("explain", "--output", output, stdin=line(Resource="\x1b[2J\u202e\x7f")).data
        assert not set(text) & set("\x1b\x7f\u202e")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    ended = invoke("explain", str(tmp_path / "nowhere"))
    assert (ended.code, "cannot be read: No such file" in ended.talk) == (3, True)
