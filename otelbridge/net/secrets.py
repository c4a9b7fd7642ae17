"""What is secret, by its name or by its place in a URL, and how a text is shown without it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "(secret)"
_SECRET_NAME = re.compile(
    r"(^|[^a-z])(authorization|headers|cookie|credentials?)([^a-z]|$)"
    r"|passw(or)?d|passphrase|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|license[-_.]?key",
    re.IGNORECASE,
)
_PLACE = re.compile(r"(_file|_seconds|_bytes)$|^(allow|lend)_")
_CREDENTIAL_NAME = re.compile(r"auth|token|secret|key|passw|credential|cookie|session")
_USER = re.compile(r"^[^:@/]+:[^@]+@")
_WORD = re.compile(r"\S+")
_QUERY = re.compile(r"(?<=[?&;])([^?=&;#\s]*=)[^&;#\s]+")
_QUERY_OF_URL = re.compile(r"(?<=[?&;#])([^=&;#\s]*=)?[^&;#\s]+")


def is_secret(name: str) -> bool:
    """Whether what goes by that name (a key, a header) is a secret; the path of a secret's file is none."""
    last = name.rsplit(".", 1)[-1]
    return not _PLACE.search(last) and _SECRET_NAME.search(last) is not None


def hidden(name: str, value: Any) -> Any:
    """The value as it may be shown: secrets replaced, at any depth, and passwords cut out of URLs."""
    if isinstance(value, Mapping):
        if is_secret(name):
            return dict.fromkeys(value, HIDDEN)
        return {key: hidden(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hidden(name, item) for item in value]
    if not isinstance(value, str) or not value:
        return value  # a switch or a number is no secret, whatever its name
    return HIDDEN if is_secret(name) else without_credentials(value)


def carries_credentials(name: str) -> bool:
    """Whether a header of that name is something to log in with; `x-scope-orgid` and the like are not."""
    return _CREDENTIAL_NAME.search(name.lower()) is not None


def without_credentials(text: str) -> str:
    """A URL, or a text with URLs in it, as it may be shown: no user, no password, no value of a query, no fragment.

    API keys and signatures are handed over there.
    """
    return _WORD.sub(_word_without_credentials, text)


def _word_without_credentials(word: re.Match[str]) -> str:
    scheme, *urls = word[0].split("://")
    if not urls:
        scheme = _USER.sub(f"{HIDDEN}@", scheme)
    return "://".join([_QUERY.sub(rf"\1{HIDDEN}", scheme), *map(_url_without_credentials, urls)])


def _url_without_credentials(url: str) -> str:
    """What stands behind `://`; whoever writes a password's `/`, `?` or `@` as it is has it hidden all the same."""
    user, at, rest = url.rpartition("@")
    rest = _QUERY_OF_URL.sub(lambda found: f"{found[1] or ''}{HIDDEN}", rest)
    return f"{HIDDEN}@{rest}" if user else at + rest


MIN_HIDDEN_CHARS = 4
"""Shorter values are not blacked out in texts: every second word would match."""


def without_values(text: str, headers: Iterable[str]) -> str:
    """A text without headers' values, and what follows their first word (`Bearer`): who got them may echo them."""
    secrets = {part for value in headers for part in (value, value.partition(" ")[2]) if len(part) >= MIN_HIDDEN_CHARS}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text
