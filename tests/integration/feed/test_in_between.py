"""What stands between the bridge and KubeArmor: proxies, load balancers, names; each ends in the state it should."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from h2.errors import ErrorCodes

from otelbridge.event import GapCause, Stream
from otelbridge.feed import connector
from otelbridge.feed.model import SubscriptionState
from otelbridge.simulator.tcp_proxy import TcpProxy
from otelbridge.simulator.upstream import Relay
from otelbridge.telemetry.events import (
    CertificatesRefused,
    ConnectionAttempted,
    ConnectionEnded,
    Event,
    HeartbeatAnswered,
    HeartbeatMissed,
)
from tests.integration.feed.running import Running, running, settings_for
from tests.peers.policing_connection import Policing
from tests.peers.policing_relay import PolicingRelay
from tests.waiting import eventually

QUICK = {"interval_seconds": 0.5, "timeout_seconds": 1}
LADDER = {"initial_seconds": 1, "max_seconds": 30}
"""As by default."""
LEAST_IDLE_SECONDS = 5.0
"""Nobody gives a connection less; what is usual is 60."""
PAGE = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>"


@contextlib.contextmanager
def accepting(serve: Callable[[socket.socket], object]) -> Iterator[tuple[str, list[float]]]:
    """Something that takes connections, and when it took them."""
    listener, taken = socket.create_server(("127.0.0.1", 0)), []

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                taken.append(time.monotonic())
                threading.Thread(target=one, args=(connection,)).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", taken
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def answer(said: bytes) -> Callable[[socket.socket], object]:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(said)
        connection.recv(4096)

    return serve


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        (lambda _: None, "the server closed the connection"),
        (lambda connection: connection.recv(4096), "the server closed the connection"),
        (answer(PAGE), "a proxy answers with HTTP status 502"),
    ],
    ids=["accepts and closes", "reads and closes", "answers 502 in HTTP/1"],
)
def test_a_balancer_without_its_server_is_tried_by_the_fast_backoff_and_not_hammered(
    serve: Callable[[socket.socket], object], said: str
) -> None:
    with accepting(serve) as (endpoint, taken), running(settings_for(endpoint, retry=LADDER)) as run:
        eventually(lambda: said in run.status.last_error, within_seconds=20)
        assert run.status.error_class == "transient"
        assert "holding" not in run.states()
        began = taken[0]
        assert len(taken) <= 4 + 2.5 * (time.monotonic() - began)
        assert run.gaps() == [], "it was never watched: the gap goes on"


def test_a_balancer_that_speaks_http2_and_answers_502_is_waited_for() -> None:
    with PolicingRelay() as relay:
        relay.answer_with_a_web_page(b"502")
        with running(settings_for(relay.endpoint)) as run:
            eventually(lambda: run.status.attempts >= 4)
            assert "502" in run.status.last_error
            assert run.status.error_class == "transient"
            relay.answer_with_a_web_page(b"")
            run.until_watching()


def test_a_health_check_that_fails_now_and_then_ends_nothing() -> None:
    with PolicingRelay() as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        run.until_watching()

        def get_well(event: Event) -> None:
            if isinstance(event, HeartbeatMissed):
                relay.answer_with_a_web_page(b"")

        run.react = get_well
        for round_number in range(3):
            relay.answer_with_a_web_page(b"503")
            eventually(lambda: len(run.of(HeartbeatMissed)) > round_number)  # noqa: B023 called at once
            run.until(SubscriptionState.WATCHING)
        assert run.of(ConnectionEnded) == []
        assert run.gaps() == run.suspected() == []


def test_a_balancer_that_keeps_streams_open_while_its_server_is_gone_is_given_up_at_the_second_failure() -> None:
    with PolicingRelay() as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        run.until_watching()
        gone = time.time_ns()
        relay.answer_with_a_web_page(b"503")
        run.until_lost()
        assert "503" in run.of(ConnectionEnded)[0].detail
        relay.answer_with_a_web_page(b"")
        for gap in run.until_gaps(3):
            assert gap.cause is GapCause.DISCONNECT
            assert gap.started_unix_nano <= gone
        assert run.suspected() == [], "it answered all the time: no node can have dropped it for its silence"


def test_a_balancer_that_ends_idle_connections_finds_none_with_the_default_settings() -> None:
    with Relay() as relay, TcpProxy(relay.endpoint) as proxy, running(settings_for(proxy.endpoint)) as run:
        run.until_watching()
        began = changed = time.monotonic()
        passed, longest = proxy.counts().passed_bytes, 0.0

        def watched_for_long() -> bool:
            nonlocal changed, passed, longest
            now, so_far = time.monotonic(), proxy.counts().passed_bytes
            if so_far != passed:
                longest, changed, passed = max(longest, now - changed), now, so_far
            return now - began >= 3 * LEAST_IDLE_SECONDS

        eventually(watched_for_long, within_seconds=60)
        assert max(longest, time.monotonic() - changed) < LEAST_IDLE_SECONDS
        assert run.gaps() == run.suspected() == []


def heard_every_50_ms() -> PolicingRelay:
    return PolicingRelay(Policing(data_every_seconds=0.05, event=b"event"))


def replaced(run: Running, connection_id: str) -> None:
    eventually(lambda: run.status.connection_id not in {"", connection_id}, within_seconds=10, why="another connection")


def test_a_connection_at_its_maximum_age_is_replaced_before_it_ends_and_nothing_is_missed() -> None:
    with heard_every_50_ms() as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        before = run.until_watching().connection_id
        run.events(10)
        relay.go_away(grace_seconds=5)
        replaced(run, before)
        eventually(lambda: run.of(ConnectionEnded))
        (ended,) = run.of(ConnectionEnded)
        assert (ended.planned, ended.detail) == (True, "the server said GOAWAY")
        eventually(lambda: len(relay.seen("closed")) >= 1, why="the old one's sockets are released")
        assert run.states() == ["connecting", "watching"]
        assert run.gaps() == run.suspected() == []
        assert run.of(CertificatesRefused) == []


def test_answers_on_another_connection_than_the_streams_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector.Renewal, "allowed", lambda *_: False)  # as if one had been made just now
    with PolicingRelay() as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        run.until_watching()
        relay.go_away(grace_seconds=3)
        said = time.time_ns()
        answered = len(run.of(HeartbeatAnswered))
        eventually(lambda: len(run.of(HeartbeatAnswered)) >= answered + 3)
        for gap in run.until_gaps(3):
            assert gap.started_unix_nano <= said


@pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR, ErrorCodes.ENHANCE_YOUR_CALM])
def test_a_goaway_that_ends_the_connection_is_a_disconnect_and_one_attempt(code: ErrorCodes) -> None:
    with heard_every_50_ms() as relay, running(settings_for(relay.endpoint, heartbeat=QUICK, retry=LADDER)) as run:
        before = run.until_watching().connection_id
        eventually(lambda: run.status.blind_since_unix_nano is None, why="the first gap is over")
        relay.go_away(code)
        run.until_watching_anew(before)
        gaps = run.until_gaps(3)
        assert {(gap.cause, gap.attempts) for gap in gaps} == {(GapCause.DISCONNECT, 1)}
        assert run.suspected() == []
        assert run.status.attempts == 2


class Names:
    """A DNS that says what it is told to say, or hangs."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: tuple[str, ...] = addresses
        self.hangs = threading.Event()
        self.over = threading.Event()

    def __call__(self, _host: str, _port: int) -> tuple[str, ...]:
        if self.hangs.is_set():
            self.over.wait(30)
        if not self.addresses:
            raise OSError("no such name")
        return self.addresses


@pytest.mark.parametrize("trouble", ["empty", "hanging", "changed"])
def test_a_name_in_trouble_disturbs_no_connection_and_is_asked_for_again(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "LONGEST_RESOLVE_SECONDS", 0.3)
    names = Names("127.0.0.1")
    with Relay() as relay, TcpProxy(relay.endpoint) as proxy:
        settings = settings_for(proxy.endpoint.replace("127.0.0.1", "localhost"), heartbeat=QUICK)
        with running(settings, resolve=names) as run:
            before = run.until_watching().connection_id
            if trouble == "hanging":
                names.hangs.set()
            else:
                names.addresses = ("127.0.0.9",) if trouble == "changed" else ()
            answered = len(run.of(HeartbeatAnswered))
            eventually(lambda: len(run.of(HeartbeatAnswered)) >= answered + 2, why="the connection goes on")
            assert run.status.connection_id == before
            proxy.cut()
            if trouble != "changed":  # gRPC asks by itself; what we asked is for the word
                eventually(lambda: "resolve" in run.status.last_error or "localhost" in run.status.last_error)
                failed = [told for told in run.of(ConnectionAttempted) if told.error]
                assert failed[0].steps[0].name == "resolve"
            names.addresses = ("127.0.0.1",)
            names.hangs.clear()
            names.over.set()
            run.until_watching_anew(before)
            relay.publish(Stream.ALERTS, b"here")
            run.events(1)
            assert {gap.cause for gap in run.until_gaps(3)} == {GapCause.DISCONNECT}
