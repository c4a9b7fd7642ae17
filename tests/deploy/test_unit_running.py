"""The systemd unit under a genuine systemd, with the files and commands of docs/install.md as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.rendering import ROOT
from tests.peers.systemd import run_under_systemd

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(120)]

SECTION = (
    (ROOT / "docs" / "install.md")
    .read_text(encoding="utf-8")
    .partition("\n## On a machine without Kubernetes\n")[2]
    .partition("\n## ")[0]
)
LOGGED = "[Unit]\nDefaultDependencies=no\n[Service]\nStandardError=append:/out/bridge\n"
"""No boot of the whole machine, and its log where the test finds it."""
SHOW = "systemctl show otelbridge -p Result -p ExecMainStatus -p NRestarts -p ActiveState"


def guide_files() -> list[dict[str, str]]:
    """Each file that the guide writes, in its order."""
    fences = re.findall(r"```(?:yaml|ini)\n# (/\S+)\n(.*?)```", SECTION, re.DOTALL)
    return [{path: content} for path, content in fences]


def guide_commands() -> tuple[str, str, str]:
    """Those that install and ask the unit."""
    (fence,) = [fence for fence in re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL) if "systemctl" in fence]
    copy, enable, ask = fence.splitlines()
    return copy, enable, ask


def script() -> str:
    copy, enable, ask = guide_commands()
    asked = f"until {ask} >/out/ledger; do sleep 0.1; done"
    return "\n".join((copy, enable, asked, f"{SHOW} >/out/running", "systemctl stop otelbridge", f"{SHOW} >/out/ended"))


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def dropin(files: dict[str, str]) -> dict[str, str]:
    return {**files, "/etc/systemd/system/otelbridge.service.d/test.conf": LOGGED}


def test_it_starts_answers_and_drains_as_the_guide_has_it(tmp_path: Path) -> None:
    plain, _, _ = guide_files()
    said = run_under_systemd(tmp_path, script=script(), files=dropin(plain), secrets={})
    assert properties(said["running"])["ActiveState"] == "active"
    assert "No record is missing." in said["ledger"]
    ended = properties(said["ended"])
    assert (ended["Result"], ended["ExecMainStatus"], ended["NRestarts"]) == ("success", "0", "0"), said["bridge"]


def test_a_token_comes_in_as_a_credential(tmp_path: Path) -> None:
    _, credential, with_token = guide_files()
    files = dropin({**credential, **with_token})
    said = run_under_systemd(tmp_path, script=script(), files=files, secrets={"/etc/otelbridge/token": "secret\n"})
    ended = properties(said["ended"])
    assert (ended["Result"], ended["ExecMainStatus"], ended["NRestarts"]) == ("success", "0", "0"), said["bridge"]


def test_wrong_settings_are_said_once_and_not_tried_again(tmp_path: Path) -> None:
    """The settings name a credential that no drop-in brings."""
    _, _, with_token = guide_files()
    copy, enable, _ = guide_commands()
    ended = "until systemctl is-failed otelbridge; do sleep 0.1; done"
    said = run_under_systemd(
        tmp_path, script=f"{copy}\n{enable}\n{ended}\n{SHOW} >/out/ended\n", files=dropin(with_token), secrets={}
    )
    shown = properties(said["ended"])
    assert (shown["Result"], shown["ExecMainStatus"], shown["NRestarts"]) == ("exit-code", "2", "0")
    assert "CREDENTIALS_DIRECTORY" in said["bridge"]
