from __future__ import annotations

import re

import pytest

from otelbridge.gate.proportion import takes_time_in_proportion
from otelbridge.gate.redact import SECRET_PATTERNS
from otelbridge.gate.settings import RedactSettings
from otelbridge.setting import section_from


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$", r"(a|aa)+$", r"(\w+\s?)*=x", r"--pass=(\w+)*;", r"(x+x+)+y", r"(\w|\d)+$", r"(?:\w+,?)+;",
        r"\w+=secret", r".*.*=x", r"\S+@\S+", r"key=\s*\s*x",
    ],
)  # fmt: skip
def test_a_pattern_that_one_text_can_keep_busy_is_refused_with_its_cure(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern: .* out of proportion to the text.*\. Bound what repeats"):
        section_from(RedactSettings, {"name": "x", "pattern": pattern})


@pytest.mark.parametrize("pattern", ["a{99999999999}", "(" * 5_000 + ")" * 5_000])
def test_a_pattern_too_large_to_compile_is_no_regular_expression(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a regular expression"):
        section_from(RedactSettings, {"name": "x", "pattern": pattern})


@pytest.mark.parametrize(
    "pattern",
    [
        r"customer=(?P<secret>[0-9]+)", "secret", ".+", r"token=\S+", r"\b\d{16}\b", r"(?i)bearer\s+\S+",
        r"\w{1,64}=secret", r"(?P<a>x)(?P=a)+", r"(?s:.)x|y",
        *(kind.pattern for kind in SECRET_PATTERNS),
    ],
)  # fmt: skip
def test_usual_patterns_are_taken(pattern: str) -> None:
    assert takes_time_in_proportion(re.compile(pattern))
