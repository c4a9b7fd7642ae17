"""Keeps leases apart between two tries: suspects, and records refused while nothing was accepted. Not thread-safe."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection

from otelbridge.event import Stream
from otelbridge.net.backoff import Random, full_jitter_seconds
from otelbridge.queue.model import Lease, Refused, TooLarge
from otelbridge.send.settings import SendSettings

APART_REQUESTS = 2
"""So many full requests' worth of suspects are kept apart; beyond that a failing lease is given back to the queue."""
MAX_APART = 64
"""Leases kept apart at most, of either kind."""
IDLE_STEPS_BELOW = 4
"""Suspects that nothing else is sent beside are tried at a sixteenth of the first backoff, then ever more rarely."""
OTHERS_TIMES = 4
"""Others are sent without a suspect for so many times the delay that it was told: each of its tries delays them."""
IDLE_TRIES = 4
"""At each of these steps: where 85 % of all answers are failures by chance, eleven in a row are nothing unusual."""


class Apart:
    """Leases that failed or were refused, while it is not known whether their records are to blame."""

    def __init__(self, settings: SendSettings, *, clock: Callable[[], float], random: Random) -> None:
        self._settings, self._clock, self._random = settings, clock, random
        self.suspects: list[Lease] = []
        self.due: deque[Lease] = deque()
        """Of those, what is to be tried before the next lease of the queue."""
        self.unproven: list[tuple[Lease, Refused | TooLarge]] = []
        """Records that were refused while nothing was accepted, or perhaps by chance."""
        self.idle_step = 0
        """Tries in a row while nothing else was sent."""
        self._idle_until = 0.0
        """When nothing else is to be sent, all of these wait for this moment."""
        self._rest_until = -math.inf
        """No suspect is due before, whatever else is sent."""
        self.first = False
        """A suspect is tried once more before all others, as soon as the delay that it was told is over."""

    @property
    def leases(self) -> list[Lease]:
        """All of them."""
        return [*self.suspects, *(lease for lease, _ in self.unproven)]

    def has_any(self, *, without: Collection[Stream]) -> bool:
        """Whether anything is kept, but of the streams left out."""
        return any(lease.stream not in without for lease in self.leases)

    def wait_seconds(self) -> float:
        """Until the next try while nothing else is sent."""
        until = self._idle_until if self.unproven else max(self._idle_until, self._rest_until)
        return max(0.0, until - self._clock())

    @property
    def resting(self) -> bool:
        """Whether no suspect is to be tried yet, whatever else is sent."""
        return self._clock() < self._rest_until

    def refused_with_delay(self, lease: Lease, delay_seconds: float, *, waited: bool) -> None:
        """Keeps a suspect that was told to wait: it is tried once more when it has; then others are, for longer."""
        self.suspects.append(lease)
        self.due.clear()
        self.first = not waited
        if waited:
            self._rest_until = self._clock() + delay_seconds * (1 + OTHERS_TIMES)
        else:
            self.due.append(lease)

    def has_room(self, lease: Lease) -> bool:
        """Whether another suspect may be kept."""
        kept = sum(suspect.request_bytes for suspect in self.suspects) + lease.request_bytes
        return len(self.suspects) < MAX_APART and kept <= APART_REQUESTS * self._settings.max_request_bytes

    def add_due(self, leases: Collection[Lease]) -> None:
        """Keeps suspects that are to be tried as soon as others have been."""
        self.suspects.extend(leases)
        self.due.extend(leases)

    def call(self, *, but: Lease | None = None) -> None:
        """Makes all suspects due, as others have been tried; but not one that has just come back."""
        if self.resting:
            return
        self.due.extend(suspect for suspect in self.suspects if suspect is not but and suspect not in self.due)

    def taken(self, most: int, *, without: Collection[Stream] = ()) -> list[Lease]:
        """Takes out the next due suspects; none of the streams left out."""
        leases = [lease for lease in self.due if lease.stream not in without][: 1 if self.first else most]
        self.first = False
        for lease in leases:
            self.due.remove(lease)
            self.suspects.remove(lease)
        return leases

    def taken_while_idle(self, most: int, *, without: Collection[Stream] = ()) -> list[Lease]:
        """The same while nothing else is sent; where there are no suspects, all that is unproven."""
        self._idle_until = self._clock() + full_jitter_seconds(
            self.idle_step // IDLE_TRIES - IDLE_STEPS_BELOW,
            initial=self._settings.retry_initial_seconds,
            longest=self._settings.retry_max_seconds,
            random=self._random,
        )
        self.idle_step += 1
        self.call()
        if self.due:
            return self.taken(most, without=without)
        taken = [lease for lease, _ in self.unproven if lease.stream not in without]
        self.unproven = [(lease, refusal) for lease, refusal in self.unproven if lease.stream in without]
        return taken

    def hurry(self) -> None:
        """Makes the next try due now."""
        self._idle_until, self._rest_until = 0.0, -math.inf

    def forget(self, leases: Collection[Lease]) -> None:
        """Removes leases."""
        self.suspects = [lease for lease in self.suspects if lease not in leases]
        self.due = deque(lease for lease in self.due if lease not in leases)
        self.unproven = [(lease, refusal) for lease, refusal in self.unproven if lease not in leases]
