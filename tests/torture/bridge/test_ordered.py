"""`send.ordered` through broken calls, cut lines and kills, by twenty seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.ordered_delivery import Ordered, deliver_in_order
from tests.acceptance.seeds import fresh_seed, rounds
from tests.torture_report import record

ROUNDS = 20


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_order_is_kept_whatever_breaks(tmp_path: Path) -> None:
    first_seed = fresh_seed()
    seen: list[Ordered] = []
    bad: dict[int, str] = {}
    for seed in range(first_seed, first_seed + rounds(ROUNDS)):
        try:
            seen.append(deliver_in_order(tmp_path / str(seed), seed))
        except AssertionError as fault:
            bad[seed] = str(fault)
    bad |= {one.seed: str(one) for one in seen if one.lost or one.overtaken}
    figures: dict[str, object] = {
        "first_seed": first_seed,
        "rounds": len(seen),
        "kills": sum(one.kills for one in seen),
        "broken_calls": sum(one.broken for one in seen),
        "cut_connections": sum(one.cuts for one in seen),
        "owed": sum(one.owed for one in seen),
        "lost": sum(len(one.lost) for one in seen),
        "overtaken": sum(len(one.overtaken) for one in seen),
        "doubles": sum(one.doubles for one in seen),
        "bad_seeds": sorted(bad),
    }
    record("bridge: ordered, through resets and kills", figures, passed=not bad)
    assert not bad, bad
