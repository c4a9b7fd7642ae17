from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbridge.telemetry.escape import escape, escape_json


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("line\nforged", "line\\nforged"),
        ("\x9b2J", "\\x9b2J"),
        ("\x7f", "\\x7f"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\u2066\u2069", "\\u2066\\u2069"),
        ("\u2028", "\\u2028"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("\0", "\\x00"),
    ],
)
def test_what_could_move_a_terminal_is_shown_as_its_escape(hostile: str, shown: str) -> None:
    assert escape(hostile) == shown


def test_words_of_every_language_stay_as_they_are() -> None:
    assert escape("Grüße, 東京 здесь 🙂 C:\\path") == "Grüße, 東京 здесь 🙂 C:\\path"


@given(st.text())
def test_what_comes_out_always_prints_and_encodes(text: str) -> None:
    assert escape(text).isprintable()
    escape(text).encode("utf-8")


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_document_is_escaped_to_its_last_leaf(document: object) -> None:
    assert json.dumps(escape_json(document), ensure_ascii=False).isprintable()


def test_what_json_does_not_know_becomes_its_text() -> None:
    assert escape_json({"when": (1, {2}), 3: object}) == {"when": [1, "{2}"], "3": "<class 'object'>"}


def test_numbers_that_json_does_not_know_are_null() -> None:
    assert escape_json([float("nan"), float("inf"), 1.5]) == [None, None, 1.5]
