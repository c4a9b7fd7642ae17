"""Finds the records that an endpoint will never take: who is to blame for a failure, what to send together meanwhile.

Three parts, pure, without clock or socket. `Contents` takes an encoded request apart by source (one resource: a pod, a
node). `BadSources` remembers whose records were refused and sends them apart from the others. `Suspects` decides
whether a request is to blame for its failures or the endpoint fails by chance:

A request that met INTERNAL, 500 or the like is on trial. One alternation is: it fails, and the next request that is on
nobody's trial is accepted at its first try; if that one fails as well, the count begins anew. An endpoint that fails at
a share p of all requests, whatever they hold, completes an alternation with probability p(1 - p), at most 1/4, and each
trial may also end with an acquittal. So ten of them and one more failure convict an innocent record with a probability
below 10^-6, whatever p is.

| on trial | event | what follows |
|---|---|---|
| any | it is accepted | acquitted |
| fewer alternations than below | it fails | awaits another request's first try |
| 2 alternations, several records | it fails | split: halves are tried apart, which destroys nothing |
| 10 alternations, one record | it fails | convicted |
"""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

RESOURCE_LOGS = 1
SCOPE_LOGS = 2
LOG_RECORDS = 2
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10


class Source(NamedTuple):
    """One resource and how many of the records are its."""

    key: bytes
    """The resource as it is encoded."""
    records: int


class _Scope(NamedTuple):
    """One ScopeLogs, taken apart."""

    rest: bytes
    """Everything but its records, encoded."""
    records: list[bytes]
    """Each with its tag and length."""


class Contents:
    """The records of a request, numbered source by source.

    Args:
        request: encoded.
        apart: whether a source's records are numbered after those of all others.

    Raises:
        ValueError: it is not an encoded request.
    """

    def __init__(self, request: bytes, *, apart: Callable[[bytes], bool] = lambda _: False) -> None:
        self._rest, resources = _split_off(request, RESOURCE_LOGS)
        found: dict[bytes, list[_Scope]] = {}
        for _, body in resources:
            rest, scopes = _split_off(body, SCOPE_LOGS)
            found.setdefault(rest, []).extend(_scope(scope) for _, scope in scopes)
        self._resources = dict(sorted(found.items(), key=lambda item: apart(item[0])))
        self.sources = [
            Source(key, sum(len(scope.records) for scope in scopes)) for key, scopes in self._resources.items()
        ]
        self.records = sum(source.records for source in self.sources)

    def part(self, first: int, end: int) -> bytes:
        """The request with only the records numbered from `first` up to `end`."""
        parts = [self._rest]
        position = 0
        for key, scopes in self._resources.items():
            chosen_scopes = []
            for scope in scopes:
                chosen = scope.records[max(0, first - position) : max(0, end - position)]
                position += len(scope.records)
                if chosen:
                    chosen_scopes.append(_field(SCOPE_LOGS, scope.rest + b"".join(chosen)))
            if chosen_scopes:
                parts.append(_field(RESOURCE_LOGS, key + b"".join(chosen_scopes)))
        return b"".join(parts)


def _scope(body: bytes) -> _Scope:
    rest, records = _split_off(body, LOG_RECORDS)
    return _Scope(rest, [field for field, _ in records])


def _split_off(message: bytes, number: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """What is not in field `number`, and that field's occurrences: each with tag and length, and its value alone."""
    rest, found = [], []
    for field_number, start, value, end in _fields(message):
        if field_number == number:
            found.append((message[start:end], message[value:end]))
        else:
            rest.append(message[start:end])
    return b"".join(rest), found


def _fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Number, start, start of the value, and end of each field; only length-delimited ones have values worth having."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == LENGTH_DELIMITED:
            length, position = _varint(message, position)
            value, position = position, position + length
        elif wire_type == VARINT:
            value = position
            _, position = _varint(message, position)
        elif wire_type in FIXED_BYTES:
            value, position = position, position + FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type} at byte {start}")
        if position > len(message):
            raise ValueError(f"the field at byte {start} is cut off")
        yield number, start, value, position


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(MAX_VARINT_BYTES):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004  # the bit that says there is more
            return value, position
    raise ValueError(f"no number at byte {position}")


def _field(number: int, value: bytes) -> bytes:
    header = bytearray([number << 3 | LENGTH_DELIMITED])
    length = len(value)
    while length > 0x7F:  # noqa: PLR2004  # seven bits a byte
        header.append(length & 0x7F | 0x80)
        length >>= 7
    header.append(length)
    return bytes(header) + value


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
        self.trials: dict[int, _Trial] = {}
        """The requests under suspicion: none, as a rule."""

    def alternations(self, number: int) -> int:
        """How often it has failed while others passed."""
        return self.trials[number].alternations if number in self.trials else 0

    def accuse(self, number: int) -> None:
        """Puts a part of a suspect on a trial of its own."""
        self.trials.setdefault(number, _Trial())

    def failed(self, number: int, *, records: int) -> Verdict:
        """A request failed in a way that may be its own fault."""
        if number not in self.trials:
            self._another(passed=False)
        trial = self.trials.setdefault(number, _Trial())
        trial.awaits_another = True
        if records > 1:
            return Verdict.SPLIT if trial.alternations >= ALTERNATIONS_TO_SPLIT else Verdict.TRY_AGAIN
        return Verdict.CONVICT if trial.alternations >= ALTERNATIONS_TO_CONVICT else Verdict.TRY_AGAIN

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
HALF_PASS = math.log(2)

Range = tuple[int, int]
"""Records numbered from the first up to the second."""


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


class BadSources:
    """Not thread-safe."""

    def __init__(self) -> None:
        self.tallies: OrderedDict[bytes, _Tally] = OrderedDict()
        """The sources that had records refused: none, as a rule."""

    def __contains__(self, key: bytes) -> bool:
        return key in self.tallies

    def known_bad(self, key: bytes) -> bool:
        """Whether most of its records have been refused while others were accepted."""
        tally = self.tallies.get(key)
        return tally is not None and tally.bad >= KNOWN_BAD_RECORDS and tally.share >= KNOWN_BAD_SHARE

    def learn(self, key: bytes, *, records: int, bad: int) -> None:
        """Of so many records of a source, so many were refused for good."""
        tally = self.tallies.get(key)
        if tally is None:
            if not bad:
                return
            tally = self.tallies[key] = _Tally()
            if len(self.tallies) > MAX_SOURCES:
                self.tallies.popitem(last=False)
        self.tallies.move_to_end(key)
        if tally.records > MEMORY_RECORDS:
            tally.records, tally.bad = tally.records / 2, tally.bad / 2
        tally.records += records
        tally.bad += bad
        tally.clean_records = 0 if bad else tally.clean_records + records
        tally.clean_requests = 0 if bad else tally.clean_requests + 1
        if tally.clean_records >= CLEAN_RECORDS or tally.clean_requests >= CLEAN_REQUESTS:
            del self.tallies[key]

    def groups(self, sources: Sequence[Source], *, most: int = sys.maxsize) -> Iterator[Range]:
        """What to send together: all well-behaved sources (they come first), then groups of each bad one.

        Args:
            sources: of a request, the well-behaved ones first.
            most: records in a group.
        """
        good = sum(source.records for source in sources if source.key not in self)
        yield from _cut(0, good, most)
        first = good
        for source in sources:
            if source.key in self:
                size = max(1, int(HALF_PASS / self.tallies[source.key].share))
                yield from _cut(first, first + source.records, min(size, most))
                first += source.records


def _cut(first: int, end: int, size: int) -> Iterator[Range]:
    for start in range(first, end, size):
        yield start, min(start + size, end)


def halves(sources: Sequence[Source]) -> list[Range]:
    """Two groups of about as many records, parted between two sources where there are several; none of one record."""
    total = sum(source.records for source in sources)
    if total < 2:  # noqa: PLR2004  # what halving means
        return []
    middle = total // 2
    if len(sources) > 1:
        edges, position = [], 0
        for source in sources[:-1]:
            position += source.records
            edges.append(position)
        middle = min(edges, key=lambda edge: abs(edge - total / 2))
    return [(0, middle), (middle, total)]
