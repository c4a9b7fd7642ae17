"""Decides whether a request is to blame for its failures or the endpoint fails by chance: guilt by alternation.

A state machine without clock or socket. A request that met INTERNAL, 500 or the like is on trial. One alternation is:
it fails, and the next request that is on nobody's trial is accepted at its first try; if that one fails as well, the
count begins anew. An endpoint that fails at a share p of all requests, whatever they hold, completes an alternation
with probability p(1 - p), at most 1/4, and each trial may also end with an acquittal. So ten of them and one more
failure convict an innocent record with a probability below 10^-6, whatever p is.

| on trial | event | what follows |
|---|---|---|
| any | it is accepted | acquitted |
| fewer alternations than below | it fails | awaits another request's first try |
| 2 alternations, several records | it fails | split: halves are tried apart, which destroys nothing |
| 10 alternations, one record | it fails | convicted |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ALTERNATIONS_TO_SPLIT = 2
ALTERNATIONS_TO_CONVICT = 10


class Verdict(StrEnum):
    """What to do with a request that failed."""

    TRY_AGAIN = "try again"
    SPLIT = "split"
    CONVICT = "convict"


@dataclass(slots=True)
class _Trial:
    alternations: int = 0
    awaits_another: bool = False


class Suspects:
    """Not thread-safe. Requests are known by the number of their first batch."""

    def __init__(self) -> None:
        self._trials: dict[int, _Trial] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._trials

    def alternations(self, number: int) -> int:
        """How often it has failed while others passed."""
        return self._trials[number].alternations if number in self._trials else 0

    def accuse(self, number: int) -> None:
        """Puts a part of a suspect on a trial of its own."""
        self._trials.setdefault(number, _Trial())

    def failed(self, number: int, *, records: int) -> Verdict:
        """A request failed in a way that may be its own fault."""
        if number not in self._trials:
            self._another(passed=False)
        trial = self._trials.setdefault(number, _Trial())
        trial.awaits_another = True
        if records > 1:
            return Verdict.SPLIT if trial.alternations >= ALTERNATIONS_TO_SPLIT else Verdict.TRY_AGAIN
        return Verdict.CONVICT if trial.alternations >= ALTERNATIONS_TO_CONVICT else Verdict.TRY_AGAIN

    def passed(self, number: int) -> None:
        """A request was accepted."""
        if number in self._trials:
            del self._trials[number]
        else:
            self._another(passed=True)

    def dismiss(self, number: int) -> None:
        """A request is no longer there: split, set aside, or given back."""
        self._trials.pop(number, None)

    def _another(self, *, passed: bool) -> None:
        """A request that is on no trial has had its first try."""
        for trial in self._trials.values():
            if trial.awaits_another:
                trial.alternations = trial.alternations + 1 if passed else 0
                trial.awaits_another = False
