from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from otelbridge import __version__
from otelbridge.settings.tree import leaves
from tests.unit.cli.invoking import invoke


def test_show_names_every_setting_with_value_and_origin() -> None:
    ended = invoke("config", "show", OTELBRIDGE_FEED__ENDPOINTS="relay:1")
    assert ended.code == 0
    assert len(ended.data.splitlines()) == 1 + len(list(leaves()))
    assert any(
        line.split() == ["feed.endpoints", '["relay:1"]', "environment", "OTELBRIDGE_FEED__ENDPOINTS"]
        for line in ended.data.splitlines()
    )


def test_show_as_json_hides_secrets() -> None:
    ended = invoke("config", "show", "--output", "json", "--set", "send.headers=authorization=hunter2")
    assert ended.json()["send.headers"] == {"value": {"authorization": "(secret)"}, "origin": "flag --set send.headers"}
    assert "hunter2" not in ended.data


def test_show_can_leave_out_what_is_default() -> None:
    assert "queue.directory" not in invoke("config", "show", "--changed").data


def test_check_says_yes() -> None:
    ended = invoke("config", "check")
    assert (ended.code, ended.data) == (0, "The settings are good.\n")


def test_check_lists_every_problem_on_stderr_and_exits_with_2(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text("feed: {endpoint: a}\nstatus: {port: x}\n", encoding="utf-8")
    ended = invoke("config", "check", "--config", str(file))
    assert (ended.code, ended.data) == (2, "")
    assert "The settings cannot be used, for 2 reasons:" in ended.talk
    assert f"feed.endpoint: there is no such setting. Did you mean endpoints? (file {file}:1)" in ended.talk
    assert f"status.port = x: is not a whole number. Write digits only. (file {file}:2)" in ended.talk


def test_check_as_json_lists_the_problems() -> None:
    ended = invoke("config", "check", "--output", "json", "--set", "status.port=x")
    assert (ended.code, ended.json()["ok"]) == (2, False)
    assert [problem["path"] for problem in ended.json()["problems"]] == ["status.port"]


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text("status: {port: 81}\n", encoding="utf-8")
    ended = invoke("config", "show", "--output", "json", OTELBRIDGE_CONFIG=str(file))
    assert ended.json()["status.port"]["value"] == 81


def test_schema_is_json_schema() -> None:
    assert invoke("config", "schema").json()["$schema"].startswith("https://json-schema.org/")


def test_init_prints_a_file_or_writes_it_but_never_over_another(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    assert "feed" in yaml.safe_load(invoke("config", "init").data)
    assert invoke("config", "init", str(file)).code == 0
    assert invoke("config", "check", "--config", str(file)).code == 0
    again = invoke("config", "init", str(file))
    assert again.code == 1
    assert "exists already" in again.talk


def test_what_a_file_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text('mapping: {body: "\\e[31mred"}\n', encoding="utf-8")
    assert "\x1b" not in invoke("config", "check", "--config", str(file)).talk


def test_version_is_one_line_and_full_names_the_libraries() -> None:
    assert invoke("version").data == f"{__version__}\n"
    assert invoke("--version").data == f"{__version__}\n"
    full = invoke("version", "--full", "--output", "json").json()
    assert {"otelbridge", "python", "grpcio", "sqlite"} <= set(full)


COMMANDS = (
    ("run",), ("demo",), ("simulate",), ("simulate", "endpoint"), ("explain",), ("doctor",), ("tail",), ("ledger",),
    ("version",), *(("config", name) for name in ("show", "check", "schema", "init")),
    *(("queue", name) for name in ("list", "show", "verify", "dead-letters", "resend", "discard", "export", "replay")),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_ends_with_two_examples_of_that_command(command: tuple[str, ...]) -> None:
    lines = invoke(*command, "--help").data.rstrip().splitlines()
    assert lines[-3].strip() == "Examples:"
    assert all(line.strip().startswith(" ".join(("otelbridge", *command))) for line in lines[-2:])


def test_an_unknown_command_is_wrong_usage() -> None:
    assert invoke("rum").code == 2


@pytest.mark.parametrize("command", ["version", "config"])
def test_a_light_command_does_not_load_what_only_others_need(command: str) -> None:
    heavy = ("grpc", "rich", "opentelemetry", "waitress", "cryptography")
    script = (
        "import sys, json\nfrom otelbridge.cli.application import application, asked_for\n"
        f"application(asked_for([{command!r}]))\n"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert json.loads(loaded.stdout) == []
