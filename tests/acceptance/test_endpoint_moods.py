"""An endpoint with every mood that OTLP knows, and a bridge that runs as users run it: nothing lost, no hammering."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
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
    RefuseTooLarge,
    Request,
    Status,
    in_turn,
)
from otelbridge.simulator.upstream import Relay
from tests.acceptance.seeds import fresh_seed
from tests.integration.send.rough_weather import TIMER_SLACK_SECONDS, date_in
from tests.oracle import Publisher, duplicates_share_their_uid, numbers_of
from tests.peers.bridge import BridgeProcess, Json, running_bridge
from tests.waiting import eventually

EAGER = {"retry_initial_seconds": 0.05, "retry_max_seconds": 0.1, "replay_rate_factor": 0, "concurrency": 1}
UNAVAILABLE_SHARE = 0.7
LIMIT_BYTES = 8 * 1024
"""Of an endpoint that takes small requests only."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A first answer, and the delay that it asks for; 0: none, then the bridge's own backoff decides."""

    name: str
    protocol: str
    answer: Callable[[], Answer]
    asked_seconds: float


def refusals(seconds: int) -> list[Refusal]:
    """The ways of asking for so many seconds, and one that asks for nothing."""

    def grpc_status(code: grpc.StatusCode) -> Refusal:
        return Refusal(
            name=f"{code.name} with RetryInfo",
            protocol="grpc",
            answer=lambda: Status(code=code, retry_delay_seconds=seconds),
            asked_seconds=seconds,
        )

    def http_429(name: str, headers: Callable[[], dict[str, str]]) -> Refusal:
        return Refusal(
            name=f"429 with Retry-After {name}",
            protocol="http/protobuf",
            answer=lambda: Http(status=429, headers=headers()),
            asked_seconds=seconds,
        )

    return [
        grpc_status(Code.UNAVAILABLE),
        grpc_status(Code.RESOURCE_EXHAUSTED),
        http_429("in seconds", lambda: {"Retry-After": str(seconds)}),
        http_429("as a date", lambda: {"Retry-After": date_in(seconds), "Date": date_in(0)}),
        Refusal(
            name="RESOURCE_EXHAUSTED without RetryInfo",
            protocol="grpc",
            answer=lambda: Status(code=Code.RESOURCE_EXHAUSTED, details="quota"),
            asked_seconds=0,
        ),
    ]


def waits_for(
    relay: Relay, endpoint: OtlpEndpoint, folder: Path, *, protocol: str, seconds: int, times: int
) -> dict[str, list[float]]:
    """How long the bridge waits after each refusal, so many times each; all that it was given arrives once."""
    waits: dict[str, list[float]] = {}
    with running_bridge(folder, feed={"endpoints": [relay.endpoint]}, send=send_to(endpoint, protocol)) as bridge:
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=1_000, streams=(Stream.ALERTS,))
        for refusal in refusals(seconds) * times:
            if refusal.protocol == protocol:
                endpoint.answers = script = Timed(refusal.answer)
                publisher.publish(10)
                eventually(
                    lambda: delivered(bridge) == len(publisher.published),
                    within_seconds=seconds + 20,
                    why=f"all is delivered after {refusal.name}",
                )
                waits.setdefault(refusal.name, []).append(round(script.waited(), 3))
        assert numbers_of(endpoint.log_records()) == Counter(range(len(publisher.published)))
        assert bridge.balances()
        assert bridge.stop() == 0
    return waits


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_delays_that_the_endpoint_asks_for_are_honoured_and_everything_arrives_once(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, protocol: str
) -> None:
    waits = waits_for(relay, endpoint, tmp_path, protocol=protocol, seconds=1, times=1)
    for refusal in refusals(1):
        for waited in waits.get(refusal.name, []):
            latest = refusal.asked_seconds * (1 + LATE_SHARE) + TIMER_SLACK_SECONDS
            assert refusal.asked_seconds <= waited <= latest, refusal.name


def through_all_moods(
    relay: Relay, endpoint: OtlpEndpoint, folder: Path, *, protocol: str, seed: int, events: int
) -> dict[str, int]:
    """A bridge before an endpoint that is away, short of room, forgetful, choosy; raises for a broken promise.

    Args:
        relay: the upstream.
        endpoint: is told how to answer.
        folder: for the bridge.
        protocol: of the export.
        seed: decides which requests find it unavailable.
        events: published in each of the four moods.
    """
    chance = random.Random(seed)
    lock = threading.Lock()

    def mostly_unavailable(request: Request) -> Answer:
        with lock:
            unavailable = request.signal == "logs" and chance.random() < UNAVAILABLE_SHARE
        return Status(code=Code.UNAVAILABLE) if unavailable else OK

    too_large: list[int] = []

    def small(request: Request) -> Answer:
        if len(request.body) > LIMIT_BYTES:
            too_large.append(len(request.body))
        return RefuseTooLarge(limit_bytes=LIMIT_BYTES)

    with running_bridge(folder, feed={"endpoints": [relay.endpoint]}, send=send_to(endpoint, protocol)) as bridge:
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=2_000, streams=(Stream.ALERTS,))

        def publish_and_wait(accepted: int, why: str) -> None:
            publisher.publish(events)
            eventually(lambda: delivered(bridge) == accepted, within_seconds=60, why=why)

        endpoint.answers = mostly_unavailable
        publish_and_wait(events, f"{UNAVAILABLE_SHARE:.0%} UNAVAILABLE only delay")

        endpoint.answers = small
        publish_and_wait(2 * events, "what is too large is split until it fits")
        assert too_large, "one was too large"
        assert bridge.status()["queue"]["dead_letters"] == 0
        assert numbers_of(endpoint.log_records()) == Counter(range(2 * events))

        endpoint.answers = in_turn([LoseAnswer()])
        publish_and_wait(3 * events, "a batch whose answer was lost is sent again")
        records = endpoint.log_records()
        duplicates = sum(numbers_of(records).values()) - 3 * events
        assert duplicates > 0
        assert duplicates_share_their_uid(records)

        endpoint.answers = in_turn([Partial(rejected=1, message="one is bad")])
        publish_and_wait(4 * events - 1, "a partial success is counted and not repeated")
        assert bridge.balance("alerts")["rejected"] == 1
        bridge.wait_until_delivered()
        arrived = numbers_of(endpoint.log_records())
        assert set(arrived) == set(range(4 * events))
        assert sum(arrived.values()) == 4 * events + duplicates, "nothing but the lost answer made duplicates"
        seen = endpoint.seen
        assert bridge.stop() == 0
    return {"events": 4 * events, "requests": seen, "too_large": len(too_large), "duplicates": duplicates}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_through_refusals_splits_rejections_and_lost_answers_each_event_is_delivered_or_counted(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, protocol: str
) -> None:
    through_all_moods(relay, endpoint, tmp_path, protocol=protocol, seed=fresh_seed(), events=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedOut:
    """A stretch of 401, and what it cost."""

    held: int
    requests: int
    """That were refused meanwhile."""
    lost: int
    duplicates: int


def lock_out(
    relay: Relay,
    folder: Path,
    *,
    seconds: float,
    per_second: float,
    hold_initial_seconds: float,
    hold_max_seconds: float,
) -> LockedOut:
    """The endpoint wants another token for so long, while events come in; then the token file gets it."""
    folder.mkdir(exist_ok=True)
    token = folder / "token"
    token.write_text("old")
    with OtlpEndpoint(token="old") as endpoint:
        send = send_to(
            endpoint,
            "grpc",
            token_file=str(token),
            allow_plaintext_credentials=True,
            hold_initial_seconds=hold_initial_seconds,
            hold_max_seconds=hold_max_seconds,
        )
        with running_bridge(folder / "bridge", feed={"endpoints": [relay.endpoint]}, send=send) as bridge:
            bridge.wait_until_watching()
            publisher = Publisher(relay, per_second=per_second, streams=(Stream.ALERTS,))
            publisher.publish(50)
            endpoint.wait_for_records(50, within=20)

            endpoint.token = "new"
            before = endpoint.seen
            until = time.monotonic() + seconds
            publisher.publish(round(seconds * per_second))
            eventually(lambda: bridge.status()["delivery"][0]["code"] == "UNAUTHENTICATED", why="the cause is named")
            eventually(
                lambda: time.monotonic() >= until and endpoint.seen >= before + 3,
                within_seconds=seconds + 10,
                why="it goes on trying, slowly",
            )
            relay.wait_until_sent()
            eventually(
                lambda: bridge.balance("alerts")["held"] == len(publisher.published) - 50, why="all of it is held"
            )
            held, requests = bridge.balance("alerts")["held"], endpoint.seen - before
            assert "old" not in bridge.process.output()

            token.write_text("new")
            endpoint.wait_for_records(len(publisher.published), within=30)
            bridge.wait_until_delivered()
            assert bridge.stop() == 0
        arrived = numbers_of(endpoint.log_records())
    return LockedOut(
        held=held,
        requests=requests,
        lost=len(set(range(len(publisher.published))) - set(arrived)),
        duplicates=sum(arrived.values()) - len(arrived),
    )


def test_a_revoked_token_loses_nothing_and_a_new_token_file_cures_it_without_a_restart(
    relay: Relay, tmp_path: Path
) -> None:
    outage = lock_out(relay, tmp_path, seconds=0.1, per_second=500, hold_initial_seconds=0.2, hold_max_seconds=0.4)
    assert (outage.held, outage.lost, outage.duplicates) == (50, 0, 0)
