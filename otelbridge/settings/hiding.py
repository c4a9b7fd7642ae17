"""Which settings are secrets, and how a value is shown without giving one away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(secret)"

_SECRET_NAME = re.compile(
    r"(^|[^a-z])(authorization|headers|cookie|credentials?)([^a-z]|$)"
    r"|passw(or)?d|passphrase|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|license[-_.]?key",
    re.IGNORECASE,
)
_PLACE = re.compile(r"(_file|_seconds|_bytes)$|^(allow|lend)_")
_USERINFO = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@|(?<=://)[^/@:\s]+@")


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
    if value is None or value == "":
        return value
    if is_secret(name):
        return HIDDEN
    return without_userinfo(value) if isinstance(value, str) else value


def without_userinfo(text: str) -> str:
    """A URL (or any text) without the `user:password@` of its URLs."""
    return _USERINFO.sub(HIDDEN + "@", text)
