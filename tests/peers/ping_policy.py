"""A client's pings in, "too many" out: the rule of grpc-go's server, which KubeArmor and its relay are built on."""

from __future__ import annotations

MAX_PING_STRIKES = 2
"""grpc-go's `maxPingStrikes`: one more, and the connection is told to go away."""
DEFAULT_MIN_INTERVAL_SECONDS = 300.0
"""grpc-go's `defaultServerMinPingInterval`, in force because neither KubeArmor nor the relay sets MinTime."""


class PingPolicy:
    """The strikes of one connection, PermitWithoutStream being on. Server pings and acknowledgements clear nothing."""

    def __init__(self, min_interval_seconds: float = DEFAULT_MIN_INTERVAL_SECONDS) -> None:
        self._min_interval_seconds = min_interval_seconds
        self._last_ping_at: float | None = None
        self._cleared = False
        self.strikes = 0

    def wrote(self) -> None:
        """The server wrote HEADERS or DATA: the next ping is free."""
        self._cleared = True

    def pinged(self, now: float) -> bool:
        """The client pinged; whether that was one too many."""
        last, self._last_ping_at = self._last_ping_at, now
        if self._cleared:
            self._cleared = False
            self.strikes = 0
            return False
        if last is not None and last + self._min_interval_seconds > now:
            self.strikes += 1
        return self.strikes > MAX_PING_STRIKES
