"""Guilt by alternation: what convicts, what does not, and how often chance convicts an innocent record."""

from __future__ import annotations

import random

import pytest

from otelbridge.send.suspects import ALTERNATIONS_TO_CONVICT, ALTERNATIONS_TO_SPLIT, Suspects, Verdict

SUSPECT = 1
OTHERS = range(1000, 10**9)


def alternate(suspects: Suspects, times: int, *, records: int) -> Verdict:
    others = iter(OTHERS)
    for _ in range(times):
        suspects.failed(SUSPECT, records=records)
        suspects.passed(next(others))
    return suspects.failed(SUSPECT, records=records)


def test_one_record_is_convicted_after_ten_alternations_and_no_earlier() -> None:
    assert alternate(Suspects(), ALTERNATIONS_TO_CONVICT - 1, records=1) is Verdict.TRY_AGAIN
    assert alternate(Suspects(), ALTERNATIONS_TO_CONVICT, records=1) is Verdict.CONVICT


def test_several_records_are_split_sooner_and_never_convicted() -> None:
    assert alternate(Suspects(), ALTERNATIONS_TO_SPLIT - 1, records=2) is Verdict.TRY_AGAIN
    assert alternate(Suspects(), 100, records=2) is Verdict.SPLIT


def test_failing_alone_convicts_nobody() -> None:
    suspects = Suspects()
    assert {suspects.failed(SUSPECT, records=1) for _ in range(1000)} == {Verdict.TRY_AGAIN}
    for n in range(1000):  # others pass, but it was not tried in between
        suspects.passed(OTHERS[n])
    assert suspects.failed(SUSPECT, records=1) is Verdict.TRY_AGAIN


def test_another_first_try_that_fails_begins_the_count_anew() -> None:
    suspects = Suspects()
    alternate(suspects, ALTERNATIONS_TO_CONVICT - 1, records=1)
    suspects.failed(OTHERS[0], records=1)
    assert suspects.alternations(SUSPECT) == 0


def test_suspects_are_no_witnesses_for_or_against_one_another() -> None:
    suspects = Suspects()
    suspects.accuse(2)
    alternate(suspects, 5, records=1)
    suspects.failed(2, records=1)
    assert suspects.alternations(SUSPECT) == 5
    suspects.passed(2)
    assert suspects.alternations(SUSPECT) == 5


def test_an_accepted_suspect_is_acquitted() -> None:
    suspects = Suspects()
    alternate(suspects, ALTERNATIONS_TO_CONVICT, records=1)
    suspects.passed(SUSPECT)
    assert SUSPECT not in suspects


def convicted(share: float, alternations: int) -> float:
    """How likely chance alone convicts: the trial as a chain, solved exactly, step by step from its last state."""
    advance, anew = share * (1 - share), share * share  # else the suspect is accepted, and acquitted
    # reached[k] = c[k] * reached[0] + d[k], from: value(k) = advance * value(k + 1) + anew * value(0)
    factor, constant = 0.0, share  # at the last state the next failure convicts
    for _ in range(alternations):
        factor, constant = advance * factor + anew, advance * constant
    return constant / (1 - factor)


@pytest.mark.parametrize("share", [n / 100 for n in range(1, 100)])
def test_chance_convicts_less_than_one_innocent_record_in_a_million(share: float) -> None:
    assert convicted(share, ALTERNATIONS_TO_CONVICT) < 1e-6


def trial_by_chance(chance: random.Random, share: float, alternations: int) -> bool:
    """One innocent record at an endpoint that fails by chance: whether it reaches so many alternations."""
    suspects, others = Suspects(), iter(OTHERS)
    suspects.failed(SUSPECT, records=1)
    while SUSPECT in suspects:
        if suspects.alternations(SUSPECT) >= alternations and chance.random() < share:
            return True
        other = next(others)
        if chance.random() < share:
            suspects.failed(other, records=1)
            suspects.dismiss(other)
        else:
            suspects.passed(other)
        if chance.random() < share:
            suspects.failed(SUSPECT, records=1)
        else:
            suspects.passed(SUSPECT)
    return False


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.85])
def test_the_state_machine_convicts_as_rarely_as_the_bound_says(share: float) -> None:
    # Ten alternations are too rare to be seen; with two of them the simulation can be held against the exact figure.
    chance, trials = random.Random(12), 20_000
    seen = sum(trial_by_chance(chance, share, 2) for _ in range(trials)) / trials
    assert seen <= convicted(share, 2) / share * 1.3 + 0.002
    assert not any(trial_by_chance(chance, share, ALTERNATIONS_TO_CONVICT) for _ in range(trials))
