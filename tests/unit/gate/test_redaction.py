from __future__ import annotations

import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs import tables
from otelbridge.event import Stream
from otelbridge.gate.redact import MARK, SECRET_PATTERNS, blacken, redactors
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import GateSettings, RedactSettings, RuleSettings
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.setting import section_from

BUILT_IN = redactors(GateSettings(redact_common_secrets=True))
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


def blackened(text: str) -> str:
    return blacken(text, BUILT_IN, Counter())[0]


@pytest.mark.parametrize(
    "text",
    [
        "/usr/bin/app --password {}",
        "/usr/bin/app --password={} --port 3",
        "/usr/bin/app -password {}",
        "app --db-password={}",
        "app --api-key {}",
        "app --secret-key={}",
        "app --client-secret {}",
        "kubectl --token={} get pods",
        "mysql -u root -p{} shop",
        "/usr/bin/mysqldump --all -p{}",
        "mariadb -p{}",
        "sshpass -p {} ssh host",
        "redis-cli -h redis -a {} ping",
        "docker login -u me -p {} registry",
        "curl -u bob:{} https://x",
        "curl --user bob:{} https://x",
        "curl -H Authorization: Bearer {} https://x",
        "curl -H Authorization: Basic {} https://x",
        "curl -H X-Auth-Token: {}",
        "curl https://api/x?access_token={}&y=1",
        'curl -d {{"password":"{}"}}',
        "env DB_PASSWORD={} ./start",
        "env MYSQL_PWD={} mysql",
        "AWS_SECRET_ACCESS_KEY={} aws s3 ls",
        "psql postgres://user:{}@db:5432/shop",
        "amqp://u:{}@mq",
        "openssl enc -pass pass:{} -in x",
        "echo PASSWD: {}",
        "--passphrase {}",
    ],
)  # fmt: skip
def test_a_secret_is_blacked_out_and_the_rest_stays(text: str) -> None:
    assert blackened(text.format("hunter2hunter2")) == text.format(MARK)


@pytest.mark.parametrize(
    "token",
    ["AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1" * 18, "github_pat_" + "b2" * 20, "glpat-" + "c3" * 10,
     "xoxb-1234567890-abcdefghij", JWT],
)  # fmt: skip
def test_a_token_is_known_by_its_looks(token: str) -> None:
    assert blackened(f"run {token} now") == f"run {MARK} now"
    assert blackened(token) == MARK


def test_a_private_key_is_blacked_out() -> None:
    text = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
    assert blackened(text) == f"-----BEGIN RSA PRIVATE KEY-----{MARK}-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        "/usr/bin/apt update",
        "mkdir -p /srv/app",
        "app --password-file /run/secrets/db",
        "app --token-path /x",
        "PWD=/root OLDPWD=/tmp bash",
        "syscall=SYS_OPENAT fd=-100 flags=O_RDONLY",
        "cat /etc/passwd",
        "passwd",
        "cp secrets.yaml /tmp",
        "ssh -p 22 host",
        "curl https://example.com:8443/path",
        "http://host/a:b@c",
        "tar -u file",
        "/usr/bin/python tokenizer.py",
        "remoteip=10.0.0.1 port=80 protocol=TCP",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert blackened(text) == text


def test_every_text_of_the_command_is_looked_at_and_each_secret_counted() -> None:
    gate = Gate(GateSettings(redact_common_secrets=True))
    message = pb.Alert(
        Source="/bin/sh -c mysql -phunter2",
        Resource="/usr/bin/mysql -phunter2 --password=two",
        Data="syscall=SYS_EXECVE",
        ProcessName="/usr/bin/mysql",
        PolicyName="token=kept",
    )
    message.EventData.update({"Token": "hunter2", "Syscall": "SYS_EXECVE"})
    verdict = gate.judge(Stream.ALERTS, message)
    assert verdict.keep
    assert verdict.redactions == 4
    assert "hunter2" not in str(message)
    assert message.Source == f"/bin/sh -c mysql -p{MARK}"
    assert dict(message.EventData) == {"Token": MARK, "Syscall": "SYS_EXECVE"}
    assert message.PolicyName == "token=kept", "not one of the fields"
    assert gate.redactions == {"mysql_password": 2, "flag": 1, "assignment": 1}


def test_an_event_without_secrets_is_left_alone() -> None:
    gate = Gate(GateSettings(redact_common_secrets=True))
    message = pb.Log(Source="/bin/ls", Resource="/etc/passwd")
    before = message.SerializeToString()
    assert gate.judge(Stream.LOGS, message).redactions == 0
    assert message.SerializeToString() == before


def test_what_is_dropped_is_not_redacted() -> None:
    rule = RuleSettings(name="all", action="drop")
    gate = Gate(GateSettings(rules=(rule,), redact_common_secrets=True))
    message = pb.Log(Source="app --password x1")
    assert not gate.judge(Stream.LOGS, message).keep
    assert not gate.redactions


def test_an_operators_own_pattern_with_and_without_a_group() -> None:
    own = (
        RedactSettings(name="badge", pattern=r"badge-\d+"),
        RedactSettings(name="pin", pattern=r"pin (?P<secret>\d+)", fields=("Message",)),
    )
    gate = Gate(GateSettings(redact=own))
    message = pb.Message(Message="pin 1234 badge-7")
    gate.judge(Stream.MESSAGES, message)
    assert message.Message == f"pin {MARK} badge-7", "badge does not look into Message"
    event = pb.Log(Source="x badge-7 badge-8 pin 1234")
    assert gate.judge(Stream.LOGS, event).redactions == 2
    assert event.Source == f"x {MARK} {MARK} pin 1234"


@pytest.mark.parametrize(
    ("pattern", "unit"),
    [
        (r"(a+)+$", "a"), (r"(a|aa)+$", "a"), (r"(x+x+)+y", "x"), (r"(\w+\s?)*=x", "a "), (r"\S+@\S+", "a"),
        (r"[\w.+-]+@[\w-]+\.[\w.-]+", "a."), (r".*.*=x", "="), (r"key=\s*\s*x", "key= "), (r"\w{1,200}=", "a"),
        (r"[\pL\pN]{1,64}=", "ü"), ("a?" * 30 + "a" * 30, "a"), (r"^(([a-z])+.)+[A-Z]$", "a"), (r"(.*?,){11}P", ","),
    ],
)  # fmt: skip
def test_no_text_keeps_a_pattern_of_the_operators_busy(pattern: str, unit: str) -> None:
    own = redactors(section_from(GateSettings, {"redact": [{"name": "own", "pattern": pattern}]}))
    blacken("warm", own, Counter())
    started = time.thread_time()
    blacken(unit * (65_536 // len(unit)) + "\x01", own, Counter())
    assert time.thread_time() - started < 1, "with Python's engine minutes, years with some"


def test_addresses_are_blacked_out_among_letters_of_more_than_a_byte() -> None:
    own = redactors(GateSettings(redact=(RedactSettings(name="mail", pattern=r"[\w.+-]+@[\w-]+\.[\w.-]+"),)))
    assert blacken("Grüße 🦭 an jo@example.org, é: a@b.c", own, Counter())[0] == f"Grüße 🦭 an {MARK}, é: {MARK}"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", r"missing \)"), ("(?<=key=)x", r"invalid perl operator: \(\?<.*name what is to be blacked out"),
        (r"(a)\1", "invalid escape sequence"), ("a{99999}", "invalid repet"), ("\ud800", "is no character"),
        (r"(?:\pL{1,50}){1,20}=", "too large"),
        ("(((((((a{9}){9}){9}){9}){9}){9}){9})+", "invalid repet"), ("a*", "matches the empty text"),
        ("x" * 4_097, "longer than 4096"),
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_work_is_refused_with_its_cure(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=rf"pattern: .*(?:{why})"):
        section_from(RedactSettings, {"name": "x", "pattern": pattern})


def test_there_may_be_so_many_patterns() -> None:
    with pytest.raises(ValueError, match=r"redact: has 65 items. Write 64 at most"):
        section_from(GateSettings, {"redact": [{"name": "x", "pattern": "a"}] * 65})


def test_redacting_twice_changes_and_counts_nothing() -> None:
    once, hits = blacken("app --password=x1 token=abc", BUILT_IN, Counter())
    assert hits == 2
    assert blacken(once, BUILT_IN, Counter()) == (once, 0)


HURTFUL = [
    "-", "--", " -", " --", "--a-", "a-", "-eyJ", "eyJaaaaaaaa.", "token", "token ", "token=", "://", "a://b:",
    "a://:@", "authorization ", "authorization:", "bearer ", "xoxb-", "glpat-", "ghp_", "AKIA", "pass:", "-u ", "-u a",
    "-p ", "mysql ", "mysql -p", "sshpass -p", "PASSWORD ", "_pwd", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ",
    "\t", " ", "'", '"token" ', "api_key api-key", "a:", ":", "@",
]  # fmt: skip


@pytest.mark.parametrize("unit", HURTFUL)
def test_no_text_makes_a_pattern_slow(unit: str) -> None:
    """Four times the text takes about four times as long; a quadratic pattern would take sixteen times, and minutes."""
    short, long = unit * (16_384 // len(unit)), unit * (65_536 // len(unit))

    def cost(text: str) -> float:
        spent = []
        for _ in range(2):
            started = time.process_time()
            for kind in BUILT_IN:
                kind.pattern.search(text + "\x00")
                if kind.needs is not None:
                    kind.needs.search(text)
            blackened(text)
            spent.append(time.process_time() - started)
        return min(spent)

    assert cost(long) < 0.05 + 10 * cost(short)
    assert cost(long) < 1.5


@given(st.text(alphabet="ab-_=: /@.\"'pPtokensrdwuxyJe0", max_size=300))
def test_blackening_takes_nothing_but_secrets(text: str) -> None:
    result, hits = blacken(text, BUILT_IN, Counter())
    assert (result == text) is (hits == 0)
    assert result.count(MARK) >= (hits > 0)
    pattern = ".+".join(re.escape(part) for part in result.split(MARK))
    assert re.fullmatch(pattern, text, re.DOTALL)


def test_the_documentation_lists_every_pattern() -> None:
    assert all(f"| `{kind.name}` |" in tables.secrets() for kind in SECRET_PATTERNS)
    assert len({kind.name for kind in SECRET_PATTERNS}) == len(SECRET_PATTERNS)


def test_every_secret_of_a_text_is_counted() -> None:
    gate = Gate(GateSettings(redact_common_secrets=True))
    message = pb.Log(Source="a --password=x1 --token=x2 --api-key=x3", Resource="b --password=x4")
    assert gate.judge(Stream.LOGS, message).redactions == 4
    assert gate.redactions == {"flag": 4}


def test_of_an_entry_of_event_data_only_the_secret_is_blacked_out() -> None:
    gate = Gate(GateSettings(redact_common_secrets=True))
    message = pb.Log()
    message.EventData.update({"Args": "app --password=x1 --verbose /data", "Password": "x2"})
    assert gate.judge(Stream.LOGS, message).redactions == 2
    assert dict(message.EventData) == {"Args": f"app --password={MARK} --verbose /data", "Password": MARK}


def test_a_secret_in_the_key_of_an_entry_takes_its_value_along() -> None:
    gate = Gate(GateSettings(redact_common_secrets=True))
    message = pb.Log()
    message.EventData.update({"--password=x1": "value", "Path": "/data"})
    assert gate.judge(Stream.LOGS, message).redactions == 1
    assert message.EventData["--password=x1"] == MARK
    assert message.EventData["Path"] == "/data"


@pytest.mark.parametrize(("place", "found"), [(0, True), (131_000, True), (131_100, False)])
def test_what_no_record_shows_is_not_searched(place: int, found: bool) -> None:
    gate = Gate(GateSettings(redact_common_secrets=True))
    message = pb.Log(Source="y" * place + " --password=x1 " + "y" * 1_000_000)
    message.EventData["Args"] = message.Source
    assert gate.judge(Stream.LOGS, message).redactions == 2 * found
    for text in (message.Source, message.EventData["Args"]):
        assert (MARK in text) is found
        assert (len(text) < 140_000) is found, "what is behind is cut off"


def test_bytes_without_fields_are_blackened_as_a_whole() -> None:
    gate = Gate(GateSettings(redact_common_secrets=True))
    assert gate.without_secrets(b"\xff app --password=x1 \x00") == f"\xff app --password={MARK} \0".encode("latin-1")
    assert gate.redactions == {"flag": 1}
    body = b"--password=x1"
    assert Gate(GateSettings()).without_secrets(body) is body


def test_secrets_are_found_before_anything_is_changed() -> None:
    gate = Gate(GateSettings(redact_common_secrets=True))
    message = pb.Log(Source="app --password=x1")
    found = gate.secrets(Stream.LOGS, message)
    assert message.Source == "app --password=x1"
    assert found is not None
    found.apply(message)
    assert message.Source == f"app --password={MARK}"
