from __future__ import annotations

import re
from pathlib import Path

import pytest

from otelbridge.settings.load import load
from otelbridge.settings.tree import SettingsError
from otelbridge.settings.yaml_file import MOST_BYTES, YamlFileError, read
from tests.unit.settings.loading import loaded


def _read(folder: Path, text: str | bytes) -> dict[str, object]:
    file = folder / "some.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(file).values


def test_words_mean_what_yaml_1_2_says(tmp_path: Path) -> None:
    text = "{a: no, b: on, c: true, d: 010, e: 0x10, f: 2024-01-01, g: 1e3, h: 12:30, i: ~, j: 0o10, k: .5}"
    assert _read(tmp_path, text) == {
        "a": "no", "b": "on", "c": True, "d": 10, "e": 16, "f": "2024-01-01", "g": 1000.0, "h": "12:30", "i": None,
        "j": 8, "k": 0.5,
    }  # fmt: skip


def test_keys_are_text_as_written(tmp_path: Path) -> None:
    assert _read(tmp_path, "{1: a, true: b, none: c}") == {"1": "a", "true": "b", "none": "c"}


def test_each_key_knows_its_line(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("a:\n  b: 1\n\n  c:\n    - x\n    - y\n", encoding="utf-8")
    assert read(file).lines == {"a": 1, "a.b": 2, "a.c": 4, "a.c[0]": 5, "a.c[1]": 6}


@pytest.mark.parametrize(
    ("text", "wrong", "line"),
    [
        ("a: 1\na: 2\n", "the key 'a' stands twice", 2),
        ("a: [1\nb: 2\n", "not valid YAML", 2),
        ("- a\n", "does not hold `section:` keys", 1),
        ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor", 1),
        ("a: 1\n---\nb: 2\n", "expected a single document", 2),
        ("{[a]: 1}", "a key must be a word", 1),
        ("a: 1\nb: &b [*b]\n", "aliases (*name) are not taken", 2),
        ("a: 1\nb: !!bool maybe\n", "no value of the type !!bool", 2),
        ("a: !!bool ''\n", "no value of the type !!bool", 1),
        ("a: !!int x\n", "no value of the type !!int", 1),
        ("a: !!float ''\n", "no value of the type !!float", 1),
        ("a: !!timestamp x\n", "no value of the type !!timestamp", 1),
        ("a: !!timestamp 2001-99-01\n", "no value of the type !!timestamp", 1),
        ("a: !!map [1]\n", "no value of the type !!map", 1),
        (f"a: 1\nb: {'9' * 5000}\n", "too many digits", 2),
        (f"a: 0x{'f' * 5000}\n", "too many digits", 1),
    ],
)
def test_a_faulty_file_says_what_and_where(tmp_path: Path, text: str, wrong: str, line: int) -> None:
    with pytest.raises(YamlFileError, match=re.escape(wrong)) as caught:
        _read(tmp_path, text)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"a: \xff\n", "not UTF-8 text"),
        (b"a: \x00\n", "not valid YAML"),
        (b"#" * (MOST_BYTES + 1), "larger than"),
        (b"[" * 5000, "not valid YAML|too deep"),
    ],
)
def test_what_is_no_settings_file_is_refused(tmp_path: Path, content: bytes, wrong: str) -> None:
    with pytest.raises(YamlFileError, match=wrong):
        _read(tmp_path, content)


def test_a_missing_file_is_a_problem_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"No such file or directory.*--config"):
        load(file=tmp_path / "nowhere.yaml", environment={})


def test_empty_files_empty_sections_and_empty_keys_change_nothing(tmp_path: Path) -> None:
    for text in ("# nothing\n", "feed:\n", "feed:\n  endpoints:\n"):
        assert loaded(text, folder=tmp_path).origin("feed.endpoints") == "default"
