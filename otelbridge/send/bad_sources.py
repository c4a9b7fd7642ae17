"""Remembers sources whose records the endpoint refuses, and groups requests so that the good ones are not held up.

Pure. A source is one resource (a pod, a node). One whose records were refused is sent apart from the others for a
while, in groups so small that about half of them pass, so that each request tells as much as it can; sources that
behave go together.
"""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from otelbridge.send.split import Source

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
        self._tallies: OrderedDict[bytes, _Tally] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._tallies)

    def __contains__(self, key: bytes) -> bool:
        return key in self._tallies

    def known_bad(self, key: bytes) -> bool:
        """Whether most of its records have been refused while others were accepted."""
        tally = self._tallies.get(key)
        return tally is not None and tally.bad >= KNOWN_BAD_RECORDS and tally.share >= KNOWN_BAD_SHARE

    def learn(self, key: bytes, *, records: int, bad: int) -> None:
        """Of so many records of a source, so many were refused for good."""
        tally = self._tallies.get(key)
        if tally is None:
            if not bad:
                return
            tally = self._tallies[key] = _Tally()
            if len(self._tallies) > MAX_SOURCES:
                self._tallies.popitem(last=False)
        self._tallies.move_to_end(key)
        if tally.records > MEMORY_RECORDS:
            tally.records, tally.bad = tally.records / 2, tally.bad / 2
        tally.records += records
        tally.bad += bad
        tally.clean_records = 0 if bad else tally.clean_records + records
        tally.clean_requests = 0 if bad else tally.clean_requests + 1
        if tally.clean_records >= CLEAN_RECORDS or tally.clean_requests >= CLEAN_REQUESTS:
            del self._tallies[key]

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
                size = max(1, int(HALF_PASS / self._tallies[source.key].share))
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
