from __future__ import annotations

import time

import pytest

from otelbridge.gate.proportion import takes_time_in_proportion
from otelbridge.gate.redact import SECRET_PATTERNS
from otelbridge.gate.settings import GateSettings, RedactSettings
from otelbridge.setting import section_from


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$", r"(a|aa)+$", r"(\w+\s?)*=x", r"--pass=(\w+)*;", r"(x+x+)+y", r"(\w|\d)+$", r"(?:\w+,?)+;",
        r"\w+=secret", r".*.*=x", r"\S+@\S+", r"key=\s*\s*x",
        r"\w++=", r"(?>a+)b", r"(?=.{50})(a|a)+b", r"(?!(a|a)+b)c", r"(?<=(?:a|a){50}b)c", r"(?:|){30}x",
        r"(?:a{0,16}){16}b",
        "b?" * 30 + "b" * 30, r"^(([a-z])+.)+[A-Z]$", r"(a?){30}a{30}", r"(.*?,){11}P",
    ],
)  # fmt: skip
def test_a_pattern_that_one_text_can_keep_busy_is_refused_with_its_cure(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern: .* out of proportion to the text.*\. Bound what repeats"):
        section_from(RedactSettings, {"name": "x", "pattern": pattern})


@pytest.mark.parametrize(
    "pattern",
    [
        "(((((((a{9}){9}){9}){9}){9}){9}){9})+",
        "(?:" * 80 + "a" + ")+" * 80,
        "(?:a|b){65535}{65535}",
        "(?:){999999999}" * 9 + "(a|a)+",
    ],
)
def test_a_pattern_too_large_to_tell_is_judged_within_bounds(pattern: str) -> None:
    began = time.thread_time()
    with pytest.raises(ValueError, match=r"out of proportion|multiple repeat"):
        section_from(RedactSettings, {"name": "x", "pattern": pattern})
    assert time.thread_time() - began < 5  # one had taken 40 s, and then all memory


def test_what_python_warns_of_is_refused_and_not_printed() -> None:
    with pytest.raises(ValueError, match="Possible nested set"):
        section_from(RedactSettings, {"name": "x", "pattern": "[[a]x]=1"})


def test_no_more_patterns_are_judged_than_there_may_be() -> None:
    entry = {"name": "x", "pattern": "(a+)+$"}
    with pytest.raises(ValueError, match=r"redact: has 65 items. Write 64 at most"):
        section_from(GateSettings, {"redact": [entry] * 65})


@pytest.mark.parametrize("pattern", ["a{99999999999}", "(" * 2_000 + ")" * 2_000])
def test_a_pattern_too_large_to_compile_is_no_regular_expression(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a regular expression"):
        section_from(RedactSettings, {"name": "x", "pattern": pattern})


@pytest.mark.parametrize(
    "pattern",
    [
        r"customer=(?P<secret>[0-9]+)", "secret", ".+", r"token=\S+", r"\b\d{16}\b", r"(?i)bearer\s+\S+",
        r"\w{1,64}=secret", r"(?P<a>x)(?P=a)+", r"(?s:.)x|y",
        r"(?s).+?", r"a{2000}b+", r"(?:\s|$)+", r"(?<=password=)\S+", r"(?:[0-9a-f]{2}:){15,}", r".{0,128}=x",
        r"(?i)(?:password|passwd|pwd|secret|api_key)\s{0,8}[=:]\s{0,8}(?P<secret>\S+)", r"(a)?(?(1)b+|c+)",
        r"(?>ab|a)c",
        *(kind.pattern for kind in SECRET_PATTERNS),
    ],
)  # fmt: skip
def test_usual_patterns_are_taken(pattern: str) -> None:
    assert takes_time_in_proportion(pattern)
