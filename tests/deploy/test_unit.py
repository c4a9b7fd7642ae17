"""The systemd unit says what the code and the guide say."""

from __future__ import annotations

import configparser
import shutil
import subprocess

import pytest

from otelbridge.cli.output import Exit
from otelbridge.queue.settings import QueueSettings
from otelbridge.settings.tree import BridgeSettings
from tests.deploy.rendering import ROOT

UNIT = ROOT / "packaging" / "otelbridge.service"


@pytest.fixture(scope="module")
def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser["Service"]


def test_the_program_is_where_the_guide_installs_it(service: configparser.SectionProxy) -> None:
    program, command, option, file = service["ExecStart"].split()
    assert (command, option) == ("run", "--config")
    guide = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert program in guide
    assert file in guide


def test_stopping_takes_longer_than_the_drain(service: configparser.SectionProxy) -> None:
    assert int(service["TimeoutStopSec"]) >= BridgeSettings().drain_seconds + 15


def test_wrong_settings_are_not_tried_again(service: configparser.SectionProxy) -> None:
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(int(Exit.WRONG_USAGE))


def test_the_queue_lies_in_the_units_state_directory(service: configparser.SectionProxy) -> None:
    assert service["DynamicUser"] == "yes"
    assert f"/var/lib/{service['StateDirectory']}" == str(QueueSettings().directory)


def test_systemd_itself_accepts_the_unit() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: apt-get install systemd")
    done = subprocess.run(["systemd-analyze", "verify", UNIT], capture_output=True, text=True, check=False, timeout=60)
    # The program itself is not installed where the tests run.
    complaints = [
        line for line in done.stderr.splitlines() if str(UNIT.name) in line and "is not executable" not in line
    ]
    assert complaints == []
