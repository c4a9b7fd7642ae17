"""The campaigns of delivery at length: failures by chance, lasting shares of bad records, time that grows with size."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import Http, Reset
from tests.integration.send.campaigns import (
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
from tests.integration.send.endpoint_process import EndpointProcess
from tests.records import batch_of
from tests.torture_report import record
from tests.waiting import eventually

pytestmark = pytest.mark.torture
PROTOCOLS = ["grpc", "http/protobuf"]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.85])
@pytest.mark.parametrize("per_second", [10, 1000])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_failures_by_chance_for_five_minutes(road: Road, protocol: str, per_second: float, share: float) -> None:
    figures: dict[str, object] = {}
    passed = False
    try:
        with OtlpEndpoint() as endpoint:
            endpoint.answers = failing_by_chance(share, latency_seconds=0.02, seed=1)
            load = Load(road, per_second=per_second, seconds=300)
            figures = load_beside(road, endpoint, load, protocol=protocol, drain_seconds=120)
            road.closing.close()
        assert (figures["set_aside"], figures["held"]) == (0, 0), figures
        passed = True
    finally:
        record(f"send/failures_by_chance/{protocol}/{share}/{per_second}", figures, passed)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.85])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_failures_by_chance_cost_their_share_of_the_capacity(tmp_path: Path, protocol: str, share: float) -> None:
    rates = {}
    passed = False
    try:
        for p in (0.0, share):
            road = Road(tmp_path / str(p))
            with OtlpEndpoint() as endpoint, road.closing:
                rates[p] = capacity(road, endpoint, share=p, seconds=60, protocol=protocol)
        assert rates[share] >= 0.8 * (1 - share) * rates[0.0], rates
        passed = True
    finally:
        record(
            f"send/capacity_under_failures/{protocol}/{share}",
            {"records_per_second": {str(p): round(rate) for p, rate in rates.items()}},
            passed,
        )


@pytest.mark.parametrize("failure", ["503", "reset"])
@pytest.mark.parametrize("share", [0.5, 0.85])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_unavailable_by_chance_costs_its_share_of_the_capacity(
    tmp_path: Path, protocol: str, share: float, failure: str
) -> None:
    answer = Reset() if failure == "reset" else Http(status=503)
    rates = {}
    passed = False
    try:
        for p in (0.0, share):
            road = Road(tmp_path / str(p))
            with OtlpEndpoint() as endpoint, road.closing:
                rates[p] = capacity(
                    road, endpoint, share=p, seconds=60, protocol=protocol, failure=answer, warm_up_seconds=30
                )
        assert rates[share] >= 0.8 * (1 - share) * rates[0.0], rates
        passed = True
    finally:
        record(
            f"send/capacity_under_{failure}/{protocol}/{share}",
            {"records_per_second": {str(p): round(rate) for p, rate in rates.items()}},
            passed,
        )


@pytest.mark.parametrize("one_bad_source", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.02, 0.1])
@pytest.mark.parametrize("per_second", [200, 2000])
@pytest.mark.parametrize("latency_seconds", [0.02, 0.05])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_lasting_share_of_bad_records(
    road: Road, *, protocol: str, latency_seconds: float, per_second: float, share: float, one_bad_source: bool
) -> None:
    figures: dict[str, object] = {}
    passed = False
    try:
        with EndpointProcess(partial(refusing_bad_records, latency_seconds=latency_seconds), workers=160) as endpoint:
            load = Load(road, per_second=per_second, seconds=30, bad_share=share, one_bad_source=one_bad_source)
            before = endpoint.cpu_seconds()
            figures = load_beside(road, endpoint, load, protocol=protocol, drain_seconds=120)
            figures["endpoint_cpu_seconds"] = round(endpoint.cpu_seconds() - before, 1)
            figures["machine_load"] = round(os.getloadavg()[0], 1)
            road.closing.close()
        assert figures["good_in_time"] >= 0.8, figures  # type: ignore[operator]
        assert figures["set_aside"] == figures["bad"], figures
        assert (figures["wrongly_set_aside"], figures["held"]) == (0, 0), figures
        passed = True
    finally:
        where = "one_source" if one_bad_source else "all_sources"
        record(f"send/bad_share/{protocol}/{where}/{share}/{per_second}/{latency_seconds}", figures, passed)


@pytest.mark.parametrize("one_batch", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ten_milliseconds_a_record(road: Road, protocol: str, one_batch: bool) -> None:
    names = [f"good-{n}" for n in range(4000)]
    figures: dict[str, object] = {}
    passed = False
    try:
        with OtlpEndpoint() as endpoint:
            endpoint.answers = growing_with_size(0.01)
            step = 4000 if one_batch else 10
            road.put(*[batch_of(*names[n : n + step]) for n in range(0, 4000, step)])
            workers = road.start(endpoint, protocol=protocol, **SHIPPED)
            eventually(lambda: road.held() == 0, within_seconds=300)
            outcome = outcome_of(road, endpoint, names)
            figures = {"copies": outcome.copies, "requests": workers.status().counts.requests}
            road.closing.close()
        assert set(outcome.arrived) == set(names)
        assert outcome.copies <= 80, figures
        passed = True
    finally:
        record(f"send/growing_with_size/{protocol}/{'one_batch' if one_batch else 'many_batches'}", figures, passed)
