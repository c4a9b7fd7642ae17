"""Requests wait for more records, and for nothing else; what waits is on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account
from otelbridge.send.settings import SendSettings
from otelbridge.send.workers import linger_limits
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from tests.integration.send.conftest import Road
from tests.records import batch_of, bodies_of
from tests.waiting import eventually

LONG = 60


@pytest.fixture
def lingering(tmp_path: Path) -> Iterator[Callable[..., Road]]:
    """Makes a road whose requests linger, by settings of the section `send`."""
    made: list[Road] = []

    def make(**settings: object) -> Road:
        made.append(Road(tmp_path / "queue", linger=linger_limits(section_from(SendSettings, settings))))
        return made[-1]

    yield make
    for road in made:
        road.closing.close()


def test_batches_that_come_one_by_one_share_a_request(lingering: Callable[..., Road], endpoint: OtlpEndpoint) -> None:
    road = lingering(linger_seconds=0.3)
    workers = road.start(endpoint)
    began = time.monotonic()
    for name in "abcdefgh":
        road.put(batch_of(name, stream=Stream.LOGS))
    assert bodies_of(endpoint.wait_for_records(8, within=10)) == list("abcdefgh")
    assert time.monotonic() - began >= 0.3
    eventually(lambda: road.held() == 0)
    assert workers.status().counts.requests == 1


def test_alerts_do_not_wait_for_the_logs_before_them(lingering: Callable[..., Road], endpoint: OtlpEndpoint) -> None:
    road = lingering(linger_seconds=LONG, alert_linger_seconds=0.05)
    road.start(endpoint)
    road.put(batch_of("log", stream=Stream.LOGS))
    road.put(batch_of("alert", stream=Stream.ALERTS))
    assert bodies_of(endpoint.wait_for_records(1, within=10)) == ["alert"]
    eventually(lambda: road.total(Account.DELIVERED) == 1)
    assert road.queue.held()[Stream.LOGS] == 1


def test_alerts_never_wait_longer_than_logs() -> None:
    limits = linger_limits(SendSettings(linger_seconds=0, alert_linger_seconds=5))
    assert set(limits.seconds.values()) == {0}


def test_a_full_request_waits_no_longer(lingering: Callable[..., Road], endpoint: OtlpEndpoint) -> None:
    road = lingering(linger_seconds=LONG, max_request_records=3)
    road.start(endpoint, max_request_records=3)
    for name in "abc":
        road.put(batch_of(name, stream=Stream.LOGS))
    assert bodies_of(endpoint.wait_for_records(3, within=10)) == list("abc")


def test_what_waits_is_held_and_what_an_earlier_process_left_goes_at_once(
    lingering: Callable[..., Road], endpoint: OtlpEndpoint
) -> None:
    road = lingering(linger_seconds=LONG)
    road.start(endpoint)
    road.put(batch_of("a", stream=Stream.LOGS))
    assert road.held() == 1
    assert not road.queue.has_work()
    road.closing.close()  # without a drain
    again = lingering(linger_seconds=LONG)
    again.start(endpoint)
    assert bodies_of(endpoint.wait_for_records(1, within=10)) == ["a"]


def test_a_drain_waits_for_nothing(lingering: Callable[..., Road], endpoint: OtlpEndpoint) -> None:
    road = lingering(linger_seconds=LONG)
    workers = road.start(endpoint)
    road.put(batch_of("a", stream=Stream.LOGS))
    assert workers.drain(10)
    assert bodies_of(endpoint.wait_for_records(1, within=0)) == ["a"]
