"""Numbers from outside, however absurd, come out in range."""

from __future__ import annotations

import math

import pytest

from otelbridge.clamp import MAX_UNIX_NANO, count, seconds, unix_nano, whole_number


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3.0), (-1, 0.0), (1e300, 60.0), (10**400, 60.0), (-(10**400), 0.0), (math.inf, 60.0), (-math.inf, 0.0),
     (math.nan, 0.0)],
)  # fmt: skip
def test_seconds_stay_in_their_range(value: float, expected: float) -> None:
    assert seconds(value, most=60.0) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, 5), (-1, 0), (2**64, MAX_UNIX_NANO), (10**400, MAX_UNIX_NANO), (math.inf, MAX_UNIX_NANO), (math.nan, 0),
     (-math.inf, 0)],
)  # fmt: skip
def test_an_instant_stays_between_1970_and_2262(value: float, expected: int) -> None:
    assert unix_nano(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(7, 7), (-7, 0), (10**400, 100)])
def test_a_count_stays_in_its_range(value: int, expected: int) -> None:
    assert count(value, most=100) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("0017", 17), ("99", 99), ("100", 100), ("9" * 5_000, 100), ("0" * 5_000 + "7", 7)]
    + [(text, -1) for text in ("", "-1", "+1", "1.0", "\u00b2", "\u0663", " 1")],
)
def test_digits_are_a_number_up_to_one_above_the_most(text: str, number: int) -> None:
    assert whole_number(text, most=99) == number
