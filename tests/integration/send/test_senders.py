"""Both protocols against a real endpoint: what goes out, what comes back, and what breaks in between."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from otelbridge.queue.model import Accepted, Hold, Outcome, Refused, RetryLater, TooLarge
from otelbridge.send.sender import Sender, open_sender
from otelbridge.send.settings import SendSettings, SendSettingsError
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import Answer, Hang, Http, Partial, RefuseTooLarge, Reset, Status, in_turn
from tests.records import bodies_of, request_of
from tests.waiting import eventually

PROTOCOLS = ["grpc", "http/protobuf"]


def address(endpoint: OtlpEndpoint, protocol: str) -> str:
    return endpoint.grpc_endpoint if protocol == "grpc" else f"{endpoint.http_endpoint}/v1/logs"


@contextmanager
def sender_to(to: OtlpEndpoint, protocol: str, **settings: object) -> Iterator[Sender]:
    chosen = {"protocol": protocol, "endpoint": address(to, protocol), "timeout_seconds": 5} | settings
    sender = open_sender(section_from(SendSettings, chosen), version="1.2.3")
    try:
        yield sender
    finally:
        sender.close()


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_arrives_as_it_was_with_headers_and_user_agent(
    endpoint: OtlpEndpoint, protocol: str, compression: str
) -> None:
    with sender_to(endpoint, protocol, compression=compression, headers={"X-Scope-OrgID": "tenant"}) as sender:
        assert sender.send(request_of("a", "b"), records=2) == Accepted()
        assert sender.endpoint == address(endpoint, protocol)
    (request,) = endpoint.inbox.requests("logs")
    assert request.body == request_of("a", "b")
    assert request.metadata["x-scope-orgid"] == "tenant"
    assert "otelbridge/1.2.3" in request.metadata["user-agent"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Partial(rejected=1, message="one was bad"), Accepted),
        (Status(code=grpc.StatusCode.UNAVAILABLE, retry_delay_seconds=7), RetryLater),
        (Status(code=grpc.StatusCode.UNAUTHENTICATED), Hold),
        (Status(code=grpc.StatusCode.PERMISSION_DENIED), Hold),
        (Status(code=grpc.StatusCode.INVALID_ARGUMENT), Refused),
        (Http(status=429, headers={"Retry-After": "7"}), RetryLater),
        (RefuseTooLarge(limit_bytes=1), TooLarge),
        (Reset(), RetryLater),
    ],
)
def test_an_answer_over_the_wire_becomes_its_outcome(
    endpoint: OtlpEndpoint, protocol: str, answer: Answer, kind: type[Outcome]
) -> None:
    endpoint.answers = in_turn([answer])
    with sender_to(endpoint, protocol) as sender:
        outcome = sender.send(request_of("a"), records=1)
        assert isinstance(outcome, kind)
        if isinstance(outcome, RetryLater) and isinstance(answer, Status):
            assert outcome.after_seconds == 7
        if isinstance(outcome, Accepted):
            assert outcome == Accepted(rejected=1, message="one was bad")
        assert sender.send(request_of("b"), records=1) == Accepted()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_answer_ends_at_the_deadline(endpoint: OtlpEndpoint, protocol: str) -> None:
    endpoint.answers = lambda _: Hang(seconds=30)
    with sender_to(endpoint, protocol, timeout_seconds=0.3) as sender:
        began = time.monotonic()
        outcome = sender.send(request_of("a"), records=1)
        assert isinstance(outcome, RetryLater)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_frozen_endpoint_is_found_again_when_it_wakes(endpoint: OtlpEndpoint, protocol: str) -> None:
    with sender_to(endpoint, protocol, timeout_seconds=0.2) as sender:
        sender.send(request_of("a"), records=1)
        endpoint.pause()
        assert all(isinstance(sender.send(request_of("b"), records=1), RetryLater) for _ in range(4))
        endpoint.resume()
        eventually(lambda: isinstance(sender.send(request_of("c"), records=1), Accepted))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_listening_is_weather(endpoint: OtlpEndpoint, protocol: str) -> None:
    endpoint.stop()
    with sender_to(endpoint, protocol) as sender:
        assert isinstance(sender.send(request_of("a"), records=1), RetryLater)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_closing_breaks_a_call_under_way(endpoint: OtlpEndpoint, protocol: str) -> None:
    endpoint.answers = lambda _: Hang(seconds=30)
    outcomes: list[Outcome] = []
    with sender_to(endpoint, protocol, timeout_seconds=30) as sender:
        thread = threading.Thread(target=lambda: outcomes.append(sender.send(request_of("a"), records=1)))
        thread.start()
        eventually(lambda: endpoint.seen == 1)
    thread.join(3)
    assert isinstance(outcomes[0], RetryLater)
    assert outcomes[0].code == "CANCELLED"
    assert isinstance(sender.send(request_of("b"), records=1), RetryLater)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_token_is_read_again_on_401_and_the_request_sent_again_at_once(
    endpoint: OtlpEndpoint, protocol: str, secret_file: Callable[[str], Path]
) -> None:
    path = secret_file("first-token\n")
    endpoint.token = "first-token"
    with sender_to(endpoint, protocol, token_file=path) as sender:
        assert sender.send(request_of("a"), records=1) == Accepted()
        secret_file("second-token\n")
        endpoint.token = "second-token"
        assert sender.send(request_of("b"), records=1) == Accepted()
    assert bodies_of(endpoint.log_records()) == ["a", "b"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_token_file_that_vanished_is_named_and_the_old_token_goes_on(
    endpoint: OtlpEndpoint, protocol: str, secret_file: Callable[[str], Path]
) -> None:
    path = secret_file("first-token")
    endpoint.token = "other-token"
    with sender_to(endpoint, protocol, token_file=path) as sender:
        path.unlink()
        outcome = sender.send(request_of("a"), records=1)
        assert isinstance(outcome, Hold)
        assert f"cannot read {path}" in outcome.why
        endpoint.token = "first-token"
        assert sender.send(request_of("b"), records=1) == Accepted()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_secret_that_the_endpoint_echoes_is_hidden(endpoint: OtlpEndpoint, protocol: str) -> None:
    endpoint.answers = lambda _: Status(code=grpc.StatusCode.UNAVAILABLE, details="you said Bearer sesame-street")
    with sender_to(endpoint, protocol, headers={"authorization": "Bearer sesame-street"}) as sender:
        assert "sesame" not in repr(sender.send(request_of("a"), records=1))
        assert "sesame" not in repr(sender)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_credentials_do_not_go_unencrypted_to_another_machine(protocol: str) -> None:
    url = "http://collector.example:4318" + ("" if protocol == "grpc" else "/v1/logs")
    settings: dict[str, object] = {"protocol": protocol, "endpoint": url, "headers": {"api-key": "hush-hush"}}
    with pytest.raises(SendSettingsError, match="allow_plaintext_credentials") as error:
        open_sender(section_from(SendSettings, settings), version="1")
    assert "hush" not in str(error.value)
    open_sender(section_from(SendSettings, settings | {"allow_plaintext_credentials": True}), version="1").close()


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that hands each connection to `answer` after the request's headers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if stop.is_set():
                        return
                    connection.recv(65536)
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/logs"
        finally:
            stop.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join()


def http_sender(url: str, **settings: object) -> Sender:
    return open_sender(
        section_from(SendSettings, {"protocol": "http/protobuf", "endpoint": url} | settings), version="1"
    )


def test_an_answer_that_drips_is_cut_off_at_the_deadline() -> None:
    def drip(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"H")
            time.sleep(0.05)

    with raw_server(drip) as url:
        sender = http_sender(url, timeout_seconds=0.5)
        began = time.monotonic()
        outcome = sender.send(request_of("a"), records=1)
        sender.close()
    assert isinstance(outcome, RetryLater)
    assert outcome.code == "timeout"
    assert time.monotonic() - began < 3


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with raw_server(flood) as url:
        sender = http_sender(url)
        outcome = sender.send(request_of("a"), records=1)
        sender.close()
    assert isinstance(outcome, Hold)  # whatever it says, it is no answer of OTLP's


def test_a_redirect_is_not_followed(endpoint: OtlpEndpoint) -> None:
    endpoint.answers = lambda _: Http(status=307, headers={"Location": "http://elsewhere.example/?key=secret"})
    with sender_to(endpoint, "http/protobuf") as sender:
        outcome = sender.send(request_of("a"), records=1)
    assert isinstance(outcome, Hold)
    assert outcome.why == "redirects to http://elsewhere.example/"
    assert endpoint.seen == 1


def test_http_connections_are_kept_and_one_that_the_server_closed_is_replaced(endpoint: OtlpEndpoint) -> None:
    with sender_to(endpoint, "http/protobuf") as sender:
        for name in "abc":
            assert sender.send(request_of(name), records=1) == Accepted()
        endpoint.stop()
        endpoint.start()
        assert sender.send(request_of("d"), records=1) == Accepted()
    assert len(endpoint.log_records()) == 4


def test_http_bodies_are_really_compressed(endpoint: OtlpEndpoint) -> None:
    body = request_of(*[f"r{n}" for n in range(1000)])
    with sender_to(endpoint, "http/protobuf") as sender:
        sender.send(body, records=1000)
    (request,) = endpoint.inbox.requests("logs")
    assert int(request.metadata["content-length"]) < len(body) / 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"endpoint": "ftp://x"}, "http"),
        ({"endpoint": "http://x:port"}, "Port could not be cast"),
        ({"endpoint": "http://x:4317/v1/logs"}, "gRPC knows none"),
        ({"endpoint": "http://u:secret@x"}, "user or password"),
        ({"endpoint": "http://"}, "has no host"),
        ({"protocol": "http/protobuf", "endpoint": "x:4318"}, "Write http://"),
        ({"endpoint": "https://x:4317", "ca_file": "/no/such.pem"}, r"send\.ca_file \(/no/such\.pem\): cannot be read"),
        ({"endpoint": "https://x:4317", "cert_file": "/no/such.pem"}, "belong together"),
        ({"token_file": "/no/such"}, "send.token_file is '/no/such'"),
        ({"headers_file": "/no/such"}, "send.headers_file is '/no/such'"),
        ({"headers": {"grpc-timeout": "1"}}, "protocol sets itself"),
        ({"headers": {"a b": "1"}}, "'a b'"),
        ({"headers": {"a": "line\nbreak"}}, "'a'"),
    ],
)
def test_a_setting_that_cannot_work_is_named_at_the_start(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match="send") as error:
        open_sender(section_from(SendSettings, settings), version="1")
    assert re.search(said, str(error.value))
    assert "secret" not in str(error.value)


def test_a_name_that_is_not_resolved_in_time_is_weather(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        answered.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    settings = {"protocol": "http/protobuf", "endpoint": "http://slow.invalid/v1/logs", "timeout_seconds": 0.3}
    sender = open_sender(section_from(SendSettings, settings), version="1")
    began = time.monotonic()
    outcome = sender.send(request_of("a"), records=1)
    answered.set()
    assert outcome == RetryLater(code="timeout", why="the name slow.invalid was not resolved in time")
    assert time.monotonic() - began < 5
    sender.close()


def test_an_address_that_takes_no_connection_leaves_the_next_one_its_turn(
    endpoint: OtlpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, port = socket.getaddrinfo, int(endpoint.http_endpoint.rpartition(":")[2])

    def look_up(host: str, *more: Any, **named: Any) -> list[Any]:
        behind = ("127.0.0.9", "127.0.0.1") if host == "two.test" else (host,)
        return [entry for address in behind for entry in real(address, *more, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    settings = {"protocol": "http/protobuf", "endpoint": f"http://two.test:{port}/v1/logs"}
    sender = open_sender(section_from(SendSettings, settings), version="1")
    assert sender.send(request_of("a"), records=1) == Accepted()
    sender.close()
