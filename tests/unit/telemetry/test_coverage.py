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
    coverage.observe(now + 0.05 * DAY_SECONDS, {}, blind=False)
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
    heard_every(600, days=0.9, coverage=coverage)
    assert of(coverage, START + 0.9 * DAY_SECONDS).usual_seconds is None
    heard_every(600, days=0.3, coverage=coverage, since=START + 0.9 * DAY_SECONDS)
    assert of(coverage, START + 1.2 * DAY_SECONDS).usual_seconds is not None


def silent_in(times: list[float], *, until: float, step: float = 60.0) -> list[float]:
    """When a subject that is heard of at these times is said to be silent, in days since the start."""
    coverage, left, heard, now = Coverage(now=START), [START + day * DAY_SECONDS for day in times], 0, START
    silent = []
    while now < START + until * DAY_SECONDS:
        now += step
        while left and left[0] <= now:
            heard += 1
            left.pop(0)
        coverage.observe(now, {NODE: heard} if heard else {}, blind=False)
        if heard and of(coverage, now).answer is CoverageAnswer.SILENT:
            silent.append((now - START) / DAY_SECONDS)
    return silent


@pytest.mark.parametrize(
    "times",
    [
        [0.3],  # once, and never again
        [0.3, 0.3001, 0.31],  # in one incident
        [0.3, 0.3001, 0.31, 2.3, 2.3001],  # in two of them
        [0.1, 7.1, 14.1],  # once a week
        [day / 4 + 0.958 for day in range(70)],  # every six hours, first near midnight
        [day + 0.99 + hour / 24 for day in range(18) for hour in range(6)],  # by night only
    ],
)  # fmt: skip
def test_what_is_heard_of_seldom_is_not_silent_at_once(times: list[float]) -> None:
    """The days are those since it was heard of first: midnight cut the first one short, and made seconds usual."""
    assert silent_in(times, until=min(times[-1] + 3, 18), step=300.0) == []


def test_a_node_that_died_on_its_first_day_is_told_on_the_second() -> None:
    told = silent_in([number / 1440 for number in range(1, 1200)], until=2)
    assert told[0] == pytest.approx(1.0, abs=0.01)
    assert told[-1] == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("hours", [-3, -1, 1, 3, 30, 500_000])
def test_while_the_clock_is_set_again_and_again_the_answers_stay_the_same(hours: int) -> None:
    """The housekeeper passes seconds of a clock that nobody sets."""
    coverage, wall, real = Coverage(now=START), START, 0.0
    for number in range(8 * 24 * 6):  # each ten minutes for eight days; from the third one on it is dead
        real += 600
        wall += 600
        if number % 36 == 35:
            wall += hours * 3600 * (1 if number % 72 == 35 else -1)
        heard = min(number, 2 * 24 * 6)
        coverage.observe(wall, {NODE: heard}, blind=False, passed=600.0)
        report = of(coverage, wall)
        if number == heard:
            assert report.answer is CoverageAnswer.USUAL
            assert report.last_unix_seconds == wall
        elif real > (2 * 24 * 6 + 1) * 600 + 3 * 600 + GRACE_SECONDS:
            assert report.answer is CoverageAnswer.SILENT
            assert report.usual_seconds == 600


def test_a_node_that_is_gone_for_good_is_told_for_a_week_and_then_forgotten_but_no_policy_is() -> None:
    policy = Subject(SubjectKind.POLICY, "block-curl")
    coverage = Coverage(now=START)
    now = START
    for number in range(2 * 24 * 6):
        now += 600
        coverage.observe(now, {NODE: number, policy: number}, blind=False)
    answers = []
    for _ in range(9 * 24):
        now += 3600
        coverage.observe(now, {NODE: number, policy: number}, blind=False)
        answers.append({report.subject: report.answer for report in coverage.reports(now)})
    assert answers[6 * 24] == {NODE: CoverageAnswer.SILENT, policy: CoverageAnswer.SILENT}
    assert answers[-1] == {policy: CoverageAnswer.SILENT}
    coverage.observe(now + 60, {NODE: number + 1, policy: number}, blind=False)
    assert of(coverage, now + 60).answer is CoverageAnswer.USUAL


def test_what_an_earlier_version_wrote_is_read() -> None:
    """It counted days from the epoch, and when a subject was heard of first in Unix seconds."""
    note = json.dumps({"watched": 2 * DAY_SECONDS, "subjects": [
        ["node", "node-1", START, START + 2 * DAY_SECONDS, 2 * DAY_SECONDS, 20_002, [600.0, 600.0, 300.0]],
    ]})  # fmt: skip
    coverage = Coverage(note, now=START + 2 * DAY_SECONDS)
    assert of(coverage, START + 2 * DAY_SECONDS).usual_seconds == 600
    coverage.observe(START + 2 * DAY_SECONDS + 60, {NODE: 1.0}, blind=False)
    report = of(coverage, START + 2 * DAY_SECONDS + 60)
    assert (report.answer, report.usual_seconds) == (CoverageAnswer.USUAL, 600)


def test_of_a_note_with_too_many_subjects_those_heard_of_last_are_kept() -> None:
    subjects = [["node", f"n{number}", 1, 1, 1, 1, []] for number in range(MAX_SUBJECTS + 10)]
    names = {report.subject.name for report in Coverage(json.dumps({"subjects": subjects}), now=START).reports(START)}
    assert names == {f"n{number}" for number in range(10, MAX_SUBJECTS + 10)}


def test_policies_are_read_from_what_kubectl_prints() -> None:
    assert policies_in({"items": [{"metadata": {"name": name}} for name in ("c", "b")]}) == ["c", "b"]
    assert policies_in({"items": []}) == []
    assert policies_in({"items": None}) == []
    assert policies_in({"metadata": {"name": "alone"}}) == ["alone"]


def test_only_policies_of_kubearmor_are_taken_from_a_mixed_list() -> None:
    kinds = ["KubeArmorPolicy", "Pod", "KubeArmorClusterPolicy", "KubeArmorHostPolicy", "NetworkPolicy"]
    items = [{"kind": kind, "metadata": {"name": kind.lower()}} for kind in kinds]
    named = ["kubearmorpolicy", "kubearmorclusterpolicy", "kubearmorhostpolicy"]
    assert policies_in({"kind": "List", "items": [*items, {"kind": "Status", "metadata": {}}]}) == named
    assert policies_in({"kind": "KubeArmorHostPolicyList", "items": [{"metadata": {"name": "host"}}]}) == ["host"]


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "List", "items": [{"kind": "Pod", "metadata": {"name": "web-1"}}]},
        {"kind": "PodList", "items": [{"metadata": {"name": "web-1"}}]},
        {"kind": "Pod", "metadata": {"name": "web-1"}},
        {"kind": "Status", "metadata": {}, "status": "Failure", "reason": "Forbidden"},
    ],
)
def test_a_list_without_any_policy_is_refused_with_what_it_holds(document: object) -> None:
    with pytest.raises(ValueError, match=r"no policy of KubeArmor's among its objects \((Pod|Status)\)"):
        policies_in(document)


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
