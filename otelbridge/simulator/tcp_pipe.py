"""Bytes of one direction of a connection in, the same bytes out when the line lets them; no socket, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

BUFFER_BYTES = 256 * 1024
"""What a line holds at most; beyond it the sender's kernel has to wait."""
SLICE_SECONDS = 0.05
"""A limited line sends what fits into this time at once, then pauses."""


class Flow(StrEnum):
    """Whether bytes get through."""

    OPEN = "open"
    HOLD = "hold"
    """They wait, and go on when the line is open again: a peer that is stopped and continued."""
    SWALLOW = "swallow"
    """They vanish, endings too, though the kernel acknowledges them: nothing that follows makes sense to the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The state of one direction of a line."""

    flow: Flow = Flow.OPEN
    bytes_per_second: float | None = None
    latency_seconds: float = 0

    def __post_init__(self) -> None:
        if self.bytes_per_second is not None and not self.bytes_per_second > 0:
            raise ValueError(f"bytes_per_second must be greater than 0, not {self.bytes_per_second}")
        if self.latency_seconds < 0:
            raise ValueError(f"latency_seconds must be at least 0, not {self.latency_seconds}")


class Pipe:
    """One direction of one connection. Times are seconds of any one monotonic clock."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.passed_bytes = 0
        self.swallowed_bytes = 0
        self.ended = False
        """Nothing more comes in."""
        self._chunks: deque[tuple[float, memoryview]] = deque()
        self._buffered_bytes = 0
        self._may_send_at = 0.0

    def room(self) -> int:
        """How many bytes may be read from the sender now."""
        if self.ended or self.conditions.flow is Flow.HOLD:
            return 0
        return BUFFER_BYTES if self.conditions.flow is Flow.SWALLOW else BUFFER_BYTES - self._buffered_bytes

    def push(self, data: bytes, now: float) -> None:
        """Takes what was read from the sender."""
        if self.conditions.flow is Flow.SWALLOW:
            self.swallowed_bytes += len(data)
            return
        self._chunks.append((now + self.conditions.latency_seconds, memoryview(data)))
        self._buffered_bytes += len(data)

    def end(self) -> None:
        """The sender has finished; what is buffered still goes out."""
        self.ended = True

    def sendable(self, now: float) -> memoryview | None:
        """What may be written to the receiver now, if anything."""
        wake = self.wake_at()
        if wake is None or wake > now:
            return None
        chunk = self._chunks[0][1]
        if self.conditions.bytes_per_second is None:
            return chunk
        return chunk[: max(1, int(self.conditions.bytes_per_second * SLICE_SECONDS))]

    def sent(self, count: int, now: float) -> None:
        """So many bytes of `sendable` were written."""
        due, chunk = self._chunks.popleft()
        if count < len(chunk):
            self._chunks.appendleft((due, chunk[count:]))
        self._buffered_bytes -= count
        self.passed_bytes += count
        if self.conditions.bytes_per_second is not None:
            self._may_send_at = max(now, self._may_send_at) + count / self.conditions.bytes_per_second

    def wake_at(self) -> float | None:
        """When the next byte may go out; None while none waits or none may."""
        if not self._chunks or self.conditions.flow is not Flow.OPEN:
            return None
        limited = self.conditions.bytes_per_second is not None
        return max(self._chunks[0][0], self._may_send_at) if limited else self._chunks[0][0]

    @property
    def waiting_bytes(self) -> int:
        """Read from the sender and not written to the receiver yet."""
        return self._buffered_bytes

    @property
    def finished(self) -> bool:
        """All that will ever come has gone out, and the receiver may be told so."""
        return self.ended and not self._chunks and self.conditions.flow is Flow.OPEN
