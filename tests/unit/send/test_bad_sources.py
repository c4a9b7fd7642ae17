"""Good records are not held up by bad ones: how requests are grouped, simulated without an endpoint."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from otelbridge.send.bad_sources import CLEAN_REQUESTS, MAX_SOURCES, BadSources, halves
from otelbridge.send.split import Source

Record = tuple[bytes, int]


def sources_of(records: list[Record], bad: BadSources) -> tuple[list[Record], list[Source]]:
    ordered = sorted(records, key=lambda record: (record[0] in bad, record[0]))
    keys = dict.fromkeys(key for key, _ in ordered)
    return ordered, [Source(key, sum(record[0] == key for record in ordered)) for key in keys]


def settle(records: list[Record], refused: Callable[[Record], bool], bad: BadSources) -> int:
    """Sends until each record is accepted or refused alone; returns the requests it took."""
    requests = 0
    ordered, sources = sources_of(records, bad)
    pending = [ordered[first:end] for first, end in bad.groups(sources)]
    while pending:
        group = pending.pop()
        requests += 1
        _, inside = sources_of(group, bad)
        if not any(map(refused, group)):
            for source in inside:
                bad.learn(source.key, records=source.records, bad=0)
        elif len(group) == 1:
            bad.learn(group[0][0], records=1, bad=1)
        else:
            pending += [group[first:end] for first, end in halves(inside)]
    return requests


def test_a_bad_source_is_found_and_from_then_on_costs_the_others_nothing() -> None:
    bad = BadSources()
    records = [(b"%d" % (n % 10), n) for n in range(200)]
    first = settle(records, lambda record: record[0] == b"3", bad)
    later = settle(records, lambda record: record[0] == b"3", bad)
    assert first < 60
    assert later == 1 + 20  # all others together, and each of its records by itself
    assert bad.known_bad(b"3")
    assert not bad.known_bad(b"4")


@pytest.mark.parametrize(("share", "most"), [(0.01, 0.15), (0.02, 0.25), (0.1, 0.75)])
def test_bad_records_strewn_over_all_sources_cost_few_requests_a_record(share: float, most: float) -> None:
    bad, chance = BadSources(), random.Random(3)
    requests = total = 0
    for _ in range(40):
        guilty = {n for n in range(400) if chance.random() < share}
        records = [(b"%d" % (n % 5), n) for n in range(400)]
        requests += settle(records, lambda record, guilty=guilty: record[1] in guilty, bad)  # type: ignore[misc]
        total += 400
    assert requests / total < most


def test_a_source_that_behaves_again_is_sent_with_the_others_again() -> None:
    bad = BadSources()
    bad.learn(b"a", records=1, bad=1)
    for _ in range(CLEAN_REQUESTS):
        assert b"a" in bad
        bad.learn(b"a", records=1, bad=0)
    assert not bad


def test_memory_is_bounded_and_the_latest_stay() -> None:
    bad = BadSources()
    for n in range(MAX_SOURCES + 10):
        bad.learn(b"%d" % n, records=1, bad=1)
    assert b"9" not in bad
    assert b"10" in bad


def test_halves_part_between_sources_where_there_are_several() -> None:
    assert halves([Source(b"a", 9), Source(b"b", 1)]) == [(0, 9), (9, 10)]
    assert halves([Source(b"a", 2), Source(b"b", 3), Source(b"c", 5)]) == [(0, 5), (5, 10)]
    assert halves([Source(b"a", 5)]) == [(0, 2), (2, 5)]
    assert halves([Source(b"a", 1)]) == []
