"""KubeArmor's two time fields in, nanoseconds since 1970 out."""

from __future__ import annotations

import re
from datetime import UTC, datetime

SECOND = 1_000_000_000
MICROSECOND = 1_000
_NANOSECOND_DIGITS = 9
_LAST = (1 << 64) - 1  # OTLP's times are unsigned 64-bit integers
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant:
    """Reads UpdatedTime, whose layout is fixed: `2006-01-02T15:04:05.000000Z`. Events of one second share its parse."""

    __slots__ = ("second", "second_unix", "second_unix_nano")

    def __init__(self) -> None:
        self.second = "?"
        """The last second read, with the dot behind it."""
        self.second_unix = self.second_unix_nano = 0

    def unix_nano(self, updated: str, timestamp: int) -> int:
        """The time of the event, or 0 where neither field tells it.

        Args:
            updated: UpdatedTime, with its microseconds.
            timestamp: Timestamp, in seconds: the same instant, and the fallback.
        """
        if len(updated) == 27 and updated[19::7] == ".Z":  # noqa: PLR2004  # the fixed layout, see above
            micros = updated[20:26]
            if micros.isdecimal() and (updated[:20] == self.second or self._parse(updated[:20])):
                return self.second_unix_nano + int(micros) * MICROSECOND
        return self._otherwise(updated, timestamp)

    def odd(self, updated: str, timestamp: int, unix_nano: int) -> list[tuple[str, str | int]]:
        """What the two fields say beyond the time that was made of them, as attributes."""
        pairs: list[tuple[str, str | int]] = []
        if timestamp and timestamp != unix_nano // SECOND:
            pairs.append(("kubearmor.timestamp", timestamp))
        if updated and not self._otherwise(updated, 0):
            pairs.append(("kubearmor.updated_time", updated))
        return pairs

    def _parse(self, second: str) -> bool:
        whole = _whole_seconds(second[:19] + "+00:00")
        if whole is None:
            return False
        self.second, self.second_unix, self.second_unix_nano = second, whole, whole * SECOND
        return True

    def _otherwise(self, updated: str, timestamp: int) -> int:
        """Any other RFC 3339 text, to the nanosecond; else the seconds."""
        found = _RFC_3339.fullmatch(updated)
        whole = _whole_seconds(found[1] + (found[3] or "+00:00")) if found else None
        if found and whole is not None:
            return whole * SECOND + int((found[2] or "")[:_NANOSECOND_DIGITS].ljust(_NANOSECOND_DIGITS, "0"))
        nano = timestamp * SECOND
        return nano if 0 < nano <= _LAST else 0


def _whole_seconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    seconds = (moment - _EPOCH).days * 86_400 + (moment - _EPOCH).seconds
    return seconds if 0 <= seconds <= _LAST // SECOND - 1 else None
