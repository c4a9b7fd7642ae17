from __future__ import annotations

import pytest

from otelbridge.cli.output import age_in_words, in_words, instant, size_in_words


def test_a_duration_is_so_long_ago() -> None:
    assert instant("10m", now_unix_nano=700 * 10**9) == 100 * 10**9
    assert instant("1.5s", now_unix_nano=2 * 10**9) == 5 * 10**8


def test_an_instant_is_utc_unless_it_says_otherwise() -> None:
    assert instant("1970-01-01T00:01:00Z") == instant("1970-01-01T00:01:00") == 60 * 10**9
    assert instant("1970-01-01T01:01:00+01:00") == 60 * 10**9


@pytest.mark.parametrize("text", ["", "10", "10 minutes", "yesterday", "-5m"])
def test_anything_else_is_refused_with_the_forms_that_are_possible(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 30s, 10m"):
        instant(text)


def test_numbers_become_words() -> None:
    assert (age_in_words(42), age_in_words(180), age_in_words(9000), age_in_words(90_000)) == (
        "42 s", "3 min", "2.5 h", "1.0 d",
    )  # fmt: skip
    assert (size_in_words(5), size_in_words(1536), size_in_words(3 * 1024**3)) == ("5 B", "1.5 KiB", "3.0 GiB")
    assert (in_words(0), in_words(60 * 10**9)) == ("-", "1970-01-01 00:01:00.000Z")
