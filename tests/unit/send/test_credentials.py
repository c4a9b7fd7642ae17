"""Headers from settings, file and token; who may see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otelbridge.net.files import RECHECK_SECONDS
from otelbridge.queue.model import Hold
from otelbridge.send.credentials import Credentials, parse_headers
from otelbridge.send.settings import SendSettings, SendSettingsError, send_target
from otelbridge.setting import section_from


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def credentials(clock: Clock | None = None, **given: object) -> Credentials:
    settings = section_from(SendSettings, {"endpoint": "https://otel:4317"} | given)
    return Credentials(settings, send_target(settings), clock=clock or Clock())


def test_headers_come_from_settings_then_file_then_token(tmp_path: Path) -> None:
    headers, token = tmp_path / "headers", tmp_path / "token"
    headers.write_text("# comment\n\nB=two%20words\na=file\n")
    token.write_text("Bearer sesame\n")
    made = credentials(headers={"A": "settings", "C": "c"}, headers_file=headers, token_file=token)
    assert made.headers() == {"a": "file", "b": "two words", "c": "c", "authorization": "Bearer sesame"}


def test_files_are_read_again_after_a_while_and_at_once_when_doubted(tmp_path: Path) -> None:
    token, clock = tmp_path / "token", Clock()
    token.write_text("one")
    made = credentials(clock, token_file=token)
    token.write_text("two")
    assert made.headers() == {"authorization": "Bearer one"}
    clock.now = RECHECK_SECONDS
    assert made.headers() == {"authorization": "Bearer two"}
    token.write_text("three")
    assert made.headers(doubted=True) == {"authorization": "Bearer three"}


def test_a_file_that_becomes_malformed_holds_the_sending_without_showing_its_content(tmp_path: Path) -> None:
    path, clock = tmp_path / "headers", Clock()
    path.write_text("a=1")
    made = credentials(clock, headers_file=path)
    path.write_text("opensesame")
    held = made.headers(doubted=True)
    assert isinstance(held, Hold)
    assert "line 1" in held.why
    assert "opensesame" not in held.why


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"\xff\xfe"])
def test_a_token_file_must_hold_one_word(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(SendSettingsError, match=r"send\.token_file"):
        credentials(token_file=path)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("authorization", True),
        ("x-api-key", True),
        ("dd-api-key", True),
        ("signalfx-token", True),
        ("cookie", True),
        ("x-scope-orgid", False),
        ("x-tenant", False),
    ],
)
def test_what_logs_in_does_not_go_unencrypted_to_another_machine(name: str, refused: bool) -> None:
    given: dict[str, Any] = {"endpoint": "http://otel:4317", "headers": {name: "sesame"}}
    if refused:
        with pytest.raises(SendSettingsError, match="unencrypted") as error:
            credentials(**given)
        assert "sesame" not in str(error.value)
    else:
        assert credentials(**given).headers() == {name: "sesame"}
    assert credentials(**given, allow_plaintext_credentials=True).headers() == {name: "sesame"}
    assert credentials(endpoint="http://127.0.0.1:4317", headers={name: "sesame"}).headers() == {name: "sesame"}


def test_values_are_hidden_from_texts_and_repr() -> None:
    made = credentials(headers={"authorization": "Bearer sesame", "short": "a"})
    assert made.hide("he said sesame and Bearer sesame; a") == "he said (secret) and (secret); a"
    assert "sesame" not in repr(made)


@pytest.mark.parametrize("line", ["novalue", "=x", " = "])
def test_a_malformed_line_is_named_by_its_number(line: str) -> None:
    with pytest.raises(SendSettingsError, match=r"place line 2 is not name=value"):
        parse_headers(f"a=1\n{line}".encode(), place="place")


def test_a_file_is_renewed_when_it_holds_something_else_that_can_be_used(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    made = credentials(token_file=token)
    assert not made.renewed()
    token.write_text("two words")
    assert not made.renewed()
    token.write_text("first")
    assert made.renewed(), "it can be used again"
    assert not made.renewed()
    token.write_text("second")
    assert made.renewed()
