from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import GeneratorType
from typing import Any

import grpc
import pytest
from grpc.experimental import ChannelOptions

from otelbridge.feed.connection import messages
from tests.waiting import eventually

METHOD = "/feeder.LogService/WatchAlerts"
SINGLE_THREADED = [(ChannelOptions.SingleThreadedUnaryStream, 1)]
SOME = [b"one", b"", b"x" * 100_000, b"\0\xff"]


class Served:
    """A genuine grpc server with one method, and what a test has it do."""

    def __init__(self) -> None:
        self.answer: Callable[[grpc.ServicerContext], Iterator[bytes]] = lambda _: iter(SOME)
        self.go_on = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        del details
        return grpc.unary_stream_rpc_method_handler(lambda _, context: self.answer(context))


@pytest.fixture
def served() -> Served:
    return Served()


@contextmanager
def calling(served: Served) -> Iterator[tuple[grpc.Channel, Any]]:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((served,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", SINGLE_THREADED) as channel:
                call = channel.unary_stream(METHOD)(b"", timeout=30)
                yield channel, call
                call.initial_metadata()
        finally:
            served.go_on.set()
            server.stop(None).wait()


def read(call: Any, way: str) -> tuple[list[bytes], grpc.StatusCode, str]:
    """All that comes, and how it ended."""
    found: list[bytes] = []
    try:
        found.extend(messages(call) if way == "lean" else call)
    except grpc.RpcError as error:
        return found, error.code(), error.details() or ""
    return found, call.code(), call.details() or ""


@pytest.mark.parametrize("way", ["lean", "usual"])
def test_a_stream_that_ends_well_is_read_to_its_end(served: Served, way: str) -> None:
    with calling(served) as (_, call):
        assert read(call, way) == (SOME, grpc.StatusCode.OK, "")


@pytest.mark.parametrize("way", ["lean", "usual"])
def test_a_stream_without_messages_ends_as_it_ended(served: Served, way: str) -> None:
    served.answer = lambda _: iter(())
    with calling(served) as (_, call):
        assert read(call, way) == ([], grpc.StatusCode.OK, "")


@pytest.mark.parametrize("way", ["lean", "usual"])
def test_an_error_comes_after_the_messages_before_it(served: Served, way: str) -> None:
    def fail(context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from SOME
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")

    served.answer = fail
    with calling(served) as (_, call):
        assert read(call, way) == (SOME, grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


@pytest.mark.parametrize("way", ["lean", "usual"])
@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_read_that_is_blocked_ends_when_another_thread_wants_it_to(served: Served, end: str, way: str) -> None:
    def wait(_: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        served.go_on.wait(30)

    served.answer = wait
    with calling(served) as (channel, call):
        came: list[bytes] = []
        ended: list[grpc.StatusCode] = []

        def run() -> None:
            try:
                came.extend(messages(call) if way == "lean" else call)
            except grpc.RpcError as error:
                ended.append(error.code())

        thread = threading.Thread(target=run)
        thread.start()
        eventually(lambda: came == [b"first"], why="the first message is there")
        call.cancel() if end == "cancel" else channel.close()
        thread.join(10)
        assert (thread.is_alive(), ended) == (False, [grpc.StatusCode.CANCELLED])


def test_a_call_that_was_cancelled_before_it_is_read_says_so(served: Served) -> None:
    with calling(served) as (_, call):
        call.cancel()
        assert read(call, "lean")[:2] == ([], grpc.StatusCode.CANCELLED)


def test_many_messages_come_whole_and_in_order(served: Served) -> None:
    sent = [str(number).encode() * (number % 50) for number in range(5_000)]
    served.answer = lambda _: iter(sent)
    with calling(served) as (_, call):
        assert read(call, "lean") == (sent, grpc.StatusCode.OK, "")


def test_the_grpcio_that_is_locked_is_one_that_this_was_tested_with(served: Served) -> None:
    with calling(served) as (_, call):
        assert isinstance(messages(call), GeneratorType)
        assert list(call) == SOME


@pytest.mark.parametrize("version", ["1.84.3", "2.0.0"])
def test_another_grpcio_is_read_as_usual(served: Served, version: str) -> None:
    with calling(served) as (_, call):
        assert messages(call, version=version) is call
        assert list(messages(call, version=version)) == SOME
