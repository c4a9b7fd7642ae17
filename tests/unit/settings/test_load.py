from __future__ import annotations

from pathlib import Path

import pytest

from otelbridge.settings.load import load
from otelbridge.settings.tree import Settings, SettingsError
from tests.unit.settings.loading import loaded, problems

FAULTY_FILE = """\
feed:
  retry: {max_second: 3, initial_seconds: 30s}
  endpoints: ['http://relay:1']
quue: {}
send: {protocol: gprc, headers: {authorization: 5}}
status: 5
gate: {rules: [{name: a, action: drp, namepace: [x]}, {action: drop}]}
"""


def test_without_anything_the_defaults_are_in_force() -> None:
    found = loaded()
    assert found.settings.feed == Settings().feed
    assert found.origin("feed.endpoints") == "default"
    assert found.settings.send.endpoint == "http://localhost:4317"


def test_a_flag_beats_own_variable_beats_standard_variable_beats_file_beats_default(tmp_path: Path) -> None:
    text = "send: {endpoint: 'http://file:1'}"
    standard = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://standard:1"}
    own = {"OTELBRIDGE_SEND__ENDPOINT": "http://own:1"}
    flag = {"--endpoint": "http://flag:1"}
    ladder = [
        (loaded(text, folder=tmp_path), "http://file:1", f"file {tmp_path}/bridge.yaml:1"),
        (loaded(text, standard, folder=tmp_path), "http://standard:1", "environment OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"),
        (loaded(text, standard | own, folder=tmp_path), "http://own:1", "environment OTELBRIDGE_SEND__ENDPOINT"),
        (loaded(text, standard | own, flag, folder=tmp_path), "http://flag:1", "flag --endpoint"),
    ]
    for found, endpoint, origin in ladder:
        assert (found.settings.send.endpoint, found.origin("send.endpoint")) == (endpoint, origin)


def test_a_list_from_a_higher_place_replaces_the_lower_one_whole(tmp_path: Path) -> None:
    found = loaded("feed: {endpoints: [a, b]}", {"OTELBRIDGE_FEED__ENDPOINTS": "c:1, d"}, folder=tmp_path)
    assert found.settings.feed.endpoints == ("c:1", "d:32767")


@pytest.mark.parametrize("text", ["a,b", '["a", "b"]', " a , b ,"])
def test_lists_come_as_json_or_with_commas(text: str) -> None:
    assert loaded(environment={"OTELBRIDGE_FEED__ENDPOINTS": text}).settings.feed.endpoints == ("a:32767", "b:32767")


@pytest.mark.parametrize(
    "text", ["[fd00::1]:1,[fd00::2]", " [fd00::1]:1 , fd00::2", '["[fd00::1]:1", "[fd00::2]:32767"]']
)
def test_an_ipv6_address_in_brackets_is_no_json(text: str) -> None:
    found = loaded(environment={"OTELBRIDGE_FEED__ENDPOINTS": text})
    assert found.settings.feed.endpoints == ("[fd00::1]:1", "[fd00::2]:32767")


@pytest.mark.parametrize("address", ["10.0.0.7", "fd00::7"])
def test_a_nodes_address_and_a_port_are_an_upstream_whatever_its_family(address: str, tmp_path: Path) -> None:
    found = loaded('feed: {endpoints: ["${env:HOST_IP}:32767"]}', {"HOST_IP": address}, folder=tmp_path)
    assert found.settings.feed.endpoints == (f"[{address}]:32767" if ":" in address else f"{address}:32767",)


@pytest.mark.parametrize("text", ["a=1,b=2=3", '{"a": "1", "b": "2=3"}'])
def test_maps_come_as_json_or_as_pairs(text: str) -> None:
    found = loaded(environment={"OTELBRIDGE_MAPPING__RESOURCE_ATTRIBUTES": text})
    assert found.settings.mapping.resource_attributes == {"a": "1", "b": "2=3"}


def test_an_empty_variable_counts_as_not_set() -> None:
    assert loaded(environment={"OTELBRIDGE_FEED__ENDPOINTS": ""}).origin("feed.endpoints") == "default"


def test_set_reaches_every_setting_and_says_so() -> None:
    found = loaded(flags={"--set": ["feed.retry.max_seconds=20", "gate.redact_common_secrets=true"]})
    assert found.settings.feed.retry.max_seconds == 20
    assert found.settings.gate.redact_common_secrets is True
    assert found.origin("feed.retry.max_seconds") == "flag --set feed.retry.max_seconds"


def test_a_repeated_flag_makes_a_list() -> None:
    assert loaded(flags={"--kubearmor": ["a", "b:1"]}).settings.feed.endpoints == ("a:32767", "b:1")


def test_rules_come_through_the_environment_as_json() -> None:
    rules = '[{"name": "quiet", "action": "drop", "namespace": ["kube-*"]}]'
    found = loaded(environment={"OTELBRIDGE_GATE__RULES": rules})
    assert found.settings.gate.rules[0].namespace == ("kube-*",)


def test_all_problems_are_reported_at_once_each_with_place_and_cure(tmp_path: Path) -> None:
    found = problems(
        FAULTY_FILE,
        {"OTELBRIDGE_FEED__STREAM": "alerts"},
        {"--set": ["nonsense"], "--status-port": "many"},
        folder=tmp_path,
    )
    assert {path: (one.wrong, one.cure) for path, one in found.items()} == {
        "feed.retry.max_second": ("there is no such setting", "Did you mean max_seconds?"),
        "feed.retry.initial_seconds": ("is not a number", "The unit stands in the name: write 30."),
        "feed.endpoints[0]": (
            "is a URL, but KubeArmor is dialled by host and port",
            "Write `host`, `host:port`, `address:port` or `[IPv6 address]:port`.",
        ),
        "quue": ("there is no such setting", "Did you mean queue?"),
        "send.protocol": ("must be one of grpc, http/protobuf, console", "Did you mean grpc?"),
        "send.headers.authorization": ("is not text", "Put it in quotes."),
        "status": ("is a section, not a value", "Write its keys below it, each on its own line."),
        "gate.rules[0].action": ("must be one of keep, drop", "Did you mean drop?"),
        "gate.rules[0].namepace": ("there is no such setting", "Did you mean namespace?"),
        "gate.rules[1].name": ("is missing", "Add it."),
        "OTELBRIDGE_FEED__STREAM": ("there is no such setting", "Did you mean OTELBRIDGE_FEED__STREAMS?"),
        "nonsense": ("is not of the form PATH=VALUE", "Write, for example, --set feed.retry.max_seconds=30."),
        "status.port": ("is not a whole number", "Write digits only."),
    }
    assert found["quue"].origin == f"file {tmp_path}/bridge.yaml:4"
    assert found["feed.endpoints[0]"].origin == f"file {tmp_path}/bridge.yaml:3"
    assert found["status.port"].origin == "flag --status-port"


def test_a_problem_shows_the_value_but_never_a_secret(tmp_path: Path) -> None:
    found = problems("send: {headers: {authorization: 12345}, timeout_seconds: -1}", folder=tmp_path)
    assert found["send.timeout_seconds"].value == "-1"
    assert "12345" not in str(found["send.headers.authorization"])


def test_a_number_with_a_unit_gets_told_the_number() -> None:
    found = problems(environment={"OTELBRIDGE_QUEUE__MAX_BYTES": "512MiB", "OTELBRIDGE_QUEUE__MAX_AGE_SECONDS": "2h"})
    assert found["queue.max_bytes"].cure == "The unit stands in the name: write 536870912."
    assert found["queue.max_age_seconds"].cure == "The unit stands in the name: write 7200."


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e300", "1" + "0" * 400])
def test_numbers_that_no_machine_can_keep_to_are_refused(number: str) -> None:
    found = problems(environment={"OTELBRIDGE_QUEUE__MAX_AGE_SECONDS": number})
    assert "queue.max_age_seconds" in found


def test_broken_json_in_a_variable_says_where_it_breaks() -> None:
    found = problems(environment={"OTELBRIDGE_GATE__RULES": '[{"name": }]'})
    assert "not valid JSON" in found["gate.rules"].wrong
    assert found["gate.rules"].origin == "environment OTELBRIDGE_GATE__RULES"


def test_a_broken_map_is_not_shown_since_it_may_be_secret() -> None:
    found = problems(environment={"OTELBRIDGE_SEND__HEADERS": "hunter2"})
    assert "hunter2" not in str(found["send.headers"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTELBRIDGE_SERVICE_HOST", "10.0.0.1"),
        ("OTELBRIDGE_SERVICE_PORT", "32799"),
        ("OTELBRIDGE_SERVICE_PORT_STATUS", "32799"),
        ("OTELBRIDGE_PORT", "tcp://10.0.0.1:32799"),
        ("OTELBRIDGE_PORT_32799_TCP", "tcp://10.0.0.1:32799"),
        ("OTELBRIDGE_PORT_32799_TCP_ADDR", "10.0.0.1"),
        ("OTELBRIDGE_STATUS_PORT", "tcp://10.0.0.1:32799"),
    ],
)
def test_variables_that_kubernetes_makes_from_a_service_of_that_name_are_no_error(name: str, value: str) -> None:
    assert loaded(environment={name: value}).settings.feed == Settings().feed


def test_a_port_in_a_mistyped_variable_is_an_error() -> None:
    assert problems(environment={"OTELBRIDGE_STATUS_PORT": "80"})["OTELBRIDGE_STATUS_PORT"].cure == (
        "Did you mean OTELBRIDGE_STATUS__PORT?"
    )


@pytest.mark.parametrize("value", ["9" * 100_000, "a" * 100_000])
def test_a_problem_with_a_huge_value_is_still_a_line_to_read(value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environment={}, flags={"--set": [f"send.endpoint={value}", value, f"{value}=1"]})
    assert all(len(str(problem)) < 2500 for problem in caught.value.problems)
