"""Short forms of the campaigns: failures by chance, a lasting share of bad records, time that grows with size."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.integration.send.campaigns import (
    FAILURE,
    SHIPPED,
    Load,
    capacity,
    failing_by_chance,
    growing_with_size,
    load_beside,
    outcome_of,
    refusing_bad_records,
)
from tests.integration.send.conftest import Road
from tests.records import batch_of
from tests.waiting import eventually

PROTOCOLS = ["grpc", "http/protobuf"]


@pytest.mark.parametrize("share", [0.5, 0.85])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_failures_by_chance_set_nothing_aside_and_hold_nothing_up(road: Road, protocol: str, share: float) -> None:
    with OtlpEndpoint() as endpoint:
        endpoint.answers = failing_by_chance(share, latency_seconds=0.005, seed=1)
        load = Load(road, per_second=500, seconds=2)
        figures = load_beside(road, endpoint, load, protocol=protocol, drain_seconds=30)
        road.closing.close()
    assert figures["set_aside"] == 0, figures
    assert figures["held"] == 0, figures
    assert figures["copies"] == 0, figures


@pytest.mark.parametrize("share", [0.5, 0.85])
def test_failures_by_chance_cost_their_share_of_the_throughput_and_little_more(tmp_path: Path, share: float) -> None:
    rates = {}
    for p in (0.0, share):
        road = Road(tmp_path / str(p))
        with OtlpEndpoint() as endpoint, road.closing:
            rates[p] = capacity(road, endpoint, share=p, seconds=4, protocol="http/protobuf")
    assert rates[share] >= 0.8 * (1 - share) * rates[0.0] * 0.8, rates  # 4 s are few requests: chance has its part


@pytest.mark.parametrize("one_bad_source", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_lasting_share_of_bad_records_holds_no_good_ones_up(road: Road, protocol: str, one_bad_source: bool) -> None:
    with OtlpEndpoint(workers=40) as endpoint:
        endpoint.answers = refusing_bad_records(latency_seconds=0.02)
        load = Load(road, per_second=200, seconds=3, bad_share=0.1, one_bad_source=one_bad_source)
        figures = load_beside(road, endpoint, load, protocol=protocol, drain_seconds=30)
        road.closing.close()
    assert figures["good_in_time"] >= 0.8, figures  # type: ignore[operator]
    assert figures["wrongly_set_aside"] == 0, figures
    assert figures["set_aside"] == figures["bad"], figures
    assert (figures["held"], figures["copies"]) == (0, 0), figures


def test_a_record_that_an_endpoint_fails_at_is_convicted_while_the_others_flow(road: Road) -> None:
    with OtlpEndpoint() as endpoint:
        endpoint.answers = refusing_bad_records(latency_seconds=0.005, answer=FAILURE)
        road.put(batch_of(*[f"good-x{n}" for n in range(30)], "bad-x"))
        load = Load(road, per_second=200, seconds=5)
        figures = load_beside(road, endpoint, load, protocol="grpc", drain_seconds=10)
        road.closing.close()
    assert (figures["set_aside"], figures["wrongly_set_aside"], figures["held"]) == (1, 0, 0), figures


@pytest.mark.parametrize("one_batch", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_where_time_grows_with_size_all_is_delivered_and_hardly_anything_twice(
    road: Road, protocol: str, one_batch: bool
) -> None:
    names = [f"good-{n}" for n in range(4000)]
    with OtlpEndpoint() as endpoint:
        endpoint.answers = growing_with_size(0.001)
        step = 4000 if one_batch else 10
        road.put(*[batch_of(*names[n : n + step]) for n in range(0, 4000, step)])
        road.start(endpoint, protocol=protocol, **(SHIPPED | {"timeout_seconds": 1}))
        eventually(lambda: road.held() == 0, within_seconds=60)
        outcome = outcome_of(road, endpoint, names)
        road.closing.close()
    assert set(outcome.arrived) == set(names)
    assert outcome.copies <= 80
