"""Queue, workers and endpoint together: whatever the endpoint answers, each record ends in exactly one account."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from otelbridge.event import Signal, Stream
from otelbridge.queue.checkpoint import Account
from otelbridge.queue.model import Accepted, Outcome
from otelbridge.queue.queue import QueueOfSignal
from otelbridge.send.circuit_breaker import EndpointState
from otelbridge.send.classify import counted
from otelbridge.send.sender import open_traces_sender
from otelbridge.send.settings import SendSettings
from otelbridge.send.workers import Workers
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import (
    OK,
    Answer,
    Answers,
    Hang,
    Http,
    LoseAnswer,
    Partial,
    Raw,
    RefuseTooLarge,
    Request,
    Status,
    in_turn,
)
from otelbridge.telemetry.events import BatchRefused, DeliveryDelayed, DeliveryHeld
from tests.faults import FaultAtCall
from tests.integration.send.conftest import Road
from tests.records import batch_of, bodies_of
from tests.waiting import eventually

INTERNAL = Status(code=grpc.StatusCode.INTERNAL, details="boom")
INVALID = Status(code=grpc.StatusCode.INVALID_ARGUMENT, details="bad record")
UNAVAILABLE = Status(code=grpc.StatusCode.UNAVAILABLE, details="busy")


def names(number: int, prefix: str = "r") -> list[str]:
    return [f"{prefix}{n}" for n in range(number)]


def poison(word: str, answer: Answer) -> Answers:
    def judge(request: Request) -> Answer:
        return answer if word.encode() in request.body else OK

    return judge


def test_what_is_put_arrives_in_order_and_is_acknowledged(road: Road, endpoint: OtlpEndpoint) -> None:
    workers = road.start(endpoint, concurrency=1)
    for name in names(20):
        road.put(batch_of(name))
    assert bodies_of(endpoint.wait_for_records(20, within=10)) == names(20)
    eventually(lambda: road.held() == 0)
    assert road.total(Account.DELIVERED) == 20
    assert workers.status().counts.delivered_records == 20


def test_waiting_batches_are_joined_into_larger_requests(road: Road, endpoint: OtlpEndpoint) -> None:
    road.put(*[batch_of(name) for name in names(100)])
    road.start(endpoint, max_request_records=40, concurrency=1)
    endpoint.wait_for_records(100, within=10)
    assert endpoint.counts().requests == 3


def test_partial_success_is_counted_and_not_sent_again(road: Road, endpoint: OtlpEndpoint) -> None:
    endpoint.answers = in_turn([Partial(rejected=3, message="no thanks")])
    road.start(endpoint)
    road.put(batch_of(*names(10)))
    eventually(lambda: road.held() == 0)
    assert endpoint.seen == 1
    assert (road.total(Account.DELIVERED), road.total(Account.REJECTED)) == (7, 3)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_who_rejects_more_than_was_sent_has_said_nothing_that_can_be_counted(road: Road, protocol: str) -> None:
    endpoint = road.closing.enter_context(OtlpEndpoint(answers=lambda _: Partial(rejected=30, message="no thanks")))
    workers = road.start(endpoint, protocol=protocol)
    road.put(batch_of(*names(10)))
    eventually(lambda: workers.status().breaker.state is EndpointState.HELD)
    assert "rejected 30 of" in workers.status().breaker.why
    assert "partial success" in workers.status().breaker.cure
    assert (road.held(), road.total(Account.DELIVERED), road.total(Account.REJECTED)) == (10, 0, 0)
    endpoint.answers = lambda _: OK
    eventually(lambda: road.held() == 0)
    assert (road.total(Account.DELIVERED), road.total(Account.REJECTED)) == (10, 0)


def test_a_count_that_cannot_be_true_holds_up_no_other_records(road: Road, endpoint: OtlpEndpoint) -> None:
    endpoint.answers = poison("poison", Partial(rejected=30))
    workers = road.start(endpoint, hold_initial_seconds=600, hold_max_seconds=600)
    road.put(batch_of("welcome"))
    eventually(lambda: road.held() == 0)
    road.put(batch_of("poison"))
    eventually(lambda: workers.status().breaker.state is EndpointState.HELD)
    for name in names(5):
        road.put(batch_of(name))
        eventually(lambda: road.held() == 1)
    assert road.total(Account.DELIVERED) == 6


@pytest.mark.parametrize("answer", [UNAVAILABLE, Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED), INTERNAL])
def test_bad_weather_is_waited_out(road: Road, endpoint: OtlpEndpoint, answer: Answer) -> None:
    endpoint.answers = in_turn([answer] * 3)
    workers = road.start(endpoint)
    road.put(batch_of(*names(5)))
    assert sorted(bodies_of(endpoint.wait_for_records(5, within=10))) == names(5)
    eventually(lambda: workers.status().breaker.state is EndpointState.DELIVERING and road.held() == 0)
    eventually(lambda: workers.status().counts.requests - road.kinds().count("BatchAccepted") == 3)
    assert ("DeliveryDelayed" in road.kinds()) is (answer is not INTERNAL)  # INTERNAL may be chance, or a record's


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_delay_that_a_server_asks_for_is_kept(road: Road, endpoint: OtlpEndpoint, protocol: str) -> None:
    moments = []

    def judge(_: Request) -> Answer:
        moments.append(time.monotonic())
        return Status(code=grpc.StatusCode.UNAVAILABLE, retry_delay_seconds=1) if len(moments) == 1 else OK

    endpoint.answers = judge
    road.start(endpoint, protocol=protocol)
    road.put(batch_of("a"))
    endpoint.wait_for_records(1, within=10)
    assert 1 <= moments[1] - moments[0] < 1.3
    assert next(t.delay_seconds for t in road.told if isinstance(t, DeliveryDelayed)) == pytest.approx(1, rel=0.1)


def test_what_comes_back_is_charged_to_the_backlog_once(road: Road, endpoint: OtlpEndpoint) -> None:
    turns: Iterator[Answer] = itertools.cycle((UNAVAILABLE, OK))
    endpoint.answers = lambda _: next(turns)
    for n in range(36):
        road.put(batch_of(*names(250, f"{n}-")))
    road.wall_clock_nano = lambda: time.time_ns() + 3600 * 10**9
    road.start(endpoint, concurrency=1, max_request_records=500)
    eventually(lambda: road.held() == 0, within_seconds=6, why="fewer than what may go at once")


def test_wrong_credentials_hold_everything_and_lose_nothing(road: Road, endpoint: OtlpEndpoint) -> None:
    endpoint.token = "right"
    workers = road.start(endpoint, headers={"authorization": "Bearer wrong-token"})
    road.put(batch_of(*names(5)))
    eventually(lambda: workers.status().breaker.state is EndpointState.HELD)
    eventually(lambda: workers.status().counts.requests >= 3, why="it is tried again now and then")
    assert road.held() == 5
    assert any(isinstance(t, DeliveryHeld) and "token_file" in t.why for t in road.told)
    assert "wrong-token" not in repr(road.told) + repr(workers.status())
    endpoint.token = "wrong-token"
    endpoint.wait_for_records(5, within=10)
    eventually(lambda: road.held() == 0)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_corrected_token_ends_the_hold_at_once(
    road: Road, endpoint: OtlpEndpoint, secret_file: Callable[[str], Path], protocol: str
) -> None:
    endpoint.token = "right-token"
    token_file = secret_file("wrong-token")
    backoff = {"hold_initial_seconds": 600, "hold_max_seconds": 600}
    workers = road.start(endpoint, protocol=protocol, token_file=token_file, **backoff)
    road.put(batch_of(*names(5)))
    eventually(lambda: workers.status().breaker.state is EndpointState.HELD)
    assert workers.status().breaker.next_try_seconds > 60
    token_file.write_text("right-token\n")
    endpoint.wait_for_records(5, within=10)
    eventually(lambda: road.held() == 0)


def test_an_endpoint_that_is_down_meets_one_probe_at_a_time(road: Road, endpoint: OtlpEndpoint) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def judge(request: Request) -> Answer:
        with lock:
            now[0] += 1
            if endpoint.seen > 16:  # those that were under way when it went down are gone
                most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return UNAVAILABLE

    endpoint.answers = judge
    road.put(*[batch_of(name) for name in names(50)])
    road.start(endpoint, concurrency=8, max_request_records=1)
    eventually(lambda: endpoint.seen > 20)
    assert most[0] == 1


def test_several_requests_are_in_flight_and_still_acknowledged_exactly(road: Road, endpoint: OtlpEndpoint) -> None:
    endpoint.answers = lambda _: Hang(seconds=0.2)
    road.put(*[batch_of(name) for name in names(8)])
    began = time.monotonic()
    road.start(endpoint, concurrency=8, max_request_records=1)
    eventually(lambda: endpoint.seen >= 4)
    endpoint.wait_for_records(8, within=10)
    assert time.monotonic() - began < 8 * 0.2
    eventually(lambda: road.held() == 0)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(names(8))


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_what_is_too_large_is_sent_in_smaller_requests(road: Road, endpoint: OtlpEndpoint, protocol: str) -> None:
    endpoint.answers = lambda _: RefuseTooLarge(limit_bytes=3000)
    road.put(batch_of(*names(64), padding=100), batch_of(*names(64, "s"), padding=100))
    road.start(endpoint, protocol=protocol)
    endpoint.wait_for_records(128, within=20)
    eventually(lambda: road.held() == 0)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(names(64) + names(64, "s"))
    assert "BatchSplit" in road.kinds()
    assert road.total(Account.DELIVERED) == 128


def test_the_halves_of_a_batch_survive_the_settlement_of_a_later_one(road: Road) -> None:
    road.put(batch_of("a", "b"), batch_of("c"))
    first, second = (road.queue.take(max_bytes=1, max_records=1) for _ in range(2))
    assert first is not None
    assert second is not None
    road.queue.replace(first, [batch_of("a"), batch_of("b")])
    road.queue.settle(second, Accepted())
    assert [road.queue.take(max_bytes=1, max_records=1) is not None for _ in range(3)] == [True, True, False]


def test_one_record_that_is_too_large_is_set_aside(road: Road, endpoint: OtlpEndpoint) -> None:
    endpoint.answers = lambda _: RefuseTooLarge(limit_bytes=3000)
    road.put(batch_of(*names(4)), batch_of("huge", padding=4000), batch_of(*names(4, "s")))
    road.start(endpoint)
    eventually(lambda: road.held() == 0)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(names(4) + names(4, "s"))
    assert road.total(Account.REJECTED) == 1


@pytest.mark.parametrize("answer", [INVALID, INTERNAL, Http(status=400), Http(status=500)])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_faulty_record_is_found_and_set_aside_alone(
    road: Road, endpoint: OtlpEndpoint, answer: Answer, protocol: str
) -> None:
    endpoint.answers = poison("poison", answer)
    good = names(100)
    road.put(batch_of(*good[:70], "poison", *good[70:]), *[batch_of(name) for name in names(20, "s")])
    road.start(endpoint, protocol=protocol)
    later: list[str] = []

    def set_aside() -> bool:
        # INTERNAL and 500 may as well be the endpoint's own trouble: it takes a later record to tell.
        later.append(f"later{len(later)}")
        road.put(batch_of(later[-1]))
        return road.total(Account.REJECTED) > 0

    eventually(set_aside)
    eventually(lambda: road.held() == 0)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(good + names(20, "s") + later)
    assert road.total(Account.REJECTED) == 1
    assert sum(t.records for t in road.told if isinstance(t, BatchRefused)) == 1


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_new_records_do_not_wait_for_one_that_the_endpoint_fails_at(
    road: Road, endpoint: OtlpEndpoint, protocol: str
) -> None:
    endpoint.answers = poison("poison", INTERNAL)
    backoff = {"retry_initial_seconds": 600, "retry_max_seconds": 600}
    workers = road.start(endpoint, protocol=protocol, **backoff)
    road.put(batch_of("welcome"))
    eventually(lambda: road.held() == 0)
    road.put(batch_of("poison"))
    eventually(lambda: workers.status().breaker.state is EndpointState.DELAYED, within_seconds=20)
    road.put(batch_of("later"))
    endpoint.wait_for_records(2, within=5)
    eventually(lambda: workers.status().breaker.state is EndpointState.DELIVERING)
    witnesses: list[str] = []

    def set_aside() -> bool:
        witnesses.append(f"witness{len(witnesses)}")
        road.put(batch_of(witnesses[-1]))
        return road.total(Account.REJECTED) == 1

    eventually(set_aside)
    eventually(lambda: road.held() == 0)


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        ("grpc", Status(code=grpc.StatusCode.PERMISSION_DENIED)),
        ("http/protobuf", Http(status=403, body=b"Request blocked.")),
        ("http/protobuf", Http(status=406)),
        ("http/protobuf", Raw(answer=b"HTTP/1.1 200 OK\r\n\r\n<html>The requested URL was rejected.", taken=False)),
    ],
)
def test_a_record_that_a_firewall_takes_for_an_attack_holds_up_no_others(
    road: Road, endpoint: OtlpEndpoint, protocol: str, answer: Answer
) -> None:
    endpoint.answers = poison("poison", answer)
    backoff = {"hold_initial_seconds": 600, "hold_max_seconds": 600}
    workers = road.start(endpoint, protocol=protocol, **backoff)
    road.put(batch_of("welcome"))
    eventually(lambda: road.held() == 0)
    road.put(batch_of(*names(10), "poison", *names(10, "s")))
    eventually(lambda: workers.status().breaker.state is EndpointState.HELD)
    later: list[str] = []

    def set_aside() -> bool:
        later.append(f"later{len(later)}")
        road.put(batch_of(later[-1]))
        return road.total(Account.REJECTED) == 1

    eventually(set_aside, within_seconds=20)
    eventually(lambda: road.held() == 0)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(["welcome", *names(10), *names(10, "s"), *later])


def test_credentials_that_are_taken_back_hold_everything(road: Road, endpoint: OtlpEndpoint) -> None:
    backoff = {"hold_initial_seconds": 600, "hold_max_seconds": 600}
    workers = road.start(endpoint, protocol="http/protobuf", **backoff)
    road.put(batch_of("welcome"))
    eventually(lambda: road.held() == 0)
    endpoint.answers = lambda _: Http(status=403)
    for name in names(30):
        road.put(batch_of(name))
    eventually(lambda: workers.status().breaker.state is EndpointState.HELD)
    assert endpoint.seen <= 1 + 2 + 2  # what was under way, a smaller one and another, to see whether it is about these
    assert (road.held(), road.total(Account.REJECTED)) == (30, 0)


def test_where_no_thread_can_be_started_the_records_stay(
    road: Road, endpoint: OtlpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.answers = poison("poison", INVALID)
    started = threading.Thread.start
    refused: list[str] = []

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("send-apart") and len(refused) < 3:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    road.start(endpoint)
    road.put(batch_of("welcome"))
    eventually(lambda: road.held() == 0)
    road.put(batch_of(*names(50), "poison", *names(50, "s")))
    eventually(lambda: len(refused) == 3, within_seconds=20)
    eventually(lambda: road.held() == 0, within_seconds=20)
    assert set(bodies_of(endpoint.log_records())) == {"welcome", *names(50), *names(50, "s")}
    assert road.total(Account.REJECTED) == 1


def test_an_endpoint_that_fails_at_everything_destroys_nothing(road: Road, endpoint: OtlpEndpoint) -> None:
    endpoint.answers = lambda _: INTERNAL
    workers = road.start(endpoint)
    road.put(batch_of(*names(16)), batch_of(*names(16, "s")))
    eventually(lambda: workers.status().counts.requests > 25)
    assert road.held() == 32
    endpoint.answers = lambda _: OK
    endpoint.wait_for_records(32, within=10)
    eventually(lambda: road.held() == 0)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(names(16) + names(16, "s"))


def test_a_fault_beside_a_request_reaches_the_worker_that_waits_for_it(
    road: Road, endpoint: OtlpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.answers = poison("poison", INVALID)
    raised = list[bool]()

    def once_faulty(outcome: Outcome, records: int) -> Outcome:
        if threading.current_thread().name.startswith("send-apart") and not raised:
            raised.append(True)
            raise RuntimeError("no longer counted")
        return counted(outcome, records)

    monkeypatch.setattr("otelbridge.send.export.counted", once_faulty)
    road.start(endpoint)
    road.put(batch_of("welcome"))
    eventually(lambda: road.held() == 0)
    road.put(batch_of(*names(50), "poison", *names(50, "s")))
    eventually(lambda: road.held() == 0, within_seconds=20)
    assert raised
    assert set(bodies_of(endpoint.log_records())) == {"welcome", *names(50), *names(50, "s")}


LETS_GO = ("_Changing.", "QueueState.mend", "QueueState.write", "Pulse.", "SupervisedThread.", "Export.give_back_lost")
"""What lets locks go, and what comes after a fault: a fault there is one too many."""


@pytest.mark.parametrize("seed", range(8))
def test_a_fault_anywhere_while_bad_records_are_looked_for_leaves_no_record_behind(
    road: Road, endpoint: OtlpEndpoint, seed: int
) -> None:
    endpoint.answers = poison("poison", INVALID)
    fault = FaultAtCall(folder="send", spared=LETS_GO)
    threading.setprofile(fault.look)
    try:
        road.start(endpoint)
        road.put(batch_of("welcome"))
        eventually(lambda: road.held() == 0)
        fault.left = random.Random(seed).randrange(500)
        road.put(batch_of(*names(50), "poison", *names(50, "s")))
        eventually(lambda: road.held() == 0, within_seconds=20, why=str(fault.raised))
    finally:
        threading.setprofile(None)
    assert fault.raised
    assert set(bodies_of(endpoint.log_records())) == {"welcome", *names(50), *names(50, "s")}
    assert road.total(Account.REJECTED) == 1
    assert not road.queue.leases()


def test_an_endpoint_that_refuses_everything_is_slowed_down(road: Road, endpoint: OtlpEndpoint) -> None:
    workers = road.start(endpoint, hold_initial_seconds=100, hold_max_seconds=100, concurrency=1)
    road.put(batch_of("welcome"))
    eventually(lambda: road.held() == 0)
    endpoint.answers = lambda _: INVALID
    road.put(*[batch_of(name) for name in names(300)])
    eventually(lambda: workers.status().breaker.state is EndpointState.HELD)
    assert road.total(Account.REJECTED) <= 8


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_that_has_never_accepted_anything_makes_no_dead_letters(
    road: Road, endpoint: OtlpEndpoint, protocol: str
) -> None:
    endpoint.answers = lambda _: INVALID
    workers = road.start(endpoint, protocol=protocol, hold_initial_seconds=0.02, hold_max_seconds=0.02)
    road.put(batch_of(*names(200)), *[batch_of(name) for name in names(20, "s")])
    eventually(lambda: workers.status().breaker.state is EndpointState.HELD)
    eventually(lambda: workers.status().counts.requests > 100)
    assert "send.endpoint" in workers.status().breaker.cure
    assert (road.held(), road.total(Account.REJECTED)) == (220, 0)
    endpoint.answers = lambda _: OK
    eventually(lambda: road.held() == 0)
    assert sorted(bodies_of(endpoint.log_records())) == sorted(names(200) + names(20, "s"))


def test_a_lost_answer_makes_duplicates_and_loses_nothing(road: Road, endpoint: OtlpEndpoint) -> None:
    endpoint.answers = in_turn([LoseAnswer()])
    road.start(endpoint)
    road.put(batch_of(*names(5)))
    endpoint.wait_for_records(10, within=10)
    eventually(lambda: road.held() == 0)
    assert bodies_of(endpoint.log_records()) == names(5) * 2


def test_draining_delivers_what_is_held_and_returns(road: Road, endpoint: OtlpEndpoint) -> None:
    road.put(*[batch_of(name) for name in names(200)])
    workers = road.start(endpoint, max_request_records=10)
    assert workers.drain(10)
    assert endpoint.counts().records == 200


def test_draining_tries_once_more_but_does_not_wait_for_a_try_beyond_its_deadline(
    road: Road, endpoint: OtlpEndpoint
) -> None:
    endpoint.answers = lambda _: UNAVAILABLE
    workers = road.start(endpoint, retry_initial_seconds=3600, retry_max_seconds=3600)
    road.put(batch_of("a"))
    eventually(lambda: workers.status().breaker.state is EndpointState.DELAYED)
    seen, began = endpoint.seen, time.monotonic()
    assert not workers.drain(30)
    assert time.monotonic() - began < 5
    assert endpoint.seen == seen + 1


def test_draining_stops_at_its_deadline_and_closing_gives_the_lease_back(road: Road, endpoint: OtlpEndpoint) -> None:
    endpoint.answers = lambda _: Hang(seconds=30)
    workers = road.start(endpoint, timeout_seconds=30)
    road.put(batch_of("a"))
    eventually(lambda: endpoint.seen == 1)
    began = time.monotonic()
    assert not workers.drain(0.2)
    workers.close()
    assert time.monotonic() - began < 3
    assert road.held() == 1
    assert road.queue.take(max_bytes=1000, max_records=10) is not None


def test_an_endpoint_that_comes_back_on_its_port_is_found_again(road: Road, endpoint: OtlpEndpoint) -> None:
    workers = road.start(endpoint)
    road.put(batch_of("a"))
    eventually(lambda: road.held() == 0)
    endpoint.stop()
    road.put(batch_of("b"))
    eventually(lambda: workers.status().breaker.state is EndpointState.DELAYED)
    endpoint.start()
    assert bodies_of(endpoint.wait_for_records(2, within=10)) == ["a", "b"]


def test_workers_show_their_pulses_while_nothing_happens(road: Road, endpoint: OtlpEndpoint) -> None:
    workers = road.start(endpoint, concurrency=2)
    started = time.monotonic()
    eventually(lambda: time.monotonic() - started > 1.5)
    assert [pulse.name for pulse in workers.pulses()] == ["send-1", "send-2"]
    assert all(pulse.age_seconds() < 1.5 for pulse in workers.pulses())


def test_ordered_keeps_one_request_in_flight_per_stream_and_the_records_in_their_order(
    road: Road, endpoint: OtlpEndpoint
) -> None:
    lock, running, most = threading.Lock(), [0], [0]
    chance = random.Random(4)

    def judge(request: Request) -> Answer:
        with lock:
            running[0] += b"alert" in request.body
            most[0] = max(most[0], running[0])
            failed = chance.random() < 0.3
        time.sleep(0.005)  # long enough for another request to overtake it
        with lock:
            running[0] -= b"alert" in request.body
        return UNAVAILABLE if failed else OK

    endpoint.answers = judge
    for n in range(60):
        road.put(batch_of(f"alert{n:02}"), batch_of(f"log{n:02}", stream=Stream.LOGS))
    road.start(endpoint, ordered=True, concurrency=4, max_request_records=3)
    eventually(lambda: road.held() == 0, within_seconds=30)
    bodies = bodies_of(endpoint.log_records())
    assert most[0] == 1
    for stream in ("alert", "log"):
        assert [body for body in bodies if body.startswith(stream)] == [f"{stream}{n:02}" for n in range(60)]


def test_ordered_sends_a_backlog_of_one_stream_without_a_pause(road: Road, endpoint: OtlpEndpoint) -> None:
    for n in range(100):
        road.put(batch_of(f"alert{n:02}"))
    road.start(endpoint, ordered=True, concurrency=4, max_request_records=1)
    eventually(lambda: road.held() == 0, within_seconds=10)
    assert bodies_of(endpoint.log_records()) == [f"alert{n:02}" for n in range(100)]


def test_workers_rest_while_the_stream_they_would_send_of_is_under_way(road: Road, endpoint: OtlpEndpoint) -> None:
    endpoint.answers = in_turn([Hang(seconds=2)])
    for n in range(3):
        road.put(batch_of(f"alert{n}"))
    workers = road.start(endpoint, ordered=True, concurrency=4, max_request_records=1)
    eventually(lambda: endpoint.seen)
    before = time.process_time()
    eventually(lambda: workers.status().counts.delivered_records, within_seconds=5)
    assert time.process_time() - before < 0.5
    eventually(lambda: road.held() == 0)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_for_records_only_holds_up_none_and_is_complained_of_once(
    road: Road, endpoint: OtlpEndpoint, protocol: str
) -> None:
    unknown = Status(code=grpc.StatusCode.UNIMPLEMENTED, details="unknown service TraceService")
    endpoint.answers = lambda request: unknown if request.signal == "traces" else OK
    address = endpoint.grpc_endpoint if protocol == "grpc" else f"{endpoint.http_endpoint}/v1/logs"
    settings = section_from(
        SendSettings,
        {"protocol": protocol, "endpoint": address, "hold_initial_seconds": 0.05, "hold_max_seconds": 0.05},
    )
    queue = QueueOfSignal(road.queue, Signal.TRACES)
    spans = Workers(queue, open_traces_sender(settings, version="test"), settings, road.told.append)
    road.closing.callback(spans.close)
    road.put(batch_of("span", stream=Stream.SPANS), *[batch_of(name) for name in names(20)])
    road.start(endpoint, protocol=protocol)
    spans.start()
    endpoint.wait_for_records(20, within=10)
    eventually(lambda: spans.status().counts.requests >= 5)
    (held,) = [told for told in road.told if isinstance(told, DeliveryHeld)]
    assert "send.traces_endpoint" in held.why
    assert "send.traces_endpoint" in spans.status().breaker.cure


@pytest.mark.parametrize("count", ['"rejectedSpans":"1"', '"rejectedSpans":1', '"rejected_spans":"1"'])
def test_spans_that_a_partial_success_in_json_rejects_are_counted(
    road: Road, endpoint: OtlpEndpoint, count: str
) -> None:
    key = "partial_success" if "_" in count else "partialSuccess"
    body = f'{{"{key}":{{{count}}}}}'.encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    endpoint.answers = lambda _: Raw(answer=head + body, taken=False)
    settings = section_from(
        SendSettings, {"protocol": "http/protobuf", "endpoint": f"{endpoint.http_endpoint}/v1/logs", "concurrency": 1}
    )
    queue = QueueOfSignal(road.queue, Signal.TRACES)
    spans = Workers(queue, open_traces_sender(settings, version="test"), settings, road.told.append)
    road.closing.callback(spans.close)
    road.put(batch_of("a", "b", stream=Stream.SPANS))
    spans.start()
    eventually(lambda: road.held() == 0)
    assert road.total(Account.REJECTED, Stream.SPANS) == 1
    assert road.total(Account.DELIVERED, Stream.SPANS) == 1
    eventually(lambda: spans.status().counts.rejected_records == 1)
