"""Keeps which nodes were heard behind an upstream, and which of them are unusually silent.

A relay says nothing of its links to the nodes: when one is gone its streams stay open and quiet. All that can be seen
is that a node which used to speak no longer does. Nothing says whether a silence means that nothing happened or that
nobody was heard. So the silence that goes on is compared with the longest ones of the present run of events: what
is 4.5 times the third of them is unusual. What was unusual is never learnt, so the thirtieth outage is noticed as well
as the first. What lasted for minutes, or is followed by a slower pace, ends the run: the evening has come, and the next
run has to prove itself longer before another such silence is believed; a short one after which it goes on as before is
an outage even then. Times are passed in.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from otelbridge.event import NANOSECONDS, Gap, GapCause
from otelbridge.feed.gap_tracker import IN_FLIGHT_NANOS

UNUSUAL_FACTOR = 4.5
"""A silence is unusual when it is so many times the third longest of the run."""
LONGEST = 3
"""So many of the longest silences are kept, and the shortest of them counts: one or two absences that were a little too
short to be unusual must not hide the next ones."""
NEAR_MIN_SECONDS = 1.0
NEAR_FACTOR = 2.0
"""Next to a gap of the upstream less is unusual."""
SOUND_SECONDS = 0.5
"""What is heard within this time is one sound."""
SETTLED_SOUNDS = 30
"""So many sounds make a run that can be judged by: simulated days with quiet nights have one false record at most."""
FORGET_SOUNDS = 200
"""After so many sounds a silence counts half."""
FADING = 0.5 ** (1 / FORGET_SOUNDS)
RUN_SECONDS = 20.0
"""A first run is believed after so long."""
LONGEST_RUN_SECONDS = 3600.0
"""Whatever runs have ended by themselves, one of an hour is believed."""
QUIET_SECONDS = 120.0
"""An unusual silence as long as this ends the run: an outage of a node is shorter, an evening longer."""
RESUMED_SOUNDS = 10
"""After an outage it goes on as before: an unusual silence after fewer sounds is tentative: the habit may have
changed."""
SLOWER = 2.0
"""It has changed where these take so many times as long as the run's: the evening has come."""
DENSER = 10.0
"""Silences of which each is so many times shorter than the third longest: the morning has come, a new run begins."""
EXCUSE_SECONDS = 2.0
"""An absence waits for so long whether the upstream's own gap explains it."""
OWN_RECORDS = 12
"""So many absences, less one an hour, have a record each."""
FORGIVEN_SECONDS = 3600.0
JOINED_SECONDS = 60.0
"""Of those beyond, the first of so long become one record, then those of twice as long, and so on up to a day: however
often a node pauses its records stay few, and each absence is within one."""


class Absence(NamedTuple):
    """A stretch in which a node was not heard, or was in a few parts. Unix time in nanoseconds."""

    started: int
    ended: int
    number: int = 1
    """Of its parts."""

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.ended - self.started) / NANOSECONDS


def _shifted(absence: Absence, nanoseconds: int) -> Absence:
    return absence._replace(started=absence.started + nanoseconds, ended=absence.ended + nanoseconds)


class Joining:
    """Decides which absences of one node have records of their own, and joins the others."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._spent_at = 0
        self._joined: Absence | None = None
        self._due = 0
        self._pause = JOINED_SECONDS

    def shift(self, nanoseconds: int) -> None:
        """The clock was set by so much."""
        self._spent_at, self._due = self._spent_at + nanoseconds, self._due + nanoseconds
        self._joined = self._joined and _shifted(self._joined, nanoseconds)

    def add(self, absence: Absence) -> Absence | None:
        """Takes an absence, and returns what is to be put on record now."""
        forgiven = (absence.ended - self._spent_at) / NANOSECONDS / FORGIVEN_SECONDS
        self._spent, self._spent_at = max(0.0, self._spent - forgiven) + 1, absence.ended
        if self._spent <= OWN_RECORDS:
            self._pause = JOINED_SECONDS
            return absence
        if self._joined is None:
            self._joined, self._due = absence, absence.ended + int(self._pause * NANOSECONDS)
            self._pause = min(2 * self._pause, FORGET_SECONDS)
        else:
            joined = self._joined
            self._joined = Absence(joined.started, absence.ended, joined.number + absence.number)
        return None

    def due(self, now_unix_nano: int) -> Absence | None:
        """The joined absences, when it is time to."""
        return self.rest() if self._joined is not None and now_unix_nano >= self._due else None

    def rest(self) -> Absence | None:
        """The joined absences that are not on record yet."""
        joined, self._joined = self._joined, None
        return joined


class Habit:
    """The silences of one node: what is usual, and which absence is worth a record. Unix time in nanoseconds."""

    def __init__(self, unix_nano: int, *, floor_seconds: float) -> None:
        self.last_unix_nano = unix_nano
        self._floor = floor_seconds
        self._excused_nano = 0
        """What excuses before the latest one take of the present silence."""
        self._excused_from = self._excused_until = 0
        self._run_from = unix_nano
        self._sounds = 0
        self._sounds_since = RESUMED_SOUNDS
        self._seconds_since = 0.0
        """How long these took."""
        self._sounded = unix_nano
        self._longest = [0.0] * LONGEST
        """Silences of the run, falling; each has faded with the sounds since."""
        self._seconds = 0.0
        """All silences of the run, faded likewise."""
        self._dense = 0
        """Sounds in a row that came much faster than the run's."""
        self._needed = RUN_SECONDS
        self._absence: Absence | None = None
        """An unusual silence that has ended."""
        self._is_tentative = False
        """It came soon after another one: perhaps it is the habit that has changed."""
        self._away_since = unix_nano
        """When the first of these began."""

    def shift(self, nanoseconds: int) -> None:
        """The clock was set by so much: silences are as long as before."""
        self.last_unix_nano += nanoseconds
        self._excused_from, self._excused_until = self._excused_from + nanoseconds, self._excused_until + nanoseconds
        self._run_from, self._sounded = self._run_from + nanoseconds, self._sounded + nanoseconds
        self._away_since += nanoseconds
        self._absence = self._absence and _shifted(self._absence, nanoseconds)

    def heard(self, unix_nano: int) -> None:
        """It was heard at this time."""
        if unix_nano <= self.last_unix_nano:
            return
        silence, proven = self._silence(unix_nano), self.unusual(unix_nano)
        began, run = self.last_unix_nano, self._run_seconds
        # A run that is too young for an evening is old enough for an outage: that is short, and it goes on afterwards.
        unusual = proven or (self._is_long(unix_nano) and silence <= min(QUIET_SECONDS, run) and run >= RUN_SECONDS)
        self.last_unix_nano, self._excused_nano = unix_nano, 0
        if unix_nano - self._sounded >= SOUND_SECONDS * NANOSECONDS:
            self._sounded = unix_nano
            self._sounds += 1
            self._sounds_since += 1
            self._longest = [seconds * FADING for seconds in self._longest]
            self._seconds *= FADING
            self._dense = self._dense + 1 if silence * DENSER < self._longest[-1] else 0
        if not unusual:
            if self._is_settled and silence > self._limit:
                self._begin_run(unix_nano)  # the run was too young to be judged by, and has ended by itself
                self._absence = None if self._is_tentative else self._absence
            else:
                self._longest = sorted([*self._longest, silence], reverse=True)[:LONGEST]
                self._seconds, self._seconds_since = self._seconds + silence, self._seconds_since + silence
                if self._sounds_since == RESUMED_SOUNDS and self._sounded == unix_nano and self._is_slower:
                    self._end_run(run)
            if self._dense >= SETTLED_SOUNDS:
                self._begin_run(unix_nano)
            return
        resumed, self._sounds_since, self._seconds_since = self._sounds_since >= RESUMED_SOUNDS, 0, 0.0
        if resumed:
            self._away_since = began
        if self._absence is not None:
            self._absence = self._absence._replace(ended=unix_nano, number=self._absence.number + 1)
        else:
            self._absence, self._is_tentative = Absence(began, unix_nano), not (resumed and proven)
        if unix_nano - self._away_since >= QUIET_SECONDS * NANOSECONDS:
            self._end_run(run)

    def absence(self, now_unix_nano: int) -> Absence | None:
        """The absence that has ended before this time and is worth a record, once."""
        absence = self._absence
        if absence is None or now_unix_nano - absence.ended < EXCUSE_SECONDS * NANOSECONDS:
            return None
        if self._is_tentative and self._sounds_since < RESUMED_SOUNDS:
            return None
        self._absence = None
        return absence

    def last_absence(self) -> Absence | None:
        """The absence that has ended, whether or not it is settled: nothing more is to be heard."""
        absence, self._absence = self._absence, None
        return absence

    def unusual(self, unix_nano: int) -> bool:
        """Whether its silence up to this time is unusual, however it goes on."""
        return self._run_seconds >= self._needed and self._is_long(unix_nano)

    def excuse(self, started_unix_nano: int, ended_unix_nano: int) -> None:
        """It could not be heard in this time, which may reach into the future: that does not count as its silence."""
        if self._absence is not None:
            both = min(self._absence.ended, ended_unix_nano) - max(self._absence.started, started_unix_nano)
            if self._absence.seconds - max(0, both) / NANOSECONDS <= self._near_limit:
                self._absence = None
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

    def _is_long(self, unix_nano: int) -> bool:
        """Whether its silence is long, as far as the run can be judged by."""
        excused = self._excused_nano + self._excused_within(unix_nano) > 0
        return self._is_settled and self._silence(unix_nano) > (self._near_limit if excused else self._limit)

    @property
    def _run_seconds(self) -> float:
        return (self.last_unix_nano - self._run_from) / NANOSECONDS

    @property
    def _is_settled(self) -> bool:
        return self._sounds >= SETTLED_SOUNDS

    @property
    def _limit(self) -> float:
        return max(self._floor, UNUSUAL_FACTOR * self._longest[-1])

    @property
    def _near_limit(self) -> float:
        """The limit for a silence that began in the upstream's own gap: the relay may not have found the node yet."""
        return max(NEAR_MIN_SECONDS, NEAR_FACTOR * self._longest[-1])

    @property
    def _is_slower(self) -> bool:
        """Whether what came after the absence took longer than before."""
        of_a_sound: float = self._seconds * (1 - FADING) / (1 - FADING**self._sounds)
        return self._seconds_since > SLOWER * RESUMED_SOUNDS * of_a_sound

    def _end_run(self, seconds: float) -> None:
        """The habit has changed."""
        self._needed = min(max(self._needed, 2 * seconds), LONGEST_RUN_SECONDS)
        self._begin_run(self.last_unix_nano)
        self._absence = None if self._is_tentative else self._absence

    def _begin_run(self, unix_nano: int) -> None:
        self._run_from, self._sounds, self._dense = unix_nano, 0, 0
        self._longest, self._seconds = [0.0] * LONGEST, 0.0


SILENT_MIN_SECONDS = 4.5
"""A shorter silence means nothing: a relay that has lost a node comes back to it after 5 s."""
FORGET_SECONDS = 86_400.0
"""A node that was silent for a day is put on record and forgotten: it may have left the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentNode:
    """A node that used to speak and does not."""

    upstream: str
    node: str
    last_event_unix_nano: int


@dataclass(slots=True)
class _NodeHabit:
    name: str
    habit: Habit
    joining: Joining = field(default_factory=Joining)
    told: bool = False
    """Its present silence has been told."""


class NodeRoster:
    """When each node was last heard, for a bounded number of nodes. Thread-safe.

    A node has one name: KubeArmor's own messages carry the host's, cut at the first dot, alerts and logs the node's.
    """

    def __init__(self, max_nodes: int = 1000) -> None:
        self.max_nodes = max_nodes
        """Changed by a reload."""
        self._lock = threading.Lock()
        self._nodes: OrderedDict[tuple[str, str], _NodeHabit] = OrderedDict()
        """By upstream and name; least recently heard first."""
        self._full_names: dict[tuple[str, str], set[str]] = {}
        """By upstream and first label: the names with a dot that begin with it."""

    def heard(self, upstream: str, seen: Mapping[str, int]) -> None:
        """Nodes sent events through this upstream, the last of each at that Unix time in nanoseconds."""
        with self._lock:
            for node, unix_nano in seen.items():
                if node:
                    self._heard(upstream, node, unix_nano)

    def shift(self, nanoseconds: int) -> None:
        """The clock was set by so much."""
        with self._lock:
            for node in self._nodes.values():
                node.habit.shift(nanoseconds)
                node.joining.shift(nanoseconds)

    def excuse(self, gap: Gap) -> None:
        """The upstream could not be watched for a while, which is on record: its nodes were not silent then."""
        with self._lock:
            for (upstream, _), node in self._nodes.items():
                if upstream == gap.upstream:
                    node.habit.excuse(gap.started_unix_nano, gap.ended_unix_nano)

    def fallen_silent(self, now_unix_nano: int) -> list[SilentNode]:
        """The nodes that are silent against their habit and were not handed out since: each silence is told once."""
        with self._lock:
            fresh = [(key, node) for key, node in self._silent(now_unix_nano) if not node.told]
            for _, node in fresh:
                node.told = True
            return [_as_silent(key, node) for key, node in fresh]

    def to_record(self, now_unix_nano: int) -> list[Gap]:
        """The absences that are to be put on record now. A node that was silent for a day is forgotten with its own."""
        gaps = []
        horizon = now_unix_nano - int(FORGET_SECONDS * NANOSECONDS)
        with self._lock:
            for key, node in list(self._nodes.items()):
                if (absence := node.habit.absence(now_unix_nano)) and (own := node.joining.add(absence)):
                    gaps.append(_gap(key[0], node, own))
                if joined := node.joining.due(now_unix_nano):
                    gaps.append(_gap(key[0], node, joined))
                if node.habit.last_unix_nano < horizon and node.habit.unusual(now_unix_nano):
                    gaps += self._last_words(key[0], node, now_unix_nano, "It is not expected any more.")
                    self._forget(key)
        return gaps

    def forget_upstream(self, upstream: str, now_unix_nano: int) -> list[Gap]:
        """An upstream is no longer subscribed to, so its nodes are not expected any more; what is not on record yet."""
        gaps = []
        with self._lock:
            for key, node in [(key, node) for key, node in self._nodes.items() if key[0] == upstream]:
                gaps += self._last_words(upstream, node, now_unix_nano, "It went on when the subscription ended.")
                self._forget(key)
        return gaps

    @staticmethod
    def _last_words(upstream: str, node: _NodeHabit, now_unix_nano: int, detail: str) -> list[Gap]:
        absence = node.habit.last_absence()
        known = [absence and node.joining.add(absence), node.joining.rest()]
        gaps = [_gap(upstream, node, absence) for absence in known if absence]
        if node.habit.unusual(now_unix_nano):
            gaps.append(_gap(upstream, node, Absence(node.habit.last_unix_nano, now_unix_nano), detail))
        return gaps

    def last_seen(self) -> dict[tuple[str, str], int]:
        """Upstream and node to the Unix time in nanoseconds of the last event."""
        with self._lock:
            return {key: node.habit.last_unix_nano for key, node in self._nodes.items()}

    def of_upstream(self, upstream: str, now_unix_nano: int) -> tuple[int, tuple[str, ...]]:
        """How many nodes are known behind an upstream, and the names of those that are silent."""
        with self._lock:
            known = sum(1 for key in self._nodes if key[0] == upstream)
            return known, tuple(node.name for key, node in self._silent(now_unix_nano) if key[0] == upstream)

    def _heard(self, upstream: str, name: str, unix_nano: int) -> None:
        key = self._key(upstream, name)
        if key is None or not self.max_nodes:
            return
        node = self._nodes.get(key)
        if node is None:
            self._make_room()
            self._nodes[key] = _NodeHabit(key[1], Habit(unix_nano, floor_seconds=SILENT_MIN_SECONDS))
        elif unix_nano > node.habit.last_unix_nano:
            node.habit.heard(unix_nano)
            node.told = False
            self._nodes.move_to_end(key)

    def _key(self, upstream: str, name: str) -> tuple[str, str] | None:
        """The node that goes by this name; None where two nodes could."""
        label, dot, _ = name.partition(".")
        names = self._full_names.get((upstream, label))
        if not dot:
            if not names:
                return upstream, name
            return (upstream, next(iter(names))) if len(names) == 1 else None
        if names is None or name not in names:
            self._full_names.setdefault((upstream, label), set()).add(name)
            short = self._nodes.pop((upstream, label), None)
            if short is not None and names is None:
                short.name = name
                self._nodes[upstream, name] = short
        return upstream, name

    def _silent(self, now_unix_nano: int) -> list[tuple[tuple[str, str], _NodeHabit]]:
        return [(key, node) for key, node in self._nodes.items() if node.habit.unusual(now_unix_nano)]

    def _make_room(self) -> None:
        while len(self._nodes) >= self.max_nodes:
            self._forget(next(iter(self._nodes)))

    def _forget(self, key: tuple[str, str]) -> None:
        del self._nodes[key]
        upstream, name = key
        label = upstream, name.partition(".")[0]
        if names := self._full_names.get(label):
            names.discard(name)
            if not names:
                del self._full_names[label]


def _as_silent(key: tuple[str, str], node: _NodeHabit) -> SilentNode:
    return SilentNode(upstream=key[0], node=key[1], last_event_unix_nano=node.habit.last_unix_nano)


def _gap(upstream: str, node: _NodeHabit, absence: Absence, detail: str = "") -> Gap:
    if absence.number > 1:
        detail = f"It was away {absence.number} times in this stretch."
    return Gap(
        stream=None,
        upstream=upstream,
        cause=GapCause.NODE_SILENT,
        started_unix_nano=absence.started - IN_FLIGHT_NANOS,
        ended_unix_nano=absence.ended,
        node=node.name,
        detail=detail,
        suspected=True,
    )
