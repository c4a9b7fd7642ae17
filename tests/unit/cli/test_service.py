from __future__ import annotations

import inspect
from typing import Any

import pytest

from otelbridge.cli.run import run
from otelbridge.cli.service import ONE, SEVERAL, SHORT, flags_in


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("", {}),
        ("-c a.yaml --endpoint=http://c:4317", {"config": "a.yaml", "endpoint": "http://c:4317"}),
        ("-k a --kubearmor b --kubearmor=c:1", {"kubearmor": ["a", "b", "c:1"]}),
        ("--set a=b --set=c=d", {"sets": ["a=b", "c=d"]}),
        ("--log-level info --log-level debug", {"log_level": "debug"}),
        ("--status-port --set", {"status_port": "--set"}),
    ],
)
def test_a_plain_command_line_is_read_without_typer(words: str, flags: dict[str, Any]) -> None:
    assert flags_in(words.split()) == flags


@pytest.mark.parametrize(
    "words",
    ["--help", "-h", "--bogus x", "--conf a", "-ca.yaml", "-c=a", "-c", "--config=", "a.yaml", "-- x", "-kc a b"],
)
def test_all_else_is_left_to_typer(words: str) -> None:
    assert flags_in(words.split()) is None


def test_both_know_the_same_options() -> None:
    options = {}
    for name, parameter in inspect.signature(run, eval_str=True).parameters.items():
        (option,) = parameter.annotation.__metadata__
        long, *_ = (word for word in (option.default, *option.param_decls) if str(word).startswith("--"))
        options[long] = name
        for word in (option.default, *option.param_decls):
            assert not str(word).startswith("-") or word == long or SHORT[word] == long
    assert options == SEVERAL | ONE
