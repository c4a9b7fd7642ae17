from __future__ import annotations

import pytest

from otelbridge.settings.load import load
from tests.unit.cli.invoking import invoke

NARROW = {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}


def test_the_defaults_that_the_help_names_are_those_of_the_settings() -> None:
    text = " ".join(invoke("run", "--help").data.split())
    settings = load(environment={}).settings
    (kubearmor,) = settings.feed.endpoints
    for default in (kubearmor, settings.send.endpoint, settings.queue.directory, settings.status.port):
        assert f"(default {default})" in text


@pytest.mark.parametrize("group", [(), ("queue",), ("config",), ("simulate",)])
def test_each_command_is_described_in_a_line_that_is_not_cut_off(group: tuple[str, ...]) -> None:
    listed = invoke(*group, "--help", **NARROW).data.partition("Commands:")[2]
    assert listed
    assert "..." not in listed
