"""Finds the records that an endpoint will never take, and decides what may be chance. No clock, no socket.

`Contents` takes an encoded request apart by source (one resource: a pod, a node). `Search` says which records of a
refused request to send next, until each is accepted or refused alone. `BadSources` remembers whose were refused.
`Refusals` decides whether refusals are about the records, `Suspects` whether failures (INTERNAL, 500) are.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from otelbridge.protobuf import DELIMITED, END_GROUP, GROUP, delimited, fields

RESOURCE_LOGS = 1
SCOPE_LOGS = 2
LOG_RECORDS = 2
"""Field numbers: ExportLogsServiceRequest.resource_logs, ResourceLogs.scope_logs, ScopeLogs.log_records."""

Group = tuple[int, ...]
"""Records that are sent together, by their numbers in the request."""


class _Scope(NamedTuple):
    """One ScopeLogs, taken apart."""

    rest: bytes
    """Everything but its records, encoded."""
    records: list[bytes]
    """Each with its tag and length."""


class _Place(NamedTuple):
    """Where a record stands."""

    source: bytes
    """Its resource as it is encoded, which is all of its ResourceLogs but the records."""
    scope: bytes
    record: bytes


class Contents:
    """The records of a request, numbered source by source.

    On the wire format, as a record that does not decode (an endpoint refused it, after all) must be split off as well.
    All other fields of the three messages are repeated in each part.

    Raises:
        ValueError: it is not an encoded request.
    """

    def __init__(self, request: bytes) -> None:
        self._rest, resources = _split_off(request, RESOURCE_LOGS)
        found: dict[bytes, list[_Scope]] = {}
        for _, body in resources:
            rest, scopes = _split_off(body, SCOPE_LOGS)
            found.setdefault(rest, []).extend(_scope(scope) for _, scope in scopes)
        self._places = [
            _Place(source, scope.rest, record)
            for source, scopes in found.items()
            for scope in scopes
            for record in scope.records
        ]

    @property
    def records(self) -> int:
        """How many there are."""
        return len(self._places)

    def source(self, number: int) -> bytes:
        """Whose record it is."""
        return self._places[number].source

    def sources(self, group: Iterable[int]) -> Counter[bytes]:
        """How many records of a group are whose."""
        return Counter(self._places[number].source for number in group)

    def part(self, group: Iterable[int]) -> bytes:
        """The request with only these records, in the order of their numbers."""
        chosen: dict[bytes, list[_Scope]] = {}
        for number in sorted(group):
            source, scope, record = self._places[number]
            scopes = chosen.setdefault(source, [])
            if not scopes or scopes[-1].rest is not scope:
                scopes.append(_Scope(scope, []))
            scopes[-1].records.append(record)
        parts = [self._rest]
        for source, scopes in chosen.items():
            encoded = (_field(SCOPE_LOGS, scope.rest + b"".join(scope.records)) for scope in scopes)
            parts.append(_field(RESOURCE_LOGS, source + b"".join(encoded)))
        return b"".join(parts)


def _scope(body: bytes) -> _Scope:
    rest, records = _split_off(body, LOG_RECORDS)
    return _Scope(rest, [field for field, _ in records])


def _split_off(message: bytes, number: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A message without field `number`, and that field's occurrences: each whole, and its value alone."""
    rest, found = [], []
    for field_number, wire_type, start, value, end in fields(message):
        if wire_type in {GROUP, END_GROUP}:
            raise ValueError(f"a group at byte {start}")
        if field_number == number:
            found.append((message[start:end], message[value:end]))
        else:
            rest.append(message[start:end])
    return b"".join(rest), found


def _field(number: int, value: bytes) -> bytes:
    return delimited(bytes([number << 3 | DELIMITED]), value)


HALF_PASS = math.log(2)
"""As many bad records as a group may be expected to hold: half of the groups pass, so each tells as much as it can."""
HOPELESS = 2 * HALF_PASS
"""Expected in a refused group, more than this says no more than was known before."""
TRIES_BEFORE_OTHERS = 3
"""A record that was refused alone is tried so often before more is searched: that usually proves enough, for all."""
TRIES_ALONE = 24
"""Refusals of one record alone in one search; if they may be chance even then, it is kept for later."""


class Search:
    """Which records of one request to send next, and what the answers say about each of them.

    Binary splitting (Hwang, 1972). A refused group holds a bad record: its first half is sent.

    | answer to | accepted | refused |
    |---|---|---|
    | first half of a refused group | the second half holds a bad one | the first half does, the second is unknown |
    | unknown records | good | they hold a bad one |
    | one record | good | bad, if that cannot be chance; else it is sent again at once |

    With 10 % bad records, that is 0.55 requests a record, where entropy demands 0.47.

    Args:
        contents: of the request.
        share: of a source's records, how many are bad as far as is known.
        most: records in a group at most.
    """

    def __init__(self, contents: Contents, share: Callable[[bytes], float], most: Callable[[], int]) -> None:
        self.contents = contents
        self._share, self._most = share, most
        self._unknown = deque(sorted(range(contents.records), key=lambda number: share(contents.source(number))))
        self._holding_bad: list[Group] = []
        self._second_halves: dict[Group, Group] = {}
        """Of the groups whose first halves are under way, by these."""
        self._alone: dict[int, int] = {}
        """How often a record was refused alone."""
        self._refused_within: set[int] = set()
        """What is left of a refused group, all others of which were accepted."""
        self._doubtful: deque[int] = deque()
        """Refused alone, which may be chance."""
        self._postponed: set[int] = set()
        self.accepted: list[int] = []
        self.bad: list[int] = []
        self.failing: list[Group] = []
        """Groups that failed twice without being refused: another matter."""

    def whole(self) -> Group:
        """All of them as one group, where the request has been sent as it is."""
        group = tuple(self._unknown)
        self._unknown.clear()
        return group

    def next_group(self, *, proven: bool) -> Group | None:
        """What to send now; None when that depends on answers under way, or all are judged.

        `proven`: refusals are no chance.
        """
        if proven:
            self.bad += self._doubtful
            self._doubtful.clear()
        elif self._doubtful and self._alone[self._doubtful[0]] < TRIES_BEFORE_OTHERS:
            return (self._doubtful.popleft(),)
        while self._holding_bad:
            group = self._holding_bad.pop()
            if len(group) == 1:
                self._refused_within.add(group[0])
                return group
            if self._expected(group) > HOPELESS:
                self._unknown.extendleft(reversed(group))
                continue
            first, second = halves(self.contents, group)
            self._second_halves[first] = second
            return first
        if self._unknown:
            return self._some_unknown()
        return (self._doubtful.popleft(),) if self._doubtful else None

    def passed(self, group: Group) -> bool:
        """It was accepted. Returns whether that contradicts a refusal: the endpoint refuses by chance, then."""
        self.accepted += group
        second = self._second_halves.pop(group, ())
        if second:
            self._holding_bad.append(second)
        return len(group) == 1 and (group[0] in self._alone or group[0] in self._refused_within)

    def refused(self, group: Group, *, proven: bool) -> None:
        """It was refused: one record is bad now, if that is proven to be no chance."""
        self._unknown.extendleft(reversed(self._second_halves.pop(group, ())))
        if len(group) > 1:
            self._holding_bad.append(group)
            return
        number = group[0]
        self._alone[number] = self._alone.get(number, 0) + 1
        if proven:
            self.bad.append(number)
        elif self._alone[number] < TRIES_ALONE:
            self._doubtful.append(number)

    def refused_before(self, group: Group) -> bool:
        """Whether it is one record that was refused alone already."""
        return len(group) == 1 and group[0] in self._alone

    def stained(self, group: Group) -> bool:
        """Whether of each of its sources a record has been refused alone: another refusal is nothing new."""
        stained = {self.contents.source(number) for number in self._alone}
        return stained.issuperset(self.contents.sources(group))

    def suspected(self, group: Group) -> bool:
        """Whether there is something against any of its sources."""
        return any(self._share(self.contents.source(number)) for number in group) or not self._alone.keys().isdisjoint(
            group
        )

    def too_large(self, group: Group) -> None:
        """It was too large: that says nothing about its records. `most` is less now."""
        if len(group) > 1:
            self._unknown.extendleft(reversed(self._second_halves.pop(group, ())))
            for part in reversed(halves(self.contents, group)):
                self._unknown.extendleft(reversed(part))
        else:
            self.bad.append(group[0])

    def failed(self, group: Group) -> None:
        """It met a failure that may be chance: once more, after others."""
        self._unknown.extend(self._second_halves.pop(group, ()))
        if self._postponed.issuperset(group):
            self.failing.append(group)
        else:
            self._postponed.update(group)
            self._unknown.extend(group)

    def left(self) -> list[int]:
        """The records that are not judged; none of them may be under way."""
        judged = {*self.accepted, *self.bad, *(number for group in self.failing for number in group)}
        return [number for number in range(self.contents.records) if number not in judged]

    def _some_unknown(self) -> Group:
        group: list[int] = []
        expected, most = 0.0, max(1, self._most())
        while self._unknown and len(group) < most:
            share = self._share(self.contents.source(self._unknown[0]))
            if group and (expected + share > HALF_PASS or bool(share) != bool(expected)):
                break  # a source without a stain goes with its like
            expected += share
            group.append(self._unknown.popleft())
        return tuple(group)

    def _expected(self, group: Group) -> float:
        return sum(self._share(source) * records for source, records in self.contents.sources(group).items())


def halves(contents: Contents, group: Group) -> tuple[Group, Group]:
    """Two groups of about as many records, parted between two sources where there are several."""
    source, middle = contents.source, len(group) / 2
    edges = [n for n in range(1, len(group)) if source(group[n]) != source(group[n - 1])]
    edge = min(edges, key=lambda edge: abs(edge - middle), default=len(group) // 2)
    return group[:edge], group[edge:]


MAX_SOURCES = 1024
"""Remembered at once; the one that was longest not seen is forgotten first."""
CLEAN_RECORDS = 1000
CLEAN_REQUESTS = 32
"""Accepted in a row, and the source is like any other again."""
MEMORY_RECORDS = 500
"""Older counts weigh half."""
PRIOR_RECORDS = 20
"""What is supposed of a source before more is known: one bad record in so many."""
KNOWN_BAD_RECORDS = 8
KNOWN_BAD_SHARE = 0.5
"""A source so bad needs no new witness for each of its records."""
NEW_BAD_SOURCES = 3
"""So many sources newly found to be bad, and the next one is suspected as well."""
OTHERS_MEMORY_RECORDS = 4096


@dataclass(slots=True)
class _Tally:
    records: float = 0.0
    bad: float = 0.0
    clean_records: int = 0
    clean_requests: int = 0

    @property
    def share(self) -> float:
        """Of its records, that are refused."""
        return (self.bad + 1) / (self.records + PRIOR_RECORDS)

    def add(self, records: int, bad: int, *, memory: int) -> None:
        """Counts more of its records."""
        if self.records > memory:
            self.records, self.bad = self.records / 2, self.bad / 2
        self.records += records
        self.bad += bad


class BadSources:
    """Sources whose records the endpoint refuses, and how many of them. Not thread-safe."""

    def __init__(self) -> None:
        self.tallies: OrderedDict[bytes, _Tally] = OrderedDict()
        """The sources that had records refused: none, as a rule."""
        self._others = _Tally()
        """All sources without a tally; what is bad among them gets them one."""

    def share(self, source: bytes) -> float:
        """Of its records, that are refused; 0 where there is nothing against it."""
        tally = self.tallies.get(source)
        if tally is not None:
            return tally.share
        return self._others.share if self._others.bad >= NEW_BAD_SOURCES else 0.0

    def known_bad(self, source: bytes) -> bool:
        """Whether most of its records have been refused while others were accepted."""
        tally = self.tallies.get(source)
        return tally is not None and tally.bad >= KNOWN_BAD_RECORDS and tally.share >= KNOWN_BAD_SHARE

    def learn(self, source: bytes, *, records: int, bad: int) -> None:
        """Of so many records of a source, so many were refused for good."""
        tally = self.tallies.get(source)
        if tally is None:
            self._others.add(records, bad, memory=OTHERS_MEMORY_RECORDS)
            if not bad:
                return
            tally = self.tallies[source] = _Tally()
            if len(self.tallies) > MAX_SOURCES:
                self.tallies.popitem(last=False)
        self.tallies.move_to_end(source)
        tally.add(records, bad, memory=MEMORY_RECORDS)
        tally.clean_records = 0 if bad else tally.clean_records + records
        tally.clean_requests = 0 if bad else tally.clean_requests + 1
        if tally.clean_records >= CLEAN_RECORDS or tally.clean_requests >= CLEAN_REQUESTS:
            del self.tallies[source]


CHANCE = 1e-6
"""What is less probable is no chance."""
LEAST_SHARE = 0.5
"""An endpoint may begin to refuse by chance at any moment: at least this share is reckoned with."""
RECENT_REQUESTS = 256


class Refusals:
    """Whether refusals are about the records. Not thread-safe.

    A record that was refused alone is sent again. Whoever refuses a share p of all requests by chance refuses n such
    second tries in a row with probability p^n, and accepts m requests in a row beside them, which nothing speaks
    against, with (1 - p)^m. When p^n is below 10^-6 for the share that is seen, or both together for any p, it is no
    chance: from then on one refusal of a lone record convicts it, until one that was refused is accepted.
    """

    def __init__(self) -> None:
        self.recent: deque[bool] = deque(maxlen=RECENT_REQUESTS)
        """Of the latest requests, which were refused."""
        self._repeated = 0
        self.unsuspected = 0
        """Requests without a suspected source accepted in a row."""

    @property
    def proven(self) -> bool:
        """Whether they are no chance."""
        answers = len(self.recent) + 2
        share = min(0.98, (sum(self.recent) + 1) / answers + 0.5 / math.sqrt(answers))  # and a standard error
        alone = self._repeated * math.log(max(LEAST_SHARE, share))
        likeliest = self._repeated / max(1, self._repeated + self.unsuspected)
        together = _times_log(self._repeated, likeliest) + _times_log(self.unsuspected, 1 - likeliest)
        return min(alone, together) <= math.log(CHANCE)

    def first_try(self, *, refused: bool, suspected: bool) -> None:
        """A request was answered; suspected, if it holds records of a source of which others were refused."""
        self.recent.append(refused)
        if not suspected:
            self.unsuspected = 0 if refused else self.unsuspected + 1

    def repeated(self) -> None:
        """A record that was refused alone is so again."""
        self._repeated += 1

    def contradicted(self) -> None:
        """What was refused is accepted."""
        self._repeated = self.unsuspected = 0


def _times_log(times: int, share: float) -> float:
    return times * math.log(share) if times else 0.0


ALTERNATIONS_TO_SPLIT = 2
ALTERNATIONS_TO_CONVICT = 10


class FailureAction(StrEnum):
    """What to do with a request that failed."""

    TRY_AGAIN = "try again"
    SPLIT = "split"
    CONVICT = "convict"


@dataclass(slots=True)
class _Trial:
    alternations: int = 0
    awaits_another: bool = False


class Suspects:
    """Whether a request is to blame for its failures, or the endpoint fails by chance: guilt by alternation.

    A request that met INTERNAL, 500 or the like is on trial. One alternation is: it fails, and the next request that is
    on nobody's trial is accepted at its first try; if that one fails as well, the count begins anew. An endpoint that
    fails at a share p of all requests, whatever they hold, completes an alternation with probability p(1 - p), at most
    1/4, and each trial may also end with an acquittal. So ten of them and one more failure convict an innocent record
    with a probability below 10^-6, whatever p is.

    | on trial | event | what follows |
    |---|---|---|
    | any | it is accepted | acquitted |
    | fewer alternations than below | it fails | awaits another request's first try |
    | 2 alternations, several records | it fails | split: halves are tried apart, which destroys nothing |
    | 10 alternations, one record | it fails | convicted |

    Not thread-safe. Requests are known by the number of their first batch.
    """

    def __init__(self) -> None:
        self.trials: dict[int, _Trial] = {}
        """The requests under suspicion: none, as a rule."""

    def alternations(self, number: int) -> int:
        """How often it has failed while others passed."""
        return self.trials[number].alternations if number in self.trials else 0

    def accuse(self, number: int) -> None:
        """Puts a part of a suspect on a trial of its own."""
        self.trials.setdefault(number, _Trial())

    def failed(self, number: int, *, records: int, waited: bool = True) -> FailureAction:
        """A request failed in a way that may be its own fault.

        Args:
            number: of its first batch.
            records: how many it holds.
            waited: it was not sent sooner than the endpoint had asked for: else it fails for that, perhaps.
        """
        if number not in self.trials:
            self._another(passed=False)
        trial = self.trials.setdefault(number, _Trial())
        trial.awaits_another = waited
        if records > 1:
            return FailureAction.SPLIT if trial.alternations >= ALTERNATIONS_TO_SPLIT else FailureAction.TRY_AGAIN
        guilty = waited and trial.alternations >= ALTERNATIONS_TO_CONVICT
        return FailureAction.CONVICT if guilty else FailureAction.TRY_AGAIN

    def passed(self, number: int) -> None:
        """A request was accepted."""
        if number in self.trials:
            del self.trials[number]
        else:
            self._another(passed=True)

    def dismiss(self, number: int) -> None:
        """A request is no longer there: split, set aside, or given back."""
        self.trials.pop(number, None)

    def _another(self, *, passed: bool) -> None:
        """A request that is on no trial has had its first try."""
        for trial in self.trials.values():
            if trial.awaits_another:
                trial.alternations = trial.alternations + 1 if passed else 0
                trial.awaits_another = False
