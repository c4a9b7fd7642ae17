"""Coverage: when each node, namespace and policy was heard of last, against its own usual interval.

A silence is measured on a clock that stands still while the bridge is blind. What is usual is learnt from the longest
silence of each of the last days: the median of them, which a single outage does not move, and which knows of nights.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

DAY_SECONDS = 86_400.0
DAYS = 8
"""So many days' longest silences are kept: a week, and the day that goes on."""
UNUSUAL_FACTOR = 3.0
GRACE_SECONDS = 300.0
"""A silence is unusual beyond three usual intervals and five minutes."""
LEARNING_SECONDS = DAY_SECONDS
"""What was heard first less long ago has no usual interval yet."""
MAX_SUBJECTS = 4096
"""Bounds memory to 8 MiB; beyond it what was silent longest is forgotten."""
MAX_NAME = 256
NOTE = "coverage"


class SubjectKind(StrEnum):
    """What can be heard of."""

    NODE = "node"
    NAMESPACE = "namespace"
    POLICY = "policy"


class CoverageAnswer(StrEnum):
    """Is its silence good news?"""

    USUAL = "usual"
    """It was heard of within three usual intervals and five minutes; or it is not known yet what is usual."""
    SILENT = "silent"
    """Silent for longer than usual, all of it watched."""
    UNKNOWN = "unknown"
    """Silent for longer than usual, but the bridge was blind meanwhile."""
    NEVER = "never"
    """Not heard of since the bridge started."""


class Subject(NamedTuple):
    """One node, namespace or policy."""

    kind: SubjectKind
    name: str


@dataclass(slots=True)
class SubjectHistory:
    """What is known of one subject. Times are Unix seconds; `watched` ones leave out when the bridge was blind."""

    first: float
    last: float
    last_watched: float
    day: int = 0
    """The day that goes on, counted from the epoch."""
    longest: list[float] = field(default_factory=list)
    """The longest silence of each day, in seconds, oldest first; the last one is the day's that goes on."""
    heard: bool = False
    """Since the bridge started."""

    def note(self, now: float, watched: float) -> None:
        """It is heard of."""
        silence, day = watched - self.last_watched, int(now // DAY_SECONDS)
        if day != self.day or not self.longest:
            self.day = day
            self.longest = [*self.longest[1 - DAYS :], 0.0]
        self.longest[-1] = max(self.longest[-1], silence)
        self.last, self.last_watched, self.heard = now, watched, True

    def usual_seconds(self, now: float) -> float | None:
        """Its usual interval; None while it is being learnt."""
        if now - self.first < LEARNING_SECONDS or not self.longest:
            return None
        whole = self.longest[:-1] if len(self.longest) > 1 and self.day == int(now // DAY_SECONDS) else self.longest
        ordered, middle = sorted(whole), len(whole) // 2
        return ordered[middle] if len(whole) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Report(NamedTuple):
    """The answer about one subject."""

    subject: Subject
    answer: CoverageAnswer
    last_unix_seconds: float
    usual_seconds: float | None


class Coverage:
    """Learns usual intervals, and answers which silence is unusual. Thread-safe; `observe` is called once a second.

    Args:
        note: what `Coverage.note` wrote in an earlier life.
        now: Unix seconds.
    """

    def __init__(self, note: str = "", *, now: float) -> None:
        self._lock = threading.Lock()
        self._subjects: OrderedDict[Subject, SubjectHistory] = OrderedDict()
        """Least recently heard of first."""
        self._counts: dict[Subject, float] = {}
        """As of the last look: what has changed since then was heard of."""
        self._watched = 0.0
        """Seconds in which everything was watched, in this life and earlier ones."""
        self._observed = now
        self._read(note)

    def observe(self, now: float, counts: Mapping[Subject, float], *, blind: bool) -> None:
        """Takes in what was heard of since the last call.

        Args:
            now: Unix seconds.
            counts: of each subject something that changes when it is heard of.
            blind: whether anything could not be watched meanwhile.
        """
        with self._lock:
            passed, self._observed = now - self._observed, now
            if not 0 <= passed < DAY_SECONDS:  # the clock was set: a node without one of its own begins in 1970
                for habit in self._subjects.values():
                    habit.first += passed
            elif not blind:
                self._watched += passed
            for subject, count in counts.items():
                if count != self._counts.get(subject):
                    self._heard(subject._replace(name=subject.name[:MAX_NAME]), now)
            self._counts = dict(counts)

    def reports(self, now: float) -> list[Report]:
        """The answer about each subject, by kind and name."""
        with self._lock:
            return [
                Report(subject, self._answer(habit, now), habit.last, habit.usual_seconds(now))
                for subject, habit in sorted(self._subjects.items())
            ]

    def note(self) -> str:
        """What is written down for the next start."""
        with self._lock:
            return json.dumps(
                {
                    "watched": self._watched,
                    "subjects": [
                        [*subject, habit.first, habit.last, habit.last_watched, habit.day, habit.longest]
                        for subject, habit in self._subjects.items()
                    ],
                },
                separators=(",", ":"),
            )

    def _heard(self, subject: Subject, now: float) -> None:
        habit = self._subjects.get(subject)
        if habit is None:
            if len(self._subjects) >= MAX_SUBJECTS:
                self._subjects.popitem(last=False)
            habit = self._subjects[subject] = SubjectHistory(now, now, self._watched)
        habit.note(now, self._watched)
        self._subjects.move_to_end(subject)

    def _answer(self, habit: SubjectHistory, now: float) -> CoverageAnswer:
        usual = habit.usual_seconds(now)
        if usual is not None:
            limit = UNUSUAL_FACTOR * usual + GRACE_SECONDS
            if self._watched - habit.last_watched > limit:
                return CoverageAnswer.SILENT
            if now - habit.last > limit:
                return CoverageAnswer.UNKNOWN
        return CoverageAnswer.USUAL if habit.heard else CoverageAnswer.NEVER

    def _read(self, note: str) -> None:
        try:
            tree = json.loads(note or "{}")
            for kind, name, first, last, watched, day, longest in tree.get("subjects", ())[-MAX_SUBJECTS:]:
                habit = SubjectHistory(
                    _number(first), _number(last), _number(watched), int(day), [_number(one) for one in longest]
                )
                self._subjects[Subject(SubjectKind(kind), str(name))] = habit
            self._watched = _number(tree.get("watched", 0.0))
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            self._subjects.clear()  # it begins anew


def _number(said: Any) -> float:
    number = float(said)
    if not math.isfinite(number):  # which JSON has not, but Python reads
        raise ValueError(f"{said} is no time")
    return number


def policies_in(document: Any) -> list[str]:
    """The names of KubeArmor's policies in what `kubectl get ... -o json` prints.

    Raises:
        ValueError: it is no list of objects with names.
    """
    items = document.get("items", [document]) if isinstance(document, dict) else None
    names = [_name_of(item) for item in items] if isinstance(items, list) else [None]
    if None in names:
        raise ValueError("it is no list of objects with names: `kubectl get ksp,csp,hsp -A -o json` prints one")
    return [name for name in names if name is not None]


def _name_of(item: Any) -> str | None:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else None
