"""Times on the command line: `10m` ago, or an instant such as 2026-01-31T12:00:00Z; and times back into words."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

NANOSECONDS = 1_000_000_000
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
MINUTE, HOUR, DAY = 60, 3600, 86400


def instant(text: str, *, now_unix_nano: int | None = None) -> int:
    """Unix nanoseconds of a time in the past (`10m` means ten minutes ago) or of an RFC 3339 instant.

    Raises:
        ValueError: it is neither; says what is possible.
    """
    match = _DURATION.fullmatch(text.strip())
    if match:
        now = time.time_ns() if now_unix_nano is None else now_unix_nano
        return now - int(float(match[1]) * _SECONDS[match[2]] * NANOSECONDS)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 30s, 10m, 2h or 1d (ago), or 2026-01-31T12:00:00Z") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * NANOSECONDS)


def in_words(unix_nano: int) -> str:
    """An instant in UTC, to the millisecond; `-` for none."""
    if not unix_nano:
        return "-"
    at = datetime.fromtimestamp(unix_nano / NANOSECONDS, tz=UTC)
    return at.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def age_in_words(seconds: float) -> str:
    """A duration, to two figures: `42 s`, `3 min`, `5.2 h`."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < DAY else f"{seconds / DAY:.1f} d"


def size_in_words(size: float) -> str:
    """Bytes with a binary unit: `512 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004  # what Ki means
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
