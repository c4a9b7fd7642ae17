from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from otelbridge.settings.tree import BridgeSettings
from tests.peers.presence import ROOT, required

DOCKERFILE = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its argument, continuation lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name.upper(), argument.strip()) for name, _, argument in (line.partition(" ") for line in lines) if name]


def final_stage() -> list[tuple[str, str]]:
    """What the image itself is made by: everything after the last FROM."""
    found = instructions()
    last = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return found[last + 1 :]


def only(name: str) -> str:
    """The argument of the one instruction of that name in the final stage."""
    (argument,) = [argument for instruction, argument in final_stage() if instruction == name]
    return argument


def test_the_linter_finds_nothing() -> None:
    hadolint = required(Path(sys.executable).parent / "hadolint", name="hadolint", cure="make setup")
    found = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False, cwd=ROOT)
    assert found.returncode == 0, found.stdout + found.stderr


def test_both_bases_are_arguments_with_a_tag_that_does_not_follow_the_latest() -> None:
    bases = {argument.partition(" ")[0] for name, argument in instructions() if name == "FROM"}
    assert bases == {"${BUILD_IMAGE}", "${RUN_IMAGE}"}
    defaults = dict(
        argument.split("=", 1) for name, argument in instructions() if name == "ARG" and "_IMAGE=" in argument
    )
    for image in defaults.values():
        assert re.search(r":[\w.-]+$", image), f"{image} has no tag"
        assert not image.endswith(":latest")


def test_the_user_is_a_number_and_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", only("USER"))


@pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD"])
def test_the_program_is_started_without_a_shell(name: str) -> None:
    assert isinstance(json.loads(only(name)), list)


def test_the_image_runs_nothing_while_it_is_made() -> None:
    assert "RUN" not in {name for name, _ in final_stage()}, "its base has nothing to run it with"


def test_packages_are_installed_by_hash_from_the_lock_and_as_wheels() -> None:
    installs = [
        argument for name, argument in instructions() if name == "RUN" and '"install"' in argument and "pip" in argument
    ]
    from_index = [argument for argument in installs if "--no-index" not in argument]
    assert from_index
    for argument in from_index:
        assert {"--require-hashes", "--only-binary=:all:"} <= set(json.loads(argument))
        lock = "locks/sbom.txt" if '"/sbom/bin/pip"' in argument else "locks/run.txt"
        assert lock in json.loads(argument)


def test_what_is_for_building_only_is_taken_out_of_the_image_and_the_bill_alike() -> None:
    (uninstall,) = [argument for name, argument in instructions() if name == "RUN" and '"uninstall"' in argument]
    (line,) = re.findall(r"^BUILD_ONLY := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    words = json.loads(uninstall)
    assert words[words.index("-y") + 1 :] == line.split()


def test_a_signal_of_kubernetes_drains_the_bridge() -> None:
    assert only("STOPSIGNAL") == "SIGTERM"


def test_the_labels_say_what_it_is() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', only("LABEL")))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert labels["title"] == project["name"]
    assert labels["description"] == project["description"]
    assert labels["licenses"] == project["license"]
    assert {"version", "revision", "created"} <= set(labels)


def test_the_build_context_holds_what_is_copied_and_little_else() -> None:
    allowed = {
        line.removeprefix("!").strip("/")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        source.strip("/")
        for name, argument in instructions()
        if name == "COPY" and "--from" not in argument
        for source in argument.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_the_guides_docker_run_starts_it_as_the_image_and_the_unit_have_it() -> None:
    guide = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^docker run (.*)$", guide.replace("\\\n", " "), re.MULTILINE)
    words = shlex.split(line)
    at = words.index("REGISTRY/otelbridge:0.1.0")
    (started,) = re.findall(
        r"^ExecStart=\S+ (.*)$", (ROOT / "packaging" / "otelbridge.service").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert words[at + 1 :] == started.split()
    volumes = [words[index + 1].split(":")[1] for index, word in enumerate(words[:at]) if word == "--volume"]
    assert json.loads(only("VOLUME"))[0] in volumes
    assert {"--read-only", "--cap-drop", "--network"} <= set(words[:at])
    assert int(words[words.index("--stop-timeout") + 1]) >= BridgeSettings().drain_seconds + 15
