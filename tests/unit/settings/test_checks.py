from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from otelbridge.settings.load import load
from tests.unit.settings.loading import loaded, problems

NO_NAME = "is no name of a host: a part between its dots is empty, or longer than 63 characters"
NO_NAMES = [
    *((f"feed: {{endpoints: ['{host}:1']}}", "feed.endpoints[0]", NO_NAME) for host in ("a..b", "LONG.b", "a." * 130)),
    ("feed: {tls: {enabled: true, server_name: a..b}}", "feed.tls.server_name", NO_NAME),
    ("send: {endpoint: 'http://a..b:4317'}", "send.endpoint", NO_NAME),
    ("send: {endpoint: 'https://LONG/v1/logs', protocol: http/protobuf}", "send.endpoint", NO_NAME),
    ("send: {server_name: LONG}", "send.server_name", NO_NAME),
    ("send: {proxy: {https: 'http://a..b:3128'}}", "send.proxy.https", "is no address of a proxy"),
    ("telemetry: {traces: {endpoint: 'http://a..b:4317'}}", "telemetry.traces.endpoint", NO_NAME),
    *((f"status: {{host: {host}}}", "status.host", "is neither an address nor a name") for host in (
        "''", "' '", "a..b", "LONG", "'*'", "'[::1]'", "h:1", "'http://h'", r'"\u202e"', r'"\ufeff"', r'"\ud800"',
    )),
]  # fmt: skip
"""What a resolver or TLS would raise for at each attempt."""
OTHER_CHARACTERS = "has other characters than a URL"
LEAKING_SPANS = "send: {headers: {authorization: hunter2}, endpoint: 'https://c:1', traces_endpoint: 'http://c:1'}"
ENDPOINTS = [
    ("send: {endpoint: 'http://c:0/v1/logs', protocol: http/protobuf}", "send.endpoint", "has the port 0"),
    ("send: {endpoint: 'http://c/ä', protocol: http/protobuf}", "send.endpoint", OTHER_CHARACTERS),
    ("send: {endpoint: 'http://c/in?a=ä', protocol: http/protobuf}", "send.endpoint", OTHER_CHARACTERS),
    ('send: {endpoint: "http://c/\\e[31m", protocol: http/protobuf}', "send.endpoint", OTHER_CHARACTERS),
    ("send: {endpoint: 'c:0'}", "send.endpoint", "has the port 0"),
    ("send: {proxy: {http: 'http://a b:1'}}", "send.proxy.http", "is no address of a proxy"),
    ("send: {traces_endpoint: 'tcp://c:1'}", "send.traces_endpoint", "has the scheme tcp"),
    ("send: {traces_endpoint: 'https://u:hunter2@c:1'}", "send.traces_endpoint", "carries a user or password"),
    ("send: {protocol: http/protobuf, traces_endpoint: 'http://c/v1/logs'}", "send.traces_endpoint", "something else"),
    (f"mapping: {{process_traces: true}}\n{LEAKING_SPANS}", "send.traces_endpoint", "is not encrypted"),
]
"""What a sender would raise for, or send elsewhere than is written."""


@pytest.mark.parametrize(
    ("text", "path", "wrong"),
    [
        ("feed: {endpoints: ['a:1', 'a:1']}", "feed.endpoints", "is there twice"),
        ("feed: {endpoints: ['a:x']}", "feed.endpoints[0]", "has the port 'x'"),
        ("feed: {endpoints: ['a:70000']}", "feed.endpoints[0]", "has the port '70000'"),
        ("feed: {endpoints: ['a:1?token=hunter2']}", "feed.endpoints[0]", "has the port '1?token=(secret)"),
        ("feed: {endpoints: [':1']}", "feed.endpoints[0]", "names no host"),
        ("feed: {endpoints: ['[x]:1']}", "feed.endpoints[0]", "is not an IPv6 address"),
        ("feed: {endpoints: ['a b']}", "feed.endpoints[0]", "holds characters that no host name has"),
        ("feed: {endpoints: []}", "feed.endpoints", "is empty"),
        ("feed: {streams: [alert]}", "feed.streams[0]", "must be one of alerts, logs, messages"),
        ("feed: {streams: [gaps]}", "feed.streams[0]", "must be one of alerts, logs, messages"),
        ("feed: {retry: {initial_seconds: 60}}", "feed.retry.initial_seconds", "is above feed.retry.max_seconds"),
        ("send: {retry_initial_seconds: 90}", "send.retry_initial_seconds", "is above send.retry_max_seconds"),
        ("feed: {heartbeat: {timeout_seconds: 60}}", "feed.heartbeat.timeout_seconds", "is above feed.heartbeat"),
        ("feed: {keepalive: {time_seconds: 1}}", "feed.keepalive.time_seconds", "must be at least 10"),
        ("feed: {tls: {ca_file: /x}}", "feed.tls.ca_file", "is given, but feed.tls.enabled is false"),
        ("feed: {tls: {enabled: true, cert_file: /x}}", "feed.tls.cert_file", "is given without key_file"),
        ("send: {key_file: /x}", "send.key_file", "is given without cert_file"),
        ("send: {endpoint: 'http://c'}", "send.endpoint", "has no port"),
        ("send: {endpoint: c}", "send.endpoint", "has no port"),
        ("send: {endpoint: 'tcp://c:1'}", "send.endpoint", "has the scheme tcp"),
        ("send: {endpoint: 'http://:4317'}", "send.endpoint", "has no host"),
        ("send: {endpoint: 'http://c:4317/v1/logs'}", "send.endpoint", "has the path /v1/logs"),
        ("send: {endpoint: 'http://c:99999'}", "send.endpoint", "is not a valid URL"),
        ("send: {endpoint: 'https://u:hunter2@c:1'}", "send.endpoint", "carries a user or password"),
        ("send: {endpoint: 'c:4318', protocol: http/protobuf}", "send.endpoint", "has no scheme"),
        ("send: {endpoint: 'http://c/otlp/v1/traces', protocol: http/protobuf}", "send.endpoint", "something else"),
        ("send: {endpoint: 'http://c/v1/metrics/?a=b', protocol: http/protobuf}", "send.endpoint", "something else"),
        ("send: {endpoint: 'http://c:1', headers: {authorization: hunter2}}", "send.endpoint", "is not encrypted"),
        *ENDPOINTS,
        ("{mapping: {process_traces: true}, send: {protocol: http/protobuf, endpoint: 'http://c/in'}}",
         "send.traces_endpoint", "is needed"),
        ("feed: {max_message_bytes: 167772161}", "feed.max_message_bytes", "is above bridge.under_way_max_bytes"),
        ("{gate: {flood: {rate_per_second: 1}}, queue: {retain_seconds: 9, retain_max_bytes: 0}}",
         "gate.flood.rate_per_second", "queue.retain_max_bytes is 0"),
        ("send: {headers: {'a b': c}}", "send.headers", "'a b' is not a header's name"),
        ('send: {headers: {x: "a\\n"}}', "send.headers", "the value of 'x' holds a line break"),
        ("send: {headers: {content-type: c}}", "send.headers", "which the protocol sets itself"),
        ("send: {endpoint: 'http://c:1', headers: {x-session: hunter2}}", "send.endpoint", "is not encrypted"),
        ("telemetry: {traces: {endpoint: 'c'}}", "telemetry.traces.endpoint", "has no port"),
        ("gate: {rules: [{name: a, action: drop}, {name: a, action: keep}]}", "gate.rules", "names two entries"),
        *((setting.replace("LONG", "a" * 64), path, wrong) for setting, path, wrong in NO_NAMES),
        ("gate: {redact: [{name: a, pattern: '('}]}", "gate.redact[0].pattern", "is not a regular expression"),
        ("gate: {rules: [{name: a, action: drop, min_severity: 5, max_severity: 2}]}",
         "gate.rules[0].min_severity", ""),
        ("mapping: {severity: {x: {1: 9}}}", "mapping.severity", "is not a situation"),
        ("mapping: {resource_attributes: {v: 1.10}}", "mapping.resource_attributes.v", "is not text"),
        ("queue: {directory: /dev/null}", "queue.directory", "is not a folder"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_path(tmp_path: Path, text: str, path: str, wrong: str) -> None:
    found = problems(text, folder=tmp_path)
    assert wrong in found[path].wrong
    assert found[path].cure
    assert found[path].origin.startswith("file ")
    assert "hunter2" not in str(found[path])


def test_credentials_in_plaintext_are_taken_when_told(tmp_path: Path) -> None:
    text = "send: {endpoint: 'http://c:1', headers: {authorization: a}, allow_plaintext_credentials: true}"
    assert loaded(text, folder=tmp_path).settings.send.headers == {"authorization": "a"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_credentials_may_go_to_this_very_machine_in_plaintext(tmp_path: Path, host: str) -> None:
    text = f"send: {{endpoint: 'http://{host}:4317', headers: {{authorization: a}}}}"
    assert loaded(text, folder=tmp_path).settings.send.headers == {"authorization": "a"}


def test_a_fault_behind_several_settings_is_reported_once() -> None:
    found = problems(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"})
    assert list(found) == ["send.endpoint"]


@pytest.mark.parametrize("key", ["feed.tls.ca_file", "send.ca_file", "send.token_file", "telemetry.traces.ca_file"])
def test_a_file_that_is_not_there_or_empty_is_named(tmp_path: Path, key: str) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for file, wrong in ((tmp_path / "nowhere", "cannot be read: No such file"), (empty, "is empty")):
        sets = [f"{key}={file}", "feed.tls.enabled=true", "send.endpoint=https://c:4317"]
        assert wrong in problems(flags={"--set": sets})[key].wrong


@pytest.mark.parametrize(
    ("key", "content", "wrong"),
    [
        ("send.token_file", b"hunter2 hunter2", "holds no token"),
        ("send.token_file", b"hunter2\x1b[31m", "does not work: the value of 'authorization'"),
        ("send.token_file", b"hunter2\xff", "is not text"),
        ("send.headers_file", b"x-a=1\nhunter2", "line 2 is not name=value"),
        ("send.headers_file", b"x-a=hunter2%0a", "does not work: the value of 'x-a'"),
        ("send.headers_file", b"te=hunter2", "which the protocol sets itself"),
    ],
)
def test_a_file_that_the_sender_would_refuse_is_named(tmp_path: Path, key: str, content: bytes, wrong: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    problem = problems(flags={"--set": [f"{key}={file}", "send.endpoint=https://c:4317"]})[key]
    assert wrong in problem.wrong
    assert problem.cure.endswith(".")
    assert len(problem.cure) > 1
    assert "hunter2" not in str(problem)


def test_credentials_of_a_file_are_not_sent_in_plaintext(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("authorization=hunter2")
    sets = [f"send.headers_file={file}", "send.endpoint=http://c:4317"]
    assert "would be sent unencrypted" in problems(flags={"--set": sets})["send.headers_file"].wrong
    assert loaded(flags={"--set": [*sets, "send.allow_plaintext_credentials=true"]}).settings.send.headers_file == file


def test_a_mark_at_the_begin_of_a_token_is_no_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xef\xbb\xbftoken\r\n")
    sets = [f"send.token_file={file}", "send.endpoint=https://c:4317"]
    assert loaded(flags={"--set": sets}).settings.send.token_file == file


def test_files_are_left_alone_where_nothing_is_dialled() -> None:
    found = load(environment={}, flags={"--set": ["send.ca_file=/nowhere"]}, check_files=False)
    assert found.settings.send.ca_file == Path("/nowhere")


def test_a_certificate_and_a_key_must_belong_together(tmp_path: Path) -> None:
    authority = trustme.CA()
    for name in ("one", "two"):
        issued = authority.issue_cert(name)
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.crt")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    base = ["feed.tls.enabled=true", f"feed.tls.ca_file={tmp_path}/ca.crt", f"feed.tls.cert_file={tmp_path}/one.crt"]
    assert loaded(flags={"--set": [*base, f"feed.tls.key_file={tmp_path}/one.key"]}).settings.feed.tls.enabled
    found = problems(flags={"--set": [*base, f"feed.tls.key_file={tmp_path}/two.key"]})
    assert "is not the key of the certificate" in found["feed.tls.key_file"].wrong


def test_garbage_is_no_ca_bundle(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("garbage", encoding="utf-8")
    found = problems(flags={"--set": ["feed.tls.enabled=true", f"feed.tls.ca_file={tmp_path}/ca.crt"]})
    assert "holds no certificate" in found["feed.tls.ca_file"].wrong


@pytest.mark.parametrize(
    ("sets", "note"),
    [
        (["send.endpoint=http://c:4318"], "send.protocol is grpc. Is http/protobuf meant?"),
        (["send.endpoint=http://c:4317/v1/logs", "send.protocol=http/protobuf"], "Is grpc meant?"),
        (["send.endpoint=http://c:4318", "send.protocol=http/protobuf"], "collectors take logs at /v1/logs"),
        (["send.endpoint=https://c:4317", "send.insecure=true"], "the scheme wins"),
    ],
)
def test_what_is_valid_but_seldom_meant_is_noted(sets: list[str], note: str) -> None:
    assert any(note in one for one in loaded(flags={"--set": sets}).notes)


def test_certificates_that_are_out_of_date_are_noted_once_per_file_and_the_bridge_starts(tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("otelbridge", not_after=datetime(2020, 2, 3, tzinfo=UTC))
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    leaf.cert_chain_pems[0].write_to_path(cert)
    leaf.private_key_pem.write_to_path(key)
    text = f"send: {{endpoint: 'https://c:4317', cert_file: {cert}, key_file: {key}}}"

    cure = "Renew the file; the bridge reads it again by itself."
    assert loaded(text, folder=tmp_path).notes == (
        f"send.cert_file ({cert}): the certificate expired on 2020-02-03 00:00 UTC. {cure}",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("QUEUE__DIRECTORY", "a\0b"),
        ("SEND__SERVER_NAME", "\ud800"),
        ("SEND__HEADERS", "a=\ud800"),
        ("QUEUE__DIRECTORY", "."),
        ("GATE__RULES", "[" * 100_000),
    ],
)
def test_text_that_nothing_can_be_given_is_refused(name: str, text: str) -> None:
    path = name.lower().replace("__", ".")
    assert path in problems(environment={f"OTELBRIDGE_{name}": text})


@pytest.mark.parametrize("path", ["gate.redact_common_secrets=true", "mapping.keep_original=true", "mapping.body=json"])
def test_a_setting_that_costs_the_fast_path_is_noted(path: str) -> None:
    (note,) = [note for note in loaded(flags={"--set": [path]}).notes if "fast path" in note]
    assert path.partition("=")[0] in note


def test_rules_and_shown_events_cost_no_note() -> None:
    rules = 'gate.rules=[{"name": "a", "action": "drop", "namespace": ["x"]}]'
    notes = loaded(flags={"--set": [rules, "status.show_events=10"]}).notes
    assert not [note for note in notes if "fast path" in note]
