"""`simulate endpoint` as a process: it shows what comes, answers as it is told, and says what it knows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from otelbridge.queue.model import Hold, Outcome
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from tests.records import request_of

COMMAND = [sys.executable, "-m", "otelbridge", "simulate", "endpoint", "--grpc-port", "0", "--http-port", "0"]


def played(*options: str) -> tuple[Outcome, list[str]]:
    """Sends two records; what came of them, and what the process printed behind its addresses."""
    process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    addresses = json.loads(process.stdout.readline())
    settings = {"protocol": "http/protobuf", "endpoint": f"{addresses['http']}/v1/logs"}
    sender = open_sender(section_from(SendSettings, settings), version="1")
    outcome = sender.send(request_of("first \x1b[31m", "second"), records=2)
    sender.close()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    return outcome, output.splitlines()


def test_it_prints_each_record_as_a_line_when_asked_to() -> None:
    _, (first, second, *counts) = played("--print")
    assert json.loads(first)["body"] == "first \x1b[31m"
    assert "\x1b" not in first
    assert json.loads(second)["resource"] == {"host.name": "node-1"}
    assert json.loads("".join(counts))["records"] == 2


def test_it_answers_as_it_is_told() -> None:
    outcome, output = played("--answer", "page")
    assert isinstance(outcome, Hold)
    assert json.loads("".join(output))["records"] == 0


def test_it_lists_the_answers_and_refuses_others() -> None:
    listed = subprocess.run([*COMMAND, "--list-answers"], capture_output=True, text=True, check=True)
    assert "bad-sources" in listed.stdout
    wrong = subprocess.run([*COMMAND, "--answer", "nonsense"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "--list-answers" in wrong.stderr
