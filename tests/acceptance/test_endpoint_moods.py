"""An endpoint with every mood that OTLP knows, and a bridge that runs as users run it: nothing lost, no hammering."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import (
    OK,
    Answer,
    Http,
    LoseAnswer,
    Partial,
    Request,
    Status,
    TooLarge,
    in_turn,
)
from otelbridge.simulator.relay import Relay
from tests.acceptance.seeds import fresh_seed
from tests.integration.send.rough_weather import TIMER_SLACK_SECONDS, date_in
from tests.oracle import Publisher, duplicates_share_their_uid, numbers_of
from tests.peers.bridge import BridgeProcess, Json, running_bridge
from tests.waiting import eventually

EAGER = {"retry_initial_seconds": 0.05, "retry_max_seconds": 0.1, "replay_rate_factor": 0, "concurrency": 1}
DELAY_SECONDS = 1.0
LATE_SHARE = 0.1
"""Delays that a server asks for are honoured to so much, and never cut short."""

Code = grpc.StatusCode


class Timed:
    """A script that answers the first log request with one answer, later ones with Ok, and notes when they came."""

    def __init__(self, first: Callable[[], Answer]) -> None:
        self._first = first
        self.came: list[float] = []

    def __call__(self, request: Request) -> Answer:
        if request.signal != "logs":
            return OK
        answer = OK if self.came else self._first()
        self.came.append(time.monotonic())
        return answer

    def waited(self) -> float:
        return self.came[1] - self.came[0]


def send_to(endpoint: OtlpEndpoint, protocol: str, **settings: object) -> Json:
    url = endpoint.grpc_endpoint if protocol == "grpc" else endpoint.http_endpoint + "/v1/logs"
    return {"protocol": protocol, "endpoint": url, **EAGER, **settings}


def delivered(bridge: BridgeProcess, stream: Stream = Stream.ALERTS) -> int:
    return bridge.balance(stream)["delivered"]


DELAYS: dict[str, tuple[str, Callable[[], Answer], float]] = {
    "UNAVAILABLE with RetryInfo": (
        "grpc", lambda: Status(code=Code.UNAVAILABLE, retry_delay_seconds=DELAY_SECONDS), DELAY_SECONDS),
    "RESOURCE_EXHAUSTED with RetryInfo": (
        "grpc", lambda: Status(code=Code.RESOURCE_EXHAUSTED, retry_delay_seconds=DELAY_SECONDS), DELAY_SECONDS),
    "429 with Retry-After in seconds": (
        "http/protobuf", lambda: Http(status=429, headers={"Retry-After": "1"}), DELAY_SECONDS),
    "429 with Retry-After as a date": (
        "http/protobuf",
        lambda: Http(status=429, headers={"Retry-After": date_in(1), "Date": date_in(0)}), DELAY_SECONDS),
    "RESOURCE_EXHAUSTED without RetryInfo": ("grpc", lambda: Status(code=Code.RESOURCE_EXHAUSTED, details="quota"), 0),
}  # fmt: skip
"""Name to protocol, first answer, and the delay that it asks for (0: none; then the bridge's own ladder decides)."""


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_delays_that_the_endpoint_asks_for_are_honoured_and_everything_arrives_once(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, protocol: str
) -> None:
    with running_bridge(tmp_path, feed={"endpoints": [relay.endpoint]}, send=send_to(endpoint, protocol)) as bridge:
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=1_000, streams=(Stream.ALERTS,))
        for name, (_, first, asked) in DELAYS.items():
            if DELAYS[name][0] != protocol:
                continue
            endpoint.answers = script = Timed(first)
            publisher.publish(10)
            eventually(lambda: delivered(bridge) == len(publisher.published), why=f"all is delivered after {name}")
            assert asked <= script.waited() <= asked * (1 + LATE_SHARE) + TIMER_SLACK_SECONDS, name
        assert numbers_of(endpoint.log_records()) == Counter(range(len(publisher.published)))
        assert bridge.balances()
        assert bridge.stop() == 0


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_through_refusals_splits_rejections_and_lost_answers_each_event_is_delivered_or_counted(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, protocol: str
) -> None:
    chance = random.Random(fresh_seed())
    lock = threading.Lock()

    def mostly_unavailable(request: Request) -> Answer:
        with lock:
            unavailable = request.signal == "logs" and chance.random() < 0.7
        return Status(code=Code.UNAVAILABLE) if unavailable else OK

    with running_bridge(tmp_path, feed={"endpoints": [relay.endpoint]}, send=send_to(endpoint, protocol)) as bridge:
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=2_000, streams=(Stream.ALERTS,))

        endpoint.answers = mostly_unavailable
        publisher.publish(300)
        eventually(lambda: delivered(bridge) == 300, why="70 % UNAVAILABLE only delay")

        endpoint.answers = lambda _: TooLarge(limit_bytes=8 * 1024)
        publisher.publish(100)
        eventually(lambda: delivered(bridge) == 400, why="what is too large is split until it fits")
        assert bridge.status()["queue"]["dead_letters"] == 0

        once = numbers_of(endpoint.log_records())
        assert once == Counter(range(400))

        endpoint.answers = in_turn([LoseAnswer()])
        publisher.publish(100)
        eventually(lambda: delivered(bridge) == 500, why="a batch whose answer was lost is sent again")
        records = endpoint.log_records()
        assert sum(numbers_of(records).values()) > 500
        assert duplicates_share_their_uid(records)

        endpoint.answers = in_turn([Partial(rejected=1, message="one is bad")])
        publisher.publish(100)
        eventually(lambda: delivered(bridge) == 599, why="a partial success is counted and not repeated")
        assert bridge.balance("alerts")["rejected"] == 1
        bridge.wait_until_delivered()
        assert set(numbers_of(endpoint.log_records())) == set(range(600))
        assert bridge.stop() == 0


def test_a_revoked_token_loses_nothing_and_a_new_token_file_cures_it_without_a_restart(
    relay: Relay, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    with OtlpEndpoint(token="old") as endpoint:
        send = send_to(
            endpoint,
            "grpc",
            token_file=str(token),
            allow_plaintext_credentials=True,
            hold_initial_seconds=0.2,
            hold_max_seconds=0.4,
        )
        with running_bridge(tmp_path / "bridge", feed={"endpoints": [relay.endpoint]}, send=send) as bridge:
            bridge.wait_until_watching()
            publisher = Publisher(relay, per_second=1_000, streams=(Stream.ALERTS,))
            publisher.publish(50)
            endpoint.wait_for_records(50, within=20)

            endpoint.token = "new"
            publisher.publish(50)
            eventually(lambda: bridge.status()["delivery"][0]["code"] == "UNAUTHENTICATED", why="the cause is named")
            refused = endpoint.seen
            eventually(lambda: endpoint.seen >= refused + 2, why="it goes on trying, slowly")
            assert bridge.balance("alerts")["held"] == 50
            assert "old" not in bridge.process.output()

            token.write_text("new")
            endpoint.wait_for_records(100, within=20)
            bridge.wait_until_delivered()
            assert bridge.stop() == 0
        assert numbers_of(endpoint.log_records()) == Counter(range(100))
