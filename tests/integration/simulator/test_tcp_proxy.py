"""The TCP proxy and its faults over real sockets."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from otelbridge.simulator.tcp_proxy import Conditions, Direction, Flow, TcpProxy
from tests.waiting import eventually

SHORT_SECONDS = 0.2
LONG_SECONDS = 10


class Echo:
    """A server that sends everything back, and closes when its client has finished."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._echo, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except OSError:
                return


@pytest.fixture
def server() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(server: Echo) -> Iterator[TcpProxy]:
    with TcpProxy(server.endpoint) as proxy:
        yield proxy


def connect(proxy: TcpProxy) -> socket.socket:
    host, _, port = proxy.endpoint.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=LONG_SECONDS)


def read_exactly(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = client.recv(length - len(data))
        assert part, "the connection ended early"
        data += part
    return data


def is_silent(client: socket.socket) -> bool:
    client.settimeout(SHORT_SECONDS)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(LONG_SECONDS)
    return False


def send_all_and_finish(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)


def exchange(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return read_exactly(client, len(data))


def test_bytes_pass_unchanged_in_both_directions_and_so_does_the_end(proxy: TcpProxy) -> None:
    data = os.urandom(3_000_000)
    with connect(proxy) as client:
        sender = threading.Thread(target=send_all_and_finish, args=(client, data))
        sender.start()

        assert read_exactly(client, len(data)) == data
        assert client.recv(1) == b""
        sender.join()
    counts = eventually(lambda: (now := proxy.counts()).open == 0 and now)
    assert counts
    assert counts.passed_bytes == dict.fromkeys(Direction, len(data))


def test_a_held_line_goes_on_without_a_loss(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        exchange(client, b"before")
        proxy.hold()
        client.sendall(b"during")
        assert is_silent(client)
        assert proxy.counts().held_up

        proxy.open()

        assert read_exactly(client, 6) == b"during"


def test_a_connection_made_while_the_line_holds_gets_no_answer_until_it_opens(proxy: TcpProxy) -> None:
    proxy.hold()
    with connect(proxy) as client:
        client.sendall(b"x")
        assert is_silent(client)

        proxy.open()

        assert read_exactly(client, 1) == b"x"


def test_a_black_hole_swallows_silently(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        exchange(client, b"before")
        proxy.swallow()
        client.sendall(bytes(1_000_000))
        assert is_silent(client)
        eventually(lambda: proxy.counts().swallowed_bytes[Direction.TO_SERVER] == 1_000_000)

        proxy.open()

        assert exchange(client, b"after") == b"after"


def test_one_direction_can_fail_alone(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        exchange(client, b"before")
        proxy.shape(Conditions(flow=Flow.HOLD), directions=[Direction.TO_CLIENT])
        passed = proxy.counts().passed_bytes[Direction.TO_SERVER]

        client.sendall(b"heard")

        eventually(lambda: proxy.counts().passed_bytes[Direction.TO_SERVER] == passed + 5)
        assert is_silent(client)


def test_a_cut_resets_both_sides(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        exchange(client, b"before")

        assert proxy.cut() == 1

        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert proxy.counts().open == 0


def test_new_connections_are_refused_while_old_ones_live(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        exchange(client, b"before")

        proxy.refuse()

        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert exchange(client, b"still") == b"still"
    proxy.accept()
    with connect(proxy) as client:
        assert exchange(client, b"again") == b"again"


def test_a_slow_line_is_slow(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        proxy.shape(Conditions(bytes_per_second=10_000), directions=[Direction.TO_CLIENT])
        started = time.monotonic()

        exchange(client, bytes(5_000))

        assert time.monotonic() - started >= 0.4


def test_a_long_line_is_late(proxy: TcpProxy) -> None:
    proxy.shape(Conditions(latency_seconds=0.1))
    with connect(proxy) as client:
        started = time.monotonic()

        exchange(client, b"x")

        assert time.monotonic() - started >= 0.2


def test_half_a_connection_can_end(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        exchange(client, b"before")

        proxy.half_close(Direction.TO_CLIENT)

        assert client.recv(1) == b""
        sent = proxy.counts().passed_bytes[Direction.TO_SERVER]
        client.sendall(b"heard")
        eventually(lambda: proxy.counts().passed_bytes[Direction.TO_SERVER] == sent + 5)


def test_a_dead_target_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = f"127.0.0.1:{gone.getsockname()[1]}"

    with TcpProxy(nobody) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)


def test_a_reset_of_the_client_reaches_the_server(proxy: TcpProxy) -> None:
    client = connect(proxy)
    exchange(client, b"before")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()

    eventually(lambda: proxy.counts().open == 0)


def test_it_comes_back_on_its_port(proxy: TcpProxy) -> None:
    before = proxy.endpoint
    proxy.stop()

    proxy.start()

    assert proxy.endpoint == before
    with connect(proxy) as client:
        assert exchange(client, b"x") == b"x"


def test_many_connections_at_once(proxy: TcpProxy) -> None:
    clients = [connect(proxy) for _ in range(50)]
    for number, client in enumerate(clients):
        client.sendall(bytes([number]) * 1_000)
    for number, client in enumerate(clients):
        assert read_exactly(client, 1_000) == bytes([number]) * 1_000
        client.close()


def test_orders_to_a_stopped_proxy_are_an_error(server: Echo) -> None:
    with pytest.raises(RuntimeError, match="not running"):
        TcpProxy(server.endpoint).cut()
