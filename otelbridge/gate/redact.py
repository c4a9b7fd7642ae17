"""Finds secrets in an event's texts, counts them and blacks them out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from otelbridge.event import MAX_PARSED_CHARS
from otelbridge.gate.settings import COMMAND_FIELDS, GateSettings, compiled

# A name that says that a secret follows. `pwd` alone is the working directory.
_NAME = (
    r"(?:pass(?:word|wd|phrase)|passwd|(?<=[_-])pwd|(?<=[_-])pass|secret|token|credentials?"
    r"|api[_-]?key|access[_-]?key(?:[_-]?id)?|secret[_-]?key|private[_-]?key|encryption[_-]?key|auth[_-]?key|account[_-]?key)"
)


class SecretPattern(NamedTuple):
    """One kind of secret."""

    name: str
    hints: tuple[str, ...]
    """One of these is in the text, in lower case, or the pattern need not be tried."""
    pattern: str
    """The group `secret` is what is blacked out; without it, all that matches."""
    needs: str = ""
    """A pattern that must be found in the text too, such as the name of a program."""


SECRET_PATTERNS: tuple[SecretPattern, ...] = (
    SecretPattern(
        "flag",
        ("pass", "pwd", "secret", "token", "credential", "key"),
        rf"(?i)(?<!\S)--?[\w-]{{0,64}}?{_NAME}(?:=|\s{{1,4}})(?P<secret>(?!-|pass:)\S+)",
    ),
    SecretPattern(
        "assignment",
        ("pass", "pwd", "secret", "token", "credential", "key"),
        rf"(?i){_NAME}[\"']?\s{{0,4}}[=:]\s{{0,4}}[\"']?(?P<secret>[^\s\"'&;,]+)",
    ),
    SecretPattern(
        "authorization",
        ("authorization",),
        r"(?i)authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:(?:bearer|basic|token|digest|negotiate)\s{1,4})?"
        r"(?P<secret>[^\s\"']+)",
    ),
    SecretPattern("bearer", ("bearer",), r"(?i)(?<![\w-])bearer\s{1,4}(?P<secret>[\w.~+/=-]{8,})"),
    SecretPattern("url_password", ("://",), r"(?i)://[^\s/:@]{0,256}:(?P<secret>[^\s/@]{1,1024})@"),
    SecretPattern("basic_auth", ("-u", "--user"), r"(?<!\S)(?:-u|--user)(?:=|\s{0,4})[^\s:]{1,256}:(?P<secret>\S+)"),
    SecretPattern("mysql_password", ("mysql", "mariadb"), r"(?<!\S)-p(?P<secret>\S+)", needs=r"(?i)(?:mysql|mariadb)"),
    SecretPattern("sshpass", ("sshpass",), r"(?<!\S)-p\s{0,4}(?P<secret>\S+)"),
    SecretPattern("redis_password", ("redis-cli",), r"(?<!\S)-a\s{1,4}(?P<secret>\S+)"),
    SecretPattern("login_password", (" login ",), r"(?<!\S)-p\s{0,4}(?P<secret>\S+)"),
    SecretPattern("openssl_password", ("pass:",), r"(?<![\w])pass:(?P<secret>\S+)"),
    SecretPattern("aws_access_key", ("akia", "asia"), r"(?<![0-9A-Za-z])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"),
    SecretPattern("github_token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"(?<!\w)gh[pousr]_\w{20,}"),
    SecretPattern("github_pat", ("github_pat_",), r"(?<!\w)github_pat_\w{20,}"),
    SecretPattern("gitlab_token", ("glpat-",), r"(?<![\w-])glpat-[\w-]{16,}"),
    SecretPattern("slack_token", ("xox",), r"(?<![\w-])xox[abeoprs]-[\w-]{10,}"),
    SecretPattern("jwt", ("eyj",), r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"),
    SecretPattern(
        "private_key", ("private key-----",), r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----(?P<secret>[^-]{1,16384})"
    ),
)


MAX_SEARCHED_CHARS = 2 * MAX_PARSED_CHARS
"""Of one text: no record shows more than half of it, and what is behind is cut off where a secret was found."""
MARK = "[REDACTED]"
SECRET_GROUP = "secret"  # noqa: S105  # the name of a group in a pattern


class Redactor(NamedTuple):
    """One kind of secret, compiled."""

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    """Or RE2's, which has the same methods."""
    needs: re.Pattern[str] | None
    fields: frozenset[str]


def redactors(settings: GateSettings) -> tuple[Redactor, ...]:
    """The operator's own redactions, then the built-in ones where they are wanted."""
    own = [Redactor(kind.name, (), compiled(kind.pattern), None, frozenset(kind.fields)) for kind in settings.redact]
    built_in = SECRET_PATTERNS if settings.redact_common_secrets else ()
    return (*own, *(_built_in(kind) for kind in built_in))


class Redaction(NamedTuple):
    """What is to be blacked out of one message."""

    texts: list[tuple[str, str]]
    """Field, and its text without the secrets."""
    entries: list[tuple[str, str, str]]
    """The same of a map: field, key and text."""
    secrets: int
    """How many there are."""

    def apply(self, message: Any) -> None:
        """Changes the message."""
        for field, text in self.texts:
            setattr(message, field, text)
        for field, key, text in self.entries:
            getattr(message, field)[key] = text


def find_secrets(
    message: Any, fields: Sequence[str], kinds: Sequence[Redactor], counts: Counter[str]
) -> Redaction | None:
    """Finds secrets in some fields of the message, and counts them by kind; None where there is none.

    The message stays as it is.
    """
    found = Redaction([], [], 0)
    for field in fields:
        held = getattr(message, field)
        if not held:
            continue
        wanted = [kind for kind in kinds if field in kind.fields]
        if isinstance(held, str):
            text, hits = blacken(held[:MAX_SEARCHED_CHARS], wanted, counts)
            if hits:
                found.texts.append((field, text))
        else:
            entries, hits = _in_map(field, held, wanted, counts)
            found.entries.extend(entries)
        found = found._replace(secrets=found.secrets + hits)
    return found if found.secrets else None


def blacken(text: str, kinds: Sequence[Redactor], counts: Counter[str]) -> tuple[str, int]:
    """The text with its secrets blacked out, and how many there were."""
    found = 0
    lower = text.lower()
    for kind in kinds:
        if kind.hints and not any(hint in lower for hint in kind.hints):
            continue
        if kind.needs is not None and kind.needs.search(text) is None:
            continue
        text, hits = _apply(kind, text)
        if hits:
            counts[kind.name] += hits
            found += hits
    return text, found


def _apply(kind: Redactor, text: str) -> tuple[str, int]:
    hits = 0
    group = kind.pattern.groupindex.get(SECRET_GROUP, 0)

    def bar(match: re.Match[str]) -> str:
        nonlocal hits
        start, end = match.span(group)
        if start < 0 or start == end or text[start:end] == MARK:
            return match[0]
        hits += 1
        offset = match.start()
        return match[0][: start - offset] + MARK + match[0][end - offset :]

    return kind.pattern.sub(bar, text), hits


def _in_map(
    field: str, held: Mapping[str, str], kinds: Sequence[Redactor], counts: Counter[str]
) -> tuple[list[tuple[str, str, str]], int]:
    """EventData: KubeArmor has split `token=x` into key and value, so they are looked at together."""
    entries, found = [], 0
    for key, value in held.items():
        text, hits = blacken(f"{key}={value}"[:MAX_SEARCHED_CHARS], kinds, counts)
        if hits:
            entries.append((field, key, text[len(key) + 1 :] if text.startswith(f"{key}=") else MARK))
            found += hits
    return entries, found


def _built_in(kind: SecretPattern) -> Redactor:
    return Redactor(
        kind.name,
        kind.hints,
        re.compile(kind.pattern),
        re.compile(kind.needs) if kind.needs else None,
        frozenset(COMMAND_FIELDS),
    )
