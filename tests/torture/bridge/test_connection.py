"""The connection's faults through the whole bridge with its default settings; the field's four situations at length."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.acceptance.blinding import Cut, Freeze, blind
from tests.acceptance.fleet import fleet
from tests.acceptance.seeds import fresh_seed, rounds
from tests.oracle import gap_records, numbers_of
from tests.peers.bridge import running_bridge
from tests.torture_report import record
from tests.waiting import eventually

BARS_SECONDS = {Freeze: 21.0, Cut: 20.5}
BLIND_ROUNDS = 5
HEARTBEAT_SECONDS = 15.0
NODES = 5
ROUNDS = 20


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", BARS_SECONDS)
def test_a_dumb_upstream_with_the_default_settings(tmp_path: Path, fault: type[Freeze | Cut]) -> None:
    seed = fresh_seed()
    chance = random.Random(seed)
    seen = []
    for turn in range(rounds(BLIND_ROUNDS)):
        with fault() as upstream:
            seen.append(blind(tmp_path / str(turn), upstream, after_seconds=chance.uniform(0, HEARTBEAT_SECONDS)))
    passed = all(
        one.noticed_seconds <= BARS_SECONDS[fault]
        and one.gap_start_off_by_seconds <= 1
        and one.recovered_seconds <= one.longest_wait_seconds + 1
        and one.balanced
        for one in seen
    )
    figures: dict[str, object] = {
        "seed": seed,
        "noticed_seconds": [one.noticed_seconds for one in seen],
        "gap_start_off_by_seconds": [one.gap_start_off_by_seconds for one in seen],
        "recovered_seconds": [one.recovered_seconds for one in seen],
        "longest_wait_seconds": [one.longest_wait_seconds for one in seen],
        "gap_causes": sorted({str(cause) for one in seen for cause in one.gap_causes}),
    }
    record(f"bridge: {fault.__name__.lower()} upstream", figures, passed)
    assert passed, seen


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_blinks_restarts_resets_and_rolling_updates_again_and_again(tmp_path: Path) -> None:
    seed = fresh_seed()
    resets = 0
    with (
        fleet(NODES, per_second=50, chance=random.Random(seed)) as nodes,
        OtlpEndpoint() as endpoint,
        running_bridge(
            tmp_path, feed={"endpoints": nodes.endpoints}, send={"endpoint": endpoint.grpc_endpoint}
        ) as bridge,
    ):
        bridge.wait_until_watching()
        with ExitStack() as publishing:
            for node in nodes.nodes:
                publishing.enter_context(node.publisher.going_on())
            for turn in range(rounds(ROUNDS)):
                nodes.blink(seconds=3)
                nodes.planned_restart(nodes.nodes[turn % NODES], away_seconds=1)
                resets += nodes.jitter(turns=50, turn_seconds=0.2, share=0.05)
                nodes.rolling_update(away_seconds=1)
            bridge.wait_until_watching(within_seconds=60)
        eventually(
            lambda: not nodes.silently_lost(endpoint.log_records()),
            within_seconds=40,
            why="each stretch has its record",
        )
        bridge.wait_until_delivered()
        records = endpoint.log_records()
        published = sum(len(node.publisher.published) for node in nodes.nodes)
        arrived = numbers_of(records)
        figures: dict[str, object] = {
            "seed": seed,
            "published": published,
            "arrived": len(arrived),
            "lost_within_recorded_gaps": published - len(arrived),
            "silently_lost": len(nodes.silently_lost(records)),
            "gap_records": len(gap_records(records)),
            "resets": resets,
            "duplicates": sum(arrived.values()) - len(arrived),
            "balanced": bridge.balances(),
        }
        passed = not figures["silently_lost"] and not figures["duplicates"] and bridge.balances()
        record("bridge: blinks, restarts, resets, rolling updates", figures, passed)
        assert bridge.stop() == 0
    assert passed, figures
