"""Is silence good news? Each subject is compared with its own usual interval, nights and blindness included."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator

import pytest

from otelbridge.telemetry.coverage import (
    DAY_SECONDS,
    GRACE_SECONDS,
    MAX_SUBJECTS,
    UNUSUAL_FACTOR,
    Coverage,
    CoverageAnswer,
    Report,
    Subject,
    SubjectKind,
    policies_in,
)

NODE = Subject(SubjectKind.NODE, "node-1")
START = 20_000 * DAY_SECONDS
STEP = 120.0
"""Seconds; the bridge looks each second."""


def of(coverage: Coverage, now: float, subject: Subject = NODE) -> Report:
    return next(report for report in coverage.reports(now) if report.subject == subject)


def heard_every(seconds: float, *, days: float, coverage: Coverage, since: float = START) -> float:
    """Lets the node speak at regular times; returns the time at the end."""
    now = since
    for number in range(int(days * DAY_SECONDS / seconds)):
        now = since + number * seconds
        coverage.observe(now, {NODE: number + since}, blind=False)
    return now


def test_a_silence_is_unusual_after_three_usual_intervals_and_five_minutes() -> None:
    coverage = Coverage(now=START)
    now = heard_every(600, days=2, coverage=coverage)
    report = of(coverage, now)
    assert report.answer is CoverageAnswer.USUAL
    assert report.usual_seconds == pytest.approx(600)
    limit = UNUSUAL_FACTOR * 600 + GRACE_SECONDS
    counts = {NODE: math.nan}
    coverage.observe(now, counts, blind=False)
    counts = dict.fromkeys([NODE], 0.0)
    coverage.observe(now, counts, blind=False)
    coverage.observe(now + limit - 1, counts, blind=False)
    assert of(coverage, now + limit - 1).answer is CoverageAnswer.USUAL
    coverage.observe(now + limit + 1, counts, blind=False)
    assert of(coverage, now + limit + 1).answer is CoverageAnswer.SILENT


def test_a_silence_in_which_the_bridge_was_blind_says_nothing() -> None:
    coverage = Coverage(now=START)
    now = heard_every(600, days=2, coverage=coverage)
    quiet = {NODE: 0.0}
    coverage.observe(now, quiet, blind=False)
    coverage.observe(now + 10_000, quiet, blind=True)
    assert of(coverage, now + 10_000).answer is CoverageAnswer.UNKNOWN
    coverage.observe(now + 13_000, quiet, blind=False)
    assert of(coverage, now + 13_000).answer is CoverageAnswer.SILENT, (
        "3,000 watched seconds are too many by themselves"
    )


def test_what_is_new_has_no_usual_interval_yet() -> None:
    coverage = Coverage(now=START)
    now = heard_every(60, days=0.9, coverage=coverage)
    coverage.observe(now + 30_000, {NODE: 0.0}, blind=False)
    assert of(coverage, now).usual_seconds is None
    assert of(coverage, now).answer is CoverageAnswer.USUAL


def test_one_outage_does_not_make_long_silences_usual() -> None:
    coverage = Coverage(now=START)
    now = heard_every(600, days=3, coverage=coverage)
    now = heard_every(600, days=3, coverage=coverage, since=now + 20_000)
    assert of(coverage, now).usual_seconds == pytest.approx(600)


def test_a_restart_keeps_what_was_learnt_and_asks_to_be_heard_again() -> None:
    coverage = Coverage(now=START)
    now = heard_every(600, days=2, coverage=coverage)
    later = Coverage(coverage.note(), now=now + 60)
    report = of(later, now + 60)
    assert report.answer is CoverageAnswer.NEVER
    assert report.usual_seconds == pytest.approx(600)
    later.observe(now + 61, {NODE: 1.0}, blind=False)
    assert of(later, now + 61).answer is CoverageAnswer.USUAL


@pytest.mark.parametrize(
    "note",
    [
        "", "no JSON", "[]", '{"subjects": [[1]]}', '{"subjects": 3}', '{"watched": "x"}', "[" * 100_000,
        '{"watched": NaN}', '{"watched": 1e999}', f'{{"watched": {"9" * 400}}}',
        '{"subjects": [["node", "n", 1, 1, 1, Infinity, []]]}', '{"subjects": [["node", "n", 1, 1, 1, 1, [NaN]]]}',
    ],
)  # fmt: skip
def test_a_note_that_nobody_wrote_begins_anew(note: str) -> None:
    coverage = Coverage(note, now=START)
    assert coverage.reports(START) == []
    coverage.observe(START + 1, {NODE: 1.0}, blind=False)
    assert json.loads(coverage.note())["watched"] == 1


def test_memory_is_bounded_and_what_was_silent_longest_goes() -> None:
    coverage = Coverage(now=START)
    for number in range(MAX_SUBJECTS + 10):
        coverage.observe(START + number, {Subject(SubjectKind.NAMESPACE, f"n{number}"): 1}, blind=False)
    names = {report.subject.name for report in coverage.reports(START)}
    assert names == {f"n{number}" for number in range(10, MAX_SUBJECTS + 10)}


def test_a_clock_that_is_set_makes_nothing_silent() -> None:
    coverage = Coverage(now=0.0)
    coverage.observe(0.0, {NODE: 1.0}, blind=False)
    coverage.observe(START, {NODE: 1.0}, blind=False)
    coverage.observe(START - 500, {NODE: 1.0}, blind=False)
    assert of(coverage, START).answer is not CoverageAnswer.SILENT


def test_a_clock_that_is_set_after_the_start_does_not_end_the_learning() -> None:
    coverage = Coverage(now=0.0)
    coverage.observe(10.0, {NODE: 1.0}, blind=False)
    coverage.observe(START, {NODE: 2.0}, blind=False)
    assert of(coverage, START + 3_600).usual_seconds is None
    coverage.observe(5_000.0, {NODE: 3.0}, blind=False)
    coverage.observe(START, {NODE: 4.0}, blind=False)
    assert of(coverage, START + 0.9 * DAY_SECONDS).usual_seconds is None
    assert of(coverage, START + 1.1 * DAY_SECONDS).usual_seconds is not None


def test_of_a_note_with_too_many_subjects_those_heard_of_last_are_kept() -> None:
    subjects = [["node", f"n{number}", 1, 1, 1, 1, []] for number in range(MAX_SUBJECTS + 10)]
    names = {report.subject.name for report in Coverage(json.dumps({"subjects": subjects}), now=START).reports(START)}
    assert names == {f"n{number}" for number in range(10, MAX_SUBJECTS + 10)}


def test_policies_are_read_from_what_kubectl_prints() -> None:
    assert policies_in({"items": [{"metadata": {"name": name}} for name in ("c", "b")]}) == ["c", "b"]
    assert policies_in({"items": []}) == []
    assert policies_in({"metadata": {"name": "alone"}}) == ["alone"]


@pytest.mark.parametrize(
    "document",
    [[], "x", 3, None, {"items": 3}, {"items": [3]}, {"items": [{}]}, {"items": [{"metadata": {"name": 3}}]}],
)
def test_what_is_no_list_of_policies_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="kubectl get"):
        policies_in(document)


def events(seed: int, *, per_hour: float, night_share: float, until: float) -> Iterator[float]:
    """Times of a node's events: a Poisson process that is slower at night."""
    chance, now = random.Random(seed), START
    while now < until:
        night = (now % DAY_SECONDS) < DAY_SECONDS / 3
        now += chance.expovariate(per_hour / 3600 * (night_share if night else 1))
        yield now


@pytest.mark.parametrize(("per_hour", "night_share"), [(2, 0.1), (30, 0.05), (600, 0.02), (600, 1.0)])
def test_in_a_simulated_week_there_is_no_false_alarm_and_a_dead_node_is_told_in_time(
    per_hour: float, night_share: float
) -> None:
    """Two days to learn, a week to judge, then the node is dead: over nodes, <= 1 false alarm each and 99 % found."""
    nodes, found, false_alarms = 20, 0, 0
    dies = START + 9 * DAY_SECONDS
    for seed in range(nodes):
        coverage = Coverage(now=START)
        times = events(seed, per_hour=per_hour, night_share=night_share, until=dies)
        coming, heard, alarmed, now = next(times), 0, False, START
        while now < dies:
            now += STEP
            while coming is not None and coming <= min(now, dies):
                heard += 1
                coming = next(times, math.inf)
            coverage.observe(now, {NODE: heard} if heard else {}, blind=False)
            silent = bool(heard) and of(coverage, now).answer is CoverageAnswer.SILENT
            if silent and not alarmed and now > START + 2 * DAY_SECONDS:
                false_alarms += 1
            alarmed = silent
        report = of(coverage, now)
        assert report.usual_seconds is not None
        deadline = report.last_unix_seconds + 3 * report.usual_seconds + 300 + STEP
        while now < deadline:
            now = min(now + 3600, deadline)
            coverage.observe(now, {NODE: heard}, blind=False)
        found += of(coverage, deadline).answer is CoverageAnswer.SILENT
    assert false_alarms <= nodes
    assert found >= 0.99 * nodes
