"""Watches the port of a lost upstream during the backoff, and ends the wait when it answers again.

A look is a TCP connection that is closed again; in plaintext it waits for the first bytes of HTTP/2, which a frozen
server does not send. It ends a wait only if an earlier look of this outage found nobody: that a port answers is no news
otherwise. Looks begin at one a second and grow rare with the outage, so that of many bridges that lost one relay for
minutes no more come back in a second than by the backoff alone.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from random import Random

from otelbridge.net.tls_faults import HTTP2_GREETING

LOOK_SECONDS = 1.0
"""Between two looks of a bridge, at whatever upstream, at least."""
RARE_AFTER_SECONDS = 16.0
"""Up to here an outage is looked at every second; after that the pause grows with its square: 4 s after 32, 56 s after
two minutes."""
JITTER = 0.5
"""A pause is longer by up to so much."""
ANSWER_SECONDS = 0.5
"""A port that takes longer to connect to, or to speak, does not answer."""

Answers = Callable[[], bool]


class LookLimit:
    """Allows all subscriptions of a bridge together one look a second. Times are monotonic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = float("-inf")

    def take(self, now: float) -> bool:
        """Whether somebody may look now; if so, nobody else may for a second."""
        with self._lock:
            if now < self._next:
                return False
            self._next = now + LOOK_SECONDS
            return True


class PortWatch:
    """Watches the port of one upstream during one outage. Times are monotonic.

    It counts as `shut` from the beginning if, as far as can be told, the outage began with the end of the server's
    process.
    """

    def __init__(self, now: float, *, limit: LookLimit, random: Random, answers: Answers, shut: bool = False) -> None:
        self._began = now
        self._limit = limit
        self._random = random
        self._answers = answers
        self._was_shut = shut
        self.next_at = now
        self._plan(now)

    def is_back(self, now: float) -> bool:
        """Looks, if it is time to; whether the port answers after it did not."""
        if now < self.next_at:
            return False
        self._plan(now)
        if not self._limit.take(now):
            return False
        answers = self._answers()
        back, self._was_shut = answers and self._was_shut, not answers
        return back

    def _plan(self, now: float) -> None:
        pause = max(1.0, ((now - self._began) / RARE_AFTER_SECONDS) ** 2) * LOOK_SECONDS
        self.next_at = now + pause * self._random.uniform(1, 1 + JITTER)


def port_answers(ip: str, port: int, *, speaks_first: bool) -> bool:
    """Looks at a port once, for a second at most; waits for HTTP/2's first bytes too, unless TLS comes before them."""
    try:
        with socket.create_connection((ip, port), ANSWER_SECONDS) as connection:
            if not speaks_first:
                return True
            connection.sendall(HTTP2_GREETING)
            return bool(connection.recv(1))
    except OSError:
        return False
