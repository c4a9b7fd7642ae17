"""The status server: waitress behind a loop of our own, which keeps slow and hostile clients from delaying a probe.

waitress parses and answers; what it leaves open is how long a client may take to send its request, and what happens
when all connections or threads are taken. The kernel gives us connections that have sent something, and what it cannot
keep: our loop waits for their first byte before waitress gets them. It answers the probes itself, so that they wait for
no other thread. It closes, after every turn, what took too long, and at the limit the oldest connections that wait for
their clients; and a connection is closed with its first answer, so that nobody can ask for a thousand at once
(docs/decisions/status-server.md).
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask

from otelbridge.status.app import METHODS, TEXT, WRONG_METHOD, Answer, Events, Probe, Section, StatusApp, headers_of
from otelbridge.status.settings import StatusSettings
from otelbridge.telemetry.events import Tell
from otelbridge.telemetry.supervisor import SupervisedThread

MAX_CONNECTIONS = 32
"""Beyond it the oldest connections that wait for their clients are closed, but not before each had its chance."""
CHANCE_SECONDS = 0.2
CROWD = 512
"""Beyond it the oldest are closed even so: file descriptors are finite, often 1,024. At ten thousand connects a second
a client has 50 ms to send its request."""
SHARE_OF_CROWD = 64
"""An address that has more of the crowd loses its own oldest to its newcomers, not somebody else's."""
TAKEN_PER_TURN = 128
"""Connections, before those that were taken are heard: some 5 ms."""
MAX_HEADER_BYTES = 8 * 1024
MAX_BODY_BYTES = 1
"""waitress wants a positive number; no request here has a body."""
MAX_BODY_READ_BYTES = 256
"""Of a request that has one all the same, before it is refused."""
TOO_LARGE = 413
THREADS = 4
CLIENT_SECONDS = 5.0
"""A client may take so long to send its request or to fetch its answer, and keep an idle connection for so long."""
TURN_SECONDS = 0.5
"""Longest turn of the loop while somebody is connected; a request or an answer ends it at once."""
REST_SECONDS = 5.0
"""While nobody is; a connection ends it at once."""
BACKLOG = 4096
"""Of connections that were not taken yet; where it is full, the kernel lets a client try again a second later."""
DEFER_SECONDS = 5
"""For so long the kernel keeps a connection that has sent nothing, at no cost of ours; up to BACKLOG of them."""
LARGEST_ANSWER_BYTES = 2**31 - 1
"""Kept in memory: beyond its own bound waitress writes answers to files, for which a container may have no place."""
PROBES = ("livez", "readyz", "startupz")
PROBE_PATHS = frozenset(f"/{name}" for name in PROBES)
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What is answered before the application hears of a request: with the headers that every answer has.

    waitress finds a body too large whatever the method is; but where a method has one, the cure is another method.
    """

    answer: Answer

    @classmethod
    def of(cls, request: Any) -> _Refusal:
        error = request.error
        if error.code == TOO_LARGE and request.command not in METHODS:
            return cls(WRONG_METHOD)
        return cls((f"{error.code} {error.reason}", TEXT, f"{error.reason}: {error.body}.\n".encode()))

    def to_response(self, _ident: str) -> tuple[str, list[tuple[str, str]], bytes]:
        """Called by waitress."""
        status, _, body = self.answer
        return status, headers_of(self.answer), body


def _refuse(channel: HTTPChannel, request: Any) -> Any:
    request.error = _Refusal.of(request)
    return ErrorTask(channel, request)


def _answer_once(channel: HTTPChannel, request: Any) -> Any:
    request.headers["CONNECTION"] = "close"
    if request.proxy_netloc:  # a whole URL was asked for: its host counts (RFC 9112, 3.2.2)
        request.headers["HOST"] = request.proxy_netloc
    return WSGITask(channel, request)


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """waitress answers 400 to what it cannot parse, but for a URL that Python cannot."""

    def parse_header(self, header_plus: bytes) -> None:
        """Called by waitress."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:
            raise ParsingError(str(error)) from error


class _SingleRequestChannel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection that is asked once: what is sent behind the first request is not even parsed."""

    parser_class = _Parser
    error_task_class = staticmethod(_refuse)
    task_class = staticmethod(_answer_once)

    def received(self, data: bytes) -> bool:
        """Called by waitress."""
        if self.requests:
            return False
        head, end, rest = data.partition(b"\r\n\r\n")
        taken: bool = super().received(head + end)
        if rest and not self.requests:
            taken = super().received(rest[:MAX_BODY_READ_BYTES])
        if self.requests and _asks_for_a_probe(self.requests[0]):
            self.service()
            self.handle_write()
        return taken


class _Silent:
    """A connection that has sent nothing yet. Most of a crowd never do, and no probe waits behind them."""

    __slots__ = ("_address", "_owner", "over", "since", "socket")
    accepting = False

    def __init__(self, owner: StatusServer, connection: socket.socket, address: Any, since: float) -> None:
        self._owner, self.socket, self._address, self.since = owner, connection, address, since
        self.over = False
        """It is a channel by now, or closed."""

    @property
    def source(self) -> str:
        """The client's address, without its port."""
        return str(self._address[0])

    def readable(self) -> bool:
        """Called by waitress, as all below."""
        return True

    def writable(self) -> bool:
        """Nothing is to be sent."""
        return False

    def handle_read_event(self) -> None:
        """Hands it to waitress if it has sent something; closes it if it has gone."""
        try:
            has_sent = self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            has_sent = b""
        if not has_sent:
            self.handle_close()
        elif not self.over:
            try:
                channel = self._owner.make_channel(self.socket, self._address, self.since)
            except BaseException:  # no memory is left
                self.handle_close()
                raise
            self.over = True
            try:
                channel.handle_read_event()
            except Exception:  # noqa: BLE001  # over one request: waitress logs it, and closes the connection
                channel.handle_error()

    def handle_error(self) -> None:
        """The supervisor of the loop gets it."""
        _raise()

    def handle_expt_event(self) -> None:
        """It has sent what no client of HTTP does."""
        self.handle_close()

    def handle_close(self) -> None:
        """Closes it, if it is not a channel."""
        if not self.over:
            self.over = True
            self._owner.forget(self.socket.fileno())
            self.socket.close()

    def dismiss(self) -> None:
        """Closes it, unless it has sent something that was not seen yet."""
        if not self.over:
            self.handle_read_event()
            self.handle_close()


def _asks_for_a_probe(request: Any) -> bool:
    return request.error is None and request.path in PROBE_PATHS


class _Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """Threads for all requests but those for probes, which the loop answers itself."""

    def add_task(self, channel: HTTPChannel) -> None:
        """Called by waitress: the channel has a request."""
        if not _asks_for_a_probe(channel.requests[0]):
            super().add_task(channel)


class StatusServer:
    """Serves probes, metrics, the status document and the page."""

    def __init__(
        self,
        settings: StatusSettings,
        *,
        sections: Mapping[str, Section],
        livez: Probe,
        readyz: Probe,
        startupz: Probe,
        metrics: Callable[[], bytes],
        tell: Tell,
        events: Events | None = None,
    ) -> None:
        self._settings = settings
        probes = dict(zip(PROBES, (livez, readyz, startupz), strict=True))
        self._app = StatusApp(
            sections=sections,
            probes=probes,
            metrics=metrics,
            events=events,
            page=settings.page,
            allowed_hosts=settings.allowed_hosts,
        )
        self._stopping = threading.Event()
        self._thread = SupervisedThread("otelbridge-status", self._turn, tell=tell)
        self.pulse = self._thread.pulse
        self._map: dict[int, object] = {}
        self._silent: deque[_Silent] = deque()
        """Connections that have sent nothing yet, oldest first; some are closed, or channels, since."""
        self._sources: Counter[str] = Counter()
        """How many of them each address has."""
        self._active: dict[HTTPChannel, float] = {}
        """Channels, and when they last had a complete request in hand (or came in), monotonic."""
        self.port = 0
        """The port listened on, after `start`."""

    def start(self) -> None:
        """Listens and serves.

        Raises:
            OSError: the address cannot be listened on; the message names it and the setting.
        """
        listener = _listen(self._settings.host, self._settings.port)
        self.port = listener.getsockname()[1]
        self._dispatcher = _Dispatcher()
        self._dispatcher.set_thread_count(THREADS)
        self._server = create_server(
            self._app,
            map=self._map,
            sockets=[listener],
            _dispatcher=self._dispatcher,
            ident="",
            # Never reached: our loop makes room first. waitress would stop accepting, probes too.
            connection_limit=CROWD * 4,
            backlog=BACKLOG,
            outbuf_overflow=LARGEST_ANSWER_BYTES,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=MAX_BODY_BYTES,
            log_socket_errors=False,
        )
        self._server.handle_accept = self._accept
        self._server.handle_error = _raise  # waitress' own would close the listener
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and closes every connection; answers that are under way may be cut off."""
        if not self.port:
            return
        self._stopping.set()
        self._server.pull_trigger()
        self._thread.join()
        self._dispatcher.shutdown(timeout=1)
        for silent in self._silent:
            silent.handle_close()
        wasyncore.close_all(self._map, ignore_all=True)
        os.close(self._spare)

    def _turn(self) -> bool:
        seconds = TURN_SECONDS if self._active or self._silent else REST_SECONDS
        self.pulse.beat(seconds)
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._map, count=1)
        self._make_room(time.monotonic())
        return not self._stopping.is_set()

    def _accept(self) -> None:
        """Takes many that have connected, a probe may be behind them; called by waitress where it would take one."""
        now, server = time.monotonic(), self._server
        for _ in range(TAKEN_PER_TURN):
            try:
                connection, address = server.socket.accept()
            except OSError as error:
                if error.errno in NO_DESCRIPTORS:
                    self._accept_in_vain()
                return
            silent = self._map[connection.fileno()] = _Silent(self, connection, address, now)
            silent.handle_read_event()  # where we are late, its request is there
            if not silent.over:
                self._silent.append(silent)
                self._sources[silent.source] += 1
                self._thin_crowd(silent.source)

    def _thin_crowd(self, source: str) -> None:
        """Where the crowd is too large, closes the oldest: of this source, if it has more than its share."""
        if len(self._silent) > CROWD:
            of_all = self._sources[source] <= SHARE_OF_CROWD
            oldest = next(one for one in self._silent if of_all or one.source == source)
            self._silent.remove(oldest)
            self._sources[oldest.source] -= 1
            oldest.dismiss()

    def _accept_in_vain(self) -> None:
        """No descriptor is left: the oldest silent connection gives its own, or the next one is closed unheard."""
        if self._silent:
            self._silent.popleft().handle_close()
            return
        os.close(self._spare)
        with suppress(OSError):
            self._server.socket.accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def make_channel(self, connection: socket.socket, address: Any, since: float) -> HTTPChannel:
        """Hands a connection that has sent something to waitress."""
        with suppress(OSError):  # it has gone, which the channel finds too
            self._server.set_socket_options(connection)
        channel = _SingleRequestChannel(self._server, connection, address, self._server.adj, map=self._map)
        self._active[channel] = since
        return channel

    def forget(self, descriptor: int) -> None:
        """A silent connection is closed."""
        self._map.pop(descriptor, None)

    def _make_room(self, now: float) -> None:
        channels = list(self._server.active_channels.values())
        self._active = {channel: now if channel.requests else self._active.get(channel, now) for channel in channels}
        self._silent = deque(silent for silent in self._silent if not silent.over)
        self._sources = Counter(silent.source for silent in self._silent)
        waiting = [(since, id(one), one.handle_close) for one, since in self._active.items() if not one.requests]
        waiting += [(one.since, id(one), one.dismiss) for one in self._silent]
        for place, (since, _, close) in enumerate(sorted(waiting)):
            left = len(channels) + len(self._silent) - place
            limit = CLIENT_SECONDS if left <= MAX_CONNECTIONS else CHANCE_SECONDS if left <= CROWD else 0.0
            if now - since > limit:
                close()


def _raise() -> None:
    """Called while an exception is handled; the supervisor of the loop gets it."""
    raise  # noqa: PLE0704


CURES = {
    errno.EADDRINUSE: "set status.port (0 takes a free one), or stop what is listening there",
    errno.EACCES: "set status.port to one above 1023",
    errno.EADDRNOTAVAIL: "set status.host to an address of this machine",
}
ANY_CURE = "set status.port or status.host"


EVERYWHERE, EVERYWHERE_IPV4 = "::", "0.0.0.0"  # noqa: S104 - where an operator says so


def _listen(host: str, port: int) -> socket.socket:
    if host == EVERYWHERE and not socket.has_dualstack_ipv6():  # a kernel without IPv6 still has IPv4
        host = EVERYWHERE_IPV4
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == EVERYWHERE)
    except OSError as error:
        # `create_server` adds the address to the system's words.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(
            error.errno,
            f"the status server cannot listen on {host} port {port}: {why}; {CURES.get(error.errno or 0, ANY_CURE)}",
        ) from error
    if hasattr(socket, "TCP_DEFER_ACCEPT"):  # on Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
    return listener
