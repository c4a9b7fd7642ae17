"""Learns how long a source is usually silent, and says whether a silence is unusual. Times are passed in.

Nothing says whether a silence means that nothing happened or that nobody was heard. So the longest silence of the
present run of events is compared with the one that goes on: four times as long is unusual. What was found unusual but
was short is not learnt, so that a second outage is noticed as well as the first. What lasted for minutes, or was not
followed by as many events as before, ends the run: the evening has come, and the next one has to prove itself longer.
"""

from __future__ import annotations

NANOSECONDS = 1_000_000_000

UNUSUAL_FACTOR = 4.0
"""A silence is unusual when it is so many times the longest of the run."""
SOUND_SECONDS = 0.5
"""What is heard within this time is one sound."""
SETTLED_SOUNDS = 30
"""So many sounds make a run that can be judged by: of random events, the next pause is four times the longest of 30
with a probability of 1 in 46,376."""
FORGET_SOUNDS = 200
"""After so many sounds the longest silence counts half."""
RUN_SECONDS = 20.0
"""A first run is believed after so long."""
LONGEST_RUN_SECONDS = 3600.0
"""Whatever runs have ended by themselves, one of an hour is believed."""
QUIET_SECONDS = 120.0
"""An unusual silence as long as this ends the run: an outage of a node is shorter, an evening longer."""
RESUMED_SOUNDS = 10
"""After an outage it goes on as before: an unusual silence after fewer sounds means that the habit has changed."""
MAX_STRIKES = 6
"""So many short unusual silences, less one an hour, are a habit after all."""
MAX_STRIKES_SECONDS = 3600.0


class Habit:
    """The silences of one speaker: a node, or an upstream as a whole. All times are Unix time in nanoseconds.

    Args:
        unix_nano: when it was heard first.
        floor_seconds: a silence that is shorter is never unusual.
    """

    __slots__ = (
        "_excused_from",
        "_excused_nano",
        "_excused_until",
        "_floor",
        "_longest",
        "_needed",
        "_run_from",
        "_sounded",
        "_sounds",
        "_sounds_since",
        "_strikes",
        "_struck",
        "last_unix_nano",
    )

    def __init__(self, unix_nano: int, *, floor_seconds: float) -> None:
        self.last_unix_nano = unix_nano
        self._floor = floor_seconds
        self._excused_nano = 0
        """What excuses before the latest one take of the present silence."""
        self._excused_from = self._excused_until = 0
        self._run_from = unix_nano
        self._sounds = 0
        self._sounds_since = RESUMED_SOUNDS
        self._sounded = unix_nano
        self._longest = 0.0
        self._needed = RUN_SECONDS
        self._strikes = 0.0
        self._struck = unix_nano

    def heard(self, unix_nano: int) -> bool:
        """It was heard at this time. Whether the silence before was unusual, and is worth a record."""
        if unix_nano <= self.last_unix_nano:
            return False
        silence, unusual = self._silence(unix_nano), self.unusual(unix_nano)
        run = (self.last_unix_nano - self._run_from) / NANOSECONDS
        self.last_unix_nano, self._excused_nano = unix_nano, 0
        if unix_nano - self._sounded >= SOUND_SECONDS * NANOSECONDS:
            self._sounded = unix_nano
            self._sounds += 1
            self._sounds_since += 1
            self._longest *= 0.5 ** (1 / FORGET_SOUNDS)
        if not unusual:
            if self._is_settled and silence > self._limit:
                self._begin_run(unix_nano)  # the run was too young to be judged by, and has ended by itself
            else:
                self._longest = max(self._longest, silence)
            return False
        resumed, self._sounds_since = self._sounds_since >= RESUMED_SOUNDS, 0
        if silence >= QUIET_SECONDS or not resumed:
            self._needed = min(max(self._needed, 2 * run), LONGEST_RUN_SECONDS)
            self._begin_run(unix_nano)
        if resumed and self._is_habit(unix_nano):
            self._longest = max(self._longest, silence)
            return False
        return resumed

    def unusual(self, unix_nano: int) -> bool:
        """Whether its silence up to this time is unusual."""
        believed = (self.last_unix_nano - self._run_from) / NANOSECONDS >= self._needed
        return believed and self._is_settled and self._silence(unix_nano) > self._limit

    def excuse(self, started_unix_nano: int, ended_unix_nano: int) -> None:
        """It could not be heard in this time, which may reach into the future: that does not count as its silence."""
        if started_unix_nano > self._excused_until:
            self._excused_nano += self._excused_within(self._excused_until)
            self._excused_from, self._excused_until = started_unix_nano, ended_unix_nano
        else:
            self._excused_from = min(self._excused_from, started_unix_nano)
            self._excused_until = max(self._excused_until, ended_unix_nano)

    def _silence(self, unix_nano: int) -> float:
        excused = self._excused_nano + self._excused_within(unix_nano)
        return (unix_nano - self.last_unix_nano - excused) / NANOSECONDS

    def _excused_within(self, unix_nano: int) -> int:
        """What the latest excuse takes of the silence up to this time."""
        return max(0, min(unix_nano, self._excused_until) - max(self.last_unix_nano, self._excused_from))

    @property
    def _is_settled(self) -> bool:
        return self._sounds >= SETTLED_SOUNDS

    @property
    def _limit(self) -> float:
        return max(self._floor, UNUSUAL_FACTOR * self._longest)

    def _begin_run(self, unix_nano: int) -> None:
        self._run_from, self._sounds, self._longest = unix_nano, 0, 0.0

    def _is_habit(self, unix_nano: int) -> bool:
        forgiven = (unix_nano - self._struck) / NANOSECONDS / MAX_STRIKES_SECONDS
        self._strikes, self._struck = max(0.0, self._strikes - forgiven) + 1, unix_nano
        return self._strikes > MAX_STRIKES
