from __future__ import annotations

import time
from pathlib import Path

import pytest

from otelbridge.settings.yaml_file import substituted
from tests.unit.settings.loading import loaded, problems


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("${env:NAME}", "value"),
        ("a-${env:NAME}-b", "a-value-b"),
        ("${env:UNSET:-other}", "other"),
        ("${env:UNSET:-}", ""),
        ("${env:EMPTY:-other}", "other"),
        ("$${env:NAME}", "${env:NAME}"),
        ("${env:NESTED}", "${env:NAME}"),  # what comes out is not looked at again
        ("${NAME} costs $5", "${NAME} costs $5"),
    ],
)
def test_a_reference_becomes_the_variables_value(tmp_path: Path, text: str, becomes: str) -> None:
    variables = {"NAME": "value", "EMPTY": "", "NESTED": "${env:NAME}"}
    found = loaded(f"mapping: {{cluster_name: '{text}'}}", variables, folder=tmp_path)
    assert found.settings.mapping.cluster_name == becomes


def test_a_long_text_takes_no_longer_than_its_length_says() -> None:
    text = "${env:NAME:-" * 10_000
    began = time.thread_time()
    assert substituted(text, {}, lambda *_: None) == text
    assert time.thread_time() - began < 1  # each looked for its `}`: 10 s


def test_numbers_booleans_and_lists_come_out_of_references_too(tmp_path: Path) -> None:
    text = (
        "status: {port: '${env:PORT}'}\ngate: {redact_common_secrets: '${env:YES}'}\nfeed: {endpoints: '${env:LIST}'}"
    )
    found = loaded(text, {"PORT": "81", "YES": "true", "LIST": "a,b"}, folder=tmp_path).settings
    assert (found.status.port, found.gate.redact_common_secrets) == (81, True)
    assert found.feed.endpoints == ("a:32767", "b:32767")


def test_a_variable_that_is_not_set_and_has_no_default_is_a_problem(tmp_path: Path) -> None:
    found = problems("a: 1\ngate:\n  rules:\n    - {name: '${env:NOPE}', action: drop}\n", folder=tmp_path)
    problem = found["gate.rules[0].name"]
    assert problem.wrong == "refers to the variable NOPE, which is not set"
    assert problem.cure == "Set it, or give a default: ${env:NOPE:-default}."
    assert problem.origin == f"file {tmp_path}/bridge.yaml:4"
