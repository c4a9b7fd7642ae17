from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from otelbridge.settings.load import load
from otelbridge.settings.tree import Leaf, SettingsError, leaves
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.acceptance.odd_settings import odd_lives
from tests.acceptance.seeds import fresh_seed

NUMBERS = [leaf for leaf in leaves() if leaf.setting.type in (int, float)]
LIVES = 3


@pytest.mark.parametrize("leaf", NUMBERS, ids=lambda leaf: leaf.path)
def test_a_number_just_outside_its_range_is_refused_at_its_place(leaf: Leaf) -> None:
    kind, limits = leaf.setting.type, leaf.setting.limits
    assert limits.ge is not None
    assert limits.le is not None
    outside = (limits.ge - 1, limits.le + 1)
    if kind is float:
        outside = (math.nextafter(limits.ge, -math.inf), math.nextafter(limits.le, math.inf))
    for value in outside:
        with pytest.raises(SettingsError) as refused:
            load(environment={leaf.environment_name: repr(value)})
        (problem,) = refused.value.problems
        assert (problem.path, problem.origin) == (leaf.path, f"environment {leaf.environment_name}")
        assert problem.wrong.startswith("must be at ")
        assert problem.cure.startswith("Write ")


def test_whatever_is_set_is_refused_with_its_cure_or_works(
    tmp_path: Path, relay: Relay, endpoint: OtlpEndpoint
) -> None:
    found = odd_lives(tmp_path, relay, endpoint, random.Random(fresh_seed()), until=lambda one: one.delivered >= LIVES)
    assert not found.faults
    assert found.refused > 0
