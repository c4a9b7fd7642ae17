from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.feed.read_pause import (
    BACKLOG_BYTES,
    GULP_BYTES,
    PROMPT_EVENTS_PER_SECOND,
    ConnectionPause,
    ReadPause,
    connected_to,
    inodes_connected_to,
    pause_beside,
)
from otelbridge.net.address import Address

SECOND = 1_000_000_000
PAUSE_SECONDS = 0.025
BEGAN = 1_700_000_000 * SECOND


def pauses_at(rate: int, *, seconds: int = 3, flooded: bool = False) -> list[float]:
    """What a reader is told that has read everything after each of evenly spaced events; of the last second."""
    pause = ReadPause(PAUSE_SECONDS)
    said = [pause.seconds(BEGAN + n * SECOND // rate, n + 1, flooded=flooded) for n in range(rate * seconds)]
    return said[-rate:]


@pytest.mark.parametrize("rate", [50, 100, 500, 2_000])
def test_a_reader_pauses_at_the_rates_of_a_node(rate: int) -> None:
    assert set(pauses_at(rate)) == {PAUSE_SECONDS}


@pytest.mark.parametrize("rate", [1, 20, 10_000, 30_000])
def test_it_reads_on_where_a_pause_gathers_nothing_or_every_moment_counts(rate: int) -> None:
    assert set(pauses_at(rate)) == {0.0}


@pytest.mark.parametrize(("rate", "pause"), [(20, 0.0), (2_000, PAUSE_SECONDS), (10_000, PAUSE_SECONDS), (30_000, 0.0)])
def test_in_a_flood_that_is_only_counted_it_pauses_at_higher_rates_too(rate: int, pause: float) -> None:
    assert set(pauses_at(rate, flooded=True)) == {pause}


@pytest.mark.parametrize(
    ("linger", "longest", "pause"), [(0.2, 0.05, 0.05), (0, 0.05, 0.025), (60, 0.1, 0.1), (0, 0, 0)]
)
def test_who_does_not_linger_waits_no_longer_in_the_socket(linger: float, longest: float, pause: float) -> None:
    assert pause_beside(linger, longest) == pause


def test_a_burst_ends_the_pauses_before_it_is_a_second_old() -> None:
    pause = ReadPause(PAUSE_SECONDS)
    for n in range(300):
        pause.seconds(BEGAN + n * SECOND // 100, n + 1)
    now = BEGAN + 3 * SECOND
    assert pause.seconds(now, 400) == PAUSE_SECONDS
    assert pause.seconds(now + SECOND // 10, 10_000) == 0.0


def test_a_clock_that_is_set_back_or_forward_does_no_harm() -> None:
    pause = ReadPause(PAUSE_SECONDS)
    for now in (BEGAN, BEGAN - 3600 * SECOND, BEGAN + 3600 * SECOND, BEGAN):
        assert pause.seconds(now, 10) in {0.0, PAUSE_SECONDS}


LOOPBACK = "127.0.0.1"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection's two ends: the upstream's, and ours as gRPC makes it, for both versions of IP."""
    with (
        socket.create_server((LOOPBACK, 0)) as listening,
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as ours,
    ):
        ours.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        ours.connect((f"::ffff:{LOOPBACK}", listening.getsockname()[1]))
        upstream, _ = listening.accept()
        with upstream:
            yield upstream, ours


def peer_of(ours: socket.socket, *, host: str = LOOPBACK) -> Address:
    return Address(host=host, port=ours.getpeername()[1])


def wakes(ours: socket.socket, *, within_ms: int) -> bool:
    """Whether the kernel wakes who waits for something to read."""
    waiting = select.poll()
    waiting.register(ours, select.POLLIN)
    return bool(waiting.poll(within_ms))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux says which sockets are open")
class TestConnectionPause:
    def test_an_event_waits_in_the_socket_until_the_pause_ends(self, ends: tuple[socket.socket, socket.socket]) -> None:
        upstream, ours = ends
        pause = ConnectionPause(peer_of(ours))
        pause.begin("logs", 100, PAUSE_SECONDS)
        upstream.sendall(b"an event")
        assert not wakes(ours, within_ms=50)
        pause.end()
        assert wakes(ours, within_ms=5_000)
        pause.close()

    def test_a_burst_does_not_wait(self, ends: tuple[socket.socket, socket.socket]) -> None:
        upstream, ours = ends
        pause = ConnectionPause(peer_of(ours))
        pause.begin("logs", 100, PAUSE_SECONDS)
        upstream.sendall(bytes(GULP_BYTES))
        assert wakes(ours, within_ms=5_000)
        pause.close()

    def test_the_end_of_the_connection_does_not_wait(self, ends: tuple[socket.socket, socket.socket]) -> None:
        upstream, ours = ends
        pause = ConnectionPause(peer_of(ours))
        pause.begin("logs", 100, PAUSE_SECONDS)
        upstream.shutdown(socket.SHUT_WR)
        assert wakes(ours, within_ms=5_000)
        pause.close()

    def test_the_reader_with_the_most_events_pauses(self, ends: tuple[socket.socket, socket.socket]) -> None:
        _, ours = ends
        pause = ConnectionPause(peer_of(ours))
        assert pause.begin("alerts", 50, PAUSE_SECONDS), "nobody else is known to read"
        assert pause.begin("logs", 100, PAUSE_SECONDS)
        assert not pause.begin("alerts", 50, PAUSE_SECONDS)
        assert pause.begin("logs", 100, PAUSE_SECONDS)
        pause.close()

    def test_nothing_stays_open_and_nothing_is_found_again(self, ends: tuple[socket.socket, socket.socket]) -> None:
        _, ours = ends
        before = open_files()
        pause = ConnectionPause(peer_of(ours))
        pause.begin("logs", 100, PAUSE_SECONDS)
        assert open_files() == before + 1
        pause.close()
        pause.begin("logs", 100, PAUSE_SECONDS)
        assert open_files() == before

    def test_the_socket_stays_one_that_does_not_block(self, ends: tuple[socket.socket, socket.socket]) -> None:
        _, ours = ends
        os.set_blocking(ours.fileno(), False)
        pause = ConnectionPause(peer_of(ours))
        pause.begin("logs", 100, PAUSE_SECONDS)
        assert not os.get_blocking(ours.fileno()), "gRPC's thread would wait in a read for ever"
        pause.close()

    def test_who_finds_data_in_the_socket_reads_on(self, ends: tuple[socket.socket, socket.socket]) -> None:
        upstream, ours = ends
        pause = ConnectionPause(peer_of(ours))
        upstream.sendall(bytes(BACKLOG_BYTES))
        assert wakes(ours, within_ms=5_000)
        assert not pause.begin("logs", 100, PAUSE_SECONDS)
        ours.recv(BACKLOG_BYTES)
        assert pause.begin("logs", 100, PAUSE_SECONDS)
        pause.close()

    def test_others_learn_how_long_a_pause_goes_on(self, ends: tuple[socket.socket, socket.socket]) -> None:
        pause = ConnectionPause(peer_of(ends[1]))
        assert not pause.left_seconds(10)
        pause.begin("logs", 100, 30)
        assert 0 < pause.left_seconds(10) <= 30
        assert not pause.left_seconds(PROMPT_EVENTS_PER_SECOND), "a turn for each of so many would cost too much"
        pause.end()
        assert not pause.left_seconds(10)
        pause.close()

    def test_a_connection_that_grpc_has_closed_is_let_be(self, ends: tuple[socket.socket, socket.socket]) -> None:
        _, ours = ends
        pause = ConnectionPause(peer_of(ours))
        pause.begin("logs", 100, PAUSE_SECONDS)
        ours.shutdown(socket.SHUT_RDWR)
        ours.close()
        pause.end()
        pause.close()


@pytest.mark.parametrize(
    ("host", "number"),
    [(LOOPBACK, 1), ("::ffff:7f00:1", 1), ("relay.example", 1), ("192.0.2.1", 0), ("2001:db8::1", 0)],
)
def test_sockets_are_found_by_the_port_and_the_address_of_their_peer(
    ends: tuple[socket.socket, socket.socket], host: str, number: int
) -> None:
    found = connected_to(peer_of(ends[1], host=host))
    assert len(found) == number
    assert connected_to(Address(host=host, port=1)) == []
    for one in found:
        one.close()


def test_sockets_of_a_connection_that_is_replaced_are_not_taken_for_those_of_the_new_one(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    _, old = ends
    with socket.create_server((LOOPBACK, 0)) as listening, socket.create_connection(listening.getsockname()) as first:
        others = inodes_connected_to(peer_of(first))
        with socket.create_connection(listening.getsockname()) as second:
            pause = ConnectionPause(peer_of(first), others=others)
            assert [one.getsockname() for one in pause.sockets()] == [second.getsockname()]
            pause.close()
    assert inodes_connected_to(peer_of(old)) == {os.fstat(old.fileno()).st_ino}
