"""Secrets in an event's texts in, black bars out; in place, and counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from otelbridge.gate.secrets import SECRET_PATTERNS, SecretPattern
from otelbridge.gate.settings import COMMAND_FIELDS, GateSettings

MARK = "[REDACTED]"
SECRET_GROUP = "secret"  # noqa: S105  # the name of a group in a pattern


class Redactor(NamedTuple):
    """One kind of secret, compiled."""

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    needs: re.Pattern[str] | None
    fields: frozenset[str]


def redactors(settings: GateSettings) -> tuple[Redactor, ...]:
    """The operator's own redactions, then the built-in ones where they are wanted."""
    own = [Redactor(kind.name, (), re.compile(kind.pattern), None, frozenset(kind.fields)) for kind in settings.redact]
    built_in = SECRET_PATTERNS if settings.redact_common_secrets else ()
    return (*own, *(_built_in(kind) for kind in built_in))


def redact(message: Any, fields: Sequence[str], kinds: Sequence[Redactor], counts: Counter[str]) -> int:
    """Blacks out secrets in the message.

    Args:
        message: an Alert, a Log or a Message; changed in place.
        fields: those of its text fields, and EventData, that any of the kinds looks into.
        kinds: what to look for.
        counts: per kind, raised by what was found.

    Returns:
        How many secrets were blacked out.
    """
    found = 0
    for field in fields:
        held = getattr(message, field)
        if not held:
            continue
        wanted = [kind for kind in kinds if field in kind.fields]
        if isinstance(held, str):
            text, hits = blacken(held, wanted, counts)
            if hits:
                setattr(message, field, text)
                found += hits
        else:
            found += _redact_map(held, wanted, counts)
    return found


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
    grouped = SECRET_GROUP in kind.pattern.groupindex

    def bar(match: re.Match[str]) -> str:
        nonlocal hits
        start, end = match.span(SECRET_GROUP) if grouped else match.span()
        if start < 0 or start == end or text[start:end] == MARK:
            return match[0]
        hits += 1
        offset = match.start()
        return match[0][: start - offset] + MARK + match[0][end - offset :]

    return kind.pattern.sub(bar, text), hits


def _redact_map(held: Any, kinds: Sequence[Redactor], counts: Counter[str]) -> int:
    """EventData: KubeArmor has split `token=x` into key and value, so they are looked at together."""
    found = 0
    for key, value in list(held.items()):
        text, hits = blacken(f"{key}={value}", kinds, counts)
        if hits:
            held[key] = text[len(key) + 1 :] if text.startswith(f"{key}=") else MARK
            found += hits
    return found


def _built_in(kind: SecretPattern) -> Redactor:
    return Redactor(
        kind.name,
        kind.hints,
        re.compile(kind.pattern),
        re.compile(kind.needs) if kind.needs else None,
        frozenset(COMMAND_FIELDS),
    )
