"""Coverage: when each node, namespace and policy was heard of last, against its own usual interval.

A silence is measured on a clock that stands still while the bridge is blind, and that nobody sets. What is usual is
learnt from the longest silence of each of the last days: the median of them, which a single outage does not move, and
which knows of nights. A subject's days begin when it was heard of first, so each of them is a whole one.
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
LEAST_HEARD_SECONDS = DAY_SECONDS / 2
"""Nor has what was heard of within so little time: one incident tells nothing of intervals."""
CLOCK_SET_SECONDS = 1.0
"""Where the clock on the wall differs by more from the one that nobody sets, it was set."""
GONE_SECONDS = 7 * DAY_SECONDS
"""A node or namespace that was said to be silent for so long is gone, and forgotten."""
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
    """What is known of one subject. `watched` times are seconds that leave out when the bridge was blind."""

    first_watched: float
    last: float
    """Unix seconds."""
    last_watched: float
    day: int = 0
    """The day of `last_watched`, counted from the first one."""
    longest: list[float] = field(default_factory=list)
    """The longest silence of each day, in seconds, oldest first; the last one is the day's that goes on."""
    heard: bool = False
    """Since the bridge started."""

    def note(self, now: float, watched: float) -> None:
        """It is heard of."""
        silence, day = watched - self.last_watched, int((watched - self.first_watched) // DAY_SECONDS)
        if day != self.day or not self.longest:
            passed = [silence] * min(max(day - self.day, 1), DAYS)  # it was silent in all of them
            self.day, self.longest = day, [*self.longest, *passed][-DAYS:]
        self.longest[-1] = max(self.longest[-1], silence)
        self.last, self.last_watched, self.heard = now, watched, True

    def usual_seconds(self, watched: float) -> float | None:
        """Its usual interval; None while it is being learnt."""
        is_new = watched - self.first_watched < LEARNING_SECONDS
        if is_new or self.last_watched - self.first_watched < LEAST_HEARD_SECONDS:
            return None
        # The day that goes on has not shown its longest silence yet; what it has shown may be longer than usual.
        return max(_median(days) for days in (self.longest, self.longest[:-1]) if days)

    def limit_seconds(self, watched: float) -> float:
        """The longest silence that is usual."""
        usual = self.usual_seconds(watched)
        return math.inf if usual is None else UNUSUAL_FACTOR * usual + GRACE_SECONDS


def _median(numbers: list[float]) -> float:
    ordered, middle = sorted(numbers), len(numbers) // 2  # the library's brings decimals and fractions with it
    return ordered[middle] if len(numbers) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


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

    def observe(self, now: float, counts: Mapping[Subject, float], *, blind: bool, passed: float | None = None) -> None:
        """Takes in what was heard of since the last call.

        Args:
            now: Unix seconds.
            counts: of each subject something that changes when it is heard of.
            blind: whether anything could not be watched meanwhile.
            passed: seconds since the last call, of a clock that nobody sets; by default those of `now`, up to a day.
        """
        with self._lock:
            by_wall, self._observed = now - self._observed, now
            if passed is None:
                passed = by_wall if 0 <= by_wall < DAY_SECONDS else 0.0
            if abs(by_wall - passed) > CLOCK_SET_SECONDS:  # a node without a clock of its own begins in 1970
                for history in self._subjects.values():
                    history.last += by_wall - passed if history.heard else 0.0
            if not blind:
                self._watched += passed
            for subject, count in counts.items():
                if count != self._counts.get(subject):
                    self._heard(subject._replace(name=subject.name[:MAX_NAME]), now)
            self._counts = dict(counts)
            self._forget()

    def reports(self, now: float) -> list[Report]:
        """The answer about each subject, by kind and name."""
        with self._lock:
            return [
                Report(subject, self._answer(history, now), history.last, history.usual_seconds(self._watched))
                for subject, history in sorted(self._subjects.items())
            ]

    def note(self) -> str:
        """What is written down for the next start."""
        with self._lock:
            return json.dumps(
                {
                    "watched": self._watched,
                    "subjects": [
                        # As if it had been watched all the time since it was heard of first.
                        [*subject, one.last - one.last_watched + one.first_watched, one.last, one.last_watched,
                         one.day, one.longest]
                        for subject, one in self._subjects.items()
                    ],
                },
                separators=(",", ":"),
            )  # fmt: skip

    def _heard(self, subject: Subject, now: float) -> None:
        history = self._subjects.get(subject)
        if history is None:
            if len(self._subjects) >= MAX_SUBJECTS:
                self._subjects.popitem(last=False)
            history = self._subjects[subject] = SubjectHistory(self._watched, now, self._watched)
        history.note(now, self._watched)
        self._subjects.move_to_end(subject)

    def _forget(self) -> None:
        """Lets go of the one that was silent longest, where it is gone."""
        for subject, history in self._subjects.items():
            silence = self._watched - history.last_watched
            if silence <= GONE_SECONDS:
                return
            if subject.kind is not SubjectKind.POLICY and silence > history.limit_seconds(self._watched) + GONE_SECONDS:
                del self._subjects[subject]
                return

    def _answer(self, history: SubjectHistory, now: float) -> CoverageAnswer:
        limit = history.limit_seconds(self._watched)
        if self._watched - history.last_watched > limit:
            return CoverageAnswer.SILENT
        if now - history.last > limit:
            return CoverageAnswer.UNKNOWN
        return CoverageAnswer.USUAL if history.heard else CoverageAnswer.NEVER

    def _read(self, note: str) -> None:
        try:
            tree = json.loads(note or "{}")
            for kind, name, first, last, watched, day, longest in tree.get("subjects", ())[-MAX_SUBJECTS:]:
                last_unix, last_watched = _number(last), _number(watched)
                first_watched = last_watched - max(0.0, last_unix - _number(first))
                self._subjects[Subject(SubjectKind(kind), str(name))] = SubjectHistory(
                    first_watched, last_unix, last_watched, int(day), [_number(one) for one in longest][-DAYS:]
                )
            self._watched = _number(tree.get("watched", 0.0))
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            self._subjects.clear()  # it begins anew


def _number(said: Any) -> float:
    number = float(said)
    if not math.isfinite(number):  # which JSON has not, but Python reads
        raise ValueError(f"{said} is no time")
    return number


def policies_in(document: Any) -> list[str]:
    """The names of KubeArmor's policies in what `kubectl get ... -o json` prints; other objects are passed over.

    Raises:
        ValueError: it is no list of objects with names, or none of them is a policy.
    """
    is_list = isinstance(document, dict) and "items" in document
    items = (document["items"] or []) if is_list else [document]
    if not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
        raise ValueError(NO_LIST)
    of_list = str(document.get("kind") or "").removesuffix("List") if is_list else ""
    kinds = [str(item.get("kind") or of_list or ANY_POLICY) for item in items]
    names = [_name_of(item) for item, kind in zip(items, kinds, strict=True) if _is_policy(kind)]
    if None in names:
        raise ValueError(NO_LIST)
    if items and not names:
        found = ", ".join(sorted(set(kinds))[:5])
        raise ValueError(f"there is no policy of KubeArmor's among its objects ({found}): {COMMAND} prints them")
    return [name for name in names if name is not None]


COMMAND = "`kubectl get ksp,csp,hsp -A -o json`"
NO_LIST = f"it is no list of objects with names: {COMMAND} prints one"
ANY_POLICY = "KubeArmorPolicy"


def _is_policy(kind: str) -> bool:
    """KubeArmorPolicy, and those of clusters, hosts and networks."""
    return kind.startswith("KubeArmor") and kind.endswith("Policy")


def _name_of(item: dict[str, Any]) -> str | None:
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and name else None
