"""One HTTP/2 connection of a policing server: frames in, frames out, and a word about all that the client did."""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.frame

from otelbridge.event import NANOSECONDS
from tests.peers.ping_policy import DEFAULT_MIN_INTERVAL_SECONDS, PingPolicy

OK, UNIMPLEMENTED = b"0", b"12"
MAX_CONCURRENT_STREAMS = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
READ_BYTES = 65_536
UNCOMPRESSED = 0
"""First byte of a gRPC message."""
POLL_SECONDS = 0.02


@dataclass(slots=True)
class Watch:
    """A Watch call that is open."""

    stream: int
    method: str
    headers_sent: bool = False


Deed = Callable[[h2.connection.H2Connection, Mapping[str, Watch]], object]
"""What a connection does beside answering calls; it is given the open watches by their methods' names."""


def ending(method: str, status: bytes = OK) -> Deed:
    """One watch is ended with a status."""

    def end(http: h2.connection.H2Connection, watches: Mapping[str, Watch]) -> None:
        watch = watches[method]
        http.send_headers(
            watch.stream, [*([] if watch.headers_sent else HEADERS), (b"grpc-status", status)], end_stream=True
        )

    return end


WEB_PAGE = b"<html><head><title>Bad Gateway</title></head></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policing:
    """How the server behaves; each time can be scaled down for a test."""

    min_ping_interval_seconds: float | None = DEFAULT_MIN_INTERVAL_SECONDS
    """None: pings are not policed."""
    ping_after_seconds: float | None = None
    """Silence after which the server pings: a relay 5, a node 1. None: never, as behind a proxy that eats pings."""
    ping_timeout_seconds: float = 20
    """5 for a node."""
    health_implemented: bool = True
    data_every_seconds: float | None = None
    """An event on every open stream; headers go out with the first."""
    event: bytes = b""
    """Empty: the event's number, which is the same on each connection; see `due`."""
    number_bytes: int = 0
    """A number has so many digits at least."""
    silent_seconds: float = 0
    """At the beginning of each connection, which is taken, and not read."""
    on_watch: Callable[[h2.connection.H2Connection, int], bool] = lambda *_: False
    """Answers a Watch call of this stream, or does not."""
    max_concurrent_streams: int | None = None
    """Calls at a time on one connection. None: not said."""


def due(policing: Policing, unix_nano: int) -> int:
    """The number of the event that is due, whether or not anybody watches: an oracle knows what was missed."""
    every = policing.data_every_seconds
    return unix_nano // round(every * NANOSECONDS) if every else 0


def framed(event: bytes) -> bytes:
    """An event as gRPC sends it."""
    return struct.pack(">BI", UNCOMPRESSED, len(event)) + event


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that happened on a connection."""

    what: str
    """`connected`, `ping`, `called`, `goaway`, `server_ping`, `ping_timeout`, `protocol_error`, `closed`."""
    connection: int
    at_seconds: float
    """Since the server's start."""
    detail: str = ""


class PolicingConnection:
    """Served by the thread that calls `serve`; the other methods may be called from any."""

    def __init__(self, sock: socket.socket, policing: Policing, tell: Callable[[str, str], None]) -> None:
        self._sock = sock
        self._policing = policing
        self._tell = tell
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        if policing.max_concurrent_streams is not None:  # set later it would be said only in a second frame
            said = {h2.settings.SettingCodes(code): value for code, value in self._http.local_settings.items()}
            said[MAX_CONCURRENT_STREAMS] = policing.max_concurrent_streams
            self._http.local_settings = h2.settings.Settings(client=False, initial_values=said)
        self._policy = PingPolicy(policing.min_ping_interval_seconds or 0)
        self._streams: dict[int, Watch] = {}
        """The open ones."""
        self._to_do: queue.SimpleQueue[Deed] = queue.SimpleQueue()
        self._health_checks: set[int] = set()
        self._turn = threading.Lock()
        """Held while frames are taken and given, so that a freeze is in force when `freeze` returns."""
        self._frozen = False
        self._goodbye: tuple[h2.errors.ErrorCodes, float] | None = None
        """The code to say, and for how long open calls live on then."""
        self._ends_at = float("inf")
        self._http_status = b""
        self._closed = threading.Event()
        self._read_at = time.monotonic()
        self._sent = due(policing, time.time_ns())
        self._ping_sent_at: float | None = None

    def freeze(self) -> None:
        """Neither reads nor writes from now on; the kernel still acknowledges."""
        with self._turn:
            self._frozen = True

    def thaw(self) -> None:
        """Goes on."""
        self._frozen = False

    def go_away(self, code: h2.errors.ErrorCodes, grace_seconds: float) -> None:
        """Says GOAWAY and closes: a server that shuts down, at once; a proxy at a connection's maximum age, later."""
        self._goodbye = code, grace_seconds

    def answer_with_a_web_page(self, http_status: bytes) -> None:
        """Calls are answered by a proxy that cannot reach its server; open ones stay. Empty: no longer."""
        self._http_status = http_status

    def do(self, deed: Deed) -> None:
        """Does something by its own thread."""
        self._to_do.put(deed)

    def close(self) -> None:
        """Ends the connection without a word."""
        self._closed.set()

    def serve(self) -> None:
        """Returns when the connection has ended."""
        self._tell("connected", "")
        with self._sock:
            self._closed.wait(self._policing.silent_seconds)
            self._http.initiate_connection()
            self._flush()
            while not self._closed.is_set():
                readable, _, _ = select.select([] if self._frozen else [self._sock], [], [], POLL_SECONDS)
                with self._turn:
                    if not self._frozen:
                        self._go_on(readable=bool(readable))
        self._tell("closed", "")

    def _go_on(self, *, readable: bool) -> None:
        with contextlib.suppress(h2.exceptions.StreamClosedError):  # the client has ended meanwhile what was answered
            if readable:
                self._read()
            self._keep_time(time.monotonic())
        self._flush()

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
            events = self._http.receive_data(data) if data else []
        except (OSError, h2.exceptions.ProtocolError) as error:
            self._tell("protocol_error", repr(error))
            data, events = b"", []
        if not data:
            self._closed.set()
        self._read_at, self._ping_sent_at = time.monotonic(), None
        # A call may have been cancelled in the very bytes that opened it: such a stream takes no answer any more.
        reset = {event.stream_id for event in events if isinstance(event, h2.events.StreamReset)}
        for event in events:
            if self._closed.is_set():
                return
            if getattr(event, "stream_id", None) not in reset:
                self._take(event)
        for stream in reset:
            self._streams.pop(stream, None)
            self._health_checks.discard(stream)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.PingReceived():
                self._tell("ping", "")
                if self._policing.min_ping_interval_seconds is not None and self._policy.pinged(time.monotonic()):
                    self._end(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, b"too_many_pings")
            case h2.events.RequestReceived(stream_id=stream, headers=headers):
                path = dict(headers)[b":path"].decode()
                self._tell("called", path)
                self._call(stream, path.rpartition("/")[2])
            case h2.events.DataReceived(stream_id=stream, data=data, flow_controlled_length=length):
                self._http.acknowledge_received_data(length, stream)
                if stream in self._health_checks:
                    self._health_checks.discard(stream)
                    # NonceMessage and ReplyMessage have the same encoding: the answer is the question.
                    self._write(stream, HEADERS)
                    self._http.send_data(stream, data)
                    self._write(stream, [(b"grpc-status", OK)], end=True)

    def _call(self, stream: int, method: str) -> None:
        if self._http_status:
            self._write(stream, [(b":status", self._http_status), (b"content-type", b"text/html")])
            self._http.send_data(stream, WEB_PAGE, end_stream=True)
        elif method.startswith("Watch") and self._policing.on_watch(self._http, stream):
            pass
        elif method.startswith("Watch"):
            self._streams[stream] = Watch(stream, method)
        elif method == "HealthCheck" and self._policing.health_implemented:
            self._health_checks.add(stream)
        else:
            self._write(stream, [*HEADERS, (b"grpc-status", UNIMPLEMENTED)], end=True)

    def _keep_time(self, now: float) -> None:
        while not self._to_do.empty():
            self._to_do.get()(self._http, {watch.method: watch for watch in self._streams.values()})
            self._streams = {
                stream: watch
                for stream, watch in self._streams.items()
                if (known := self._http.streams.get(stream)) and not known.closed
            }
        after = self._policing.ping_after_seconds
        if self._ping_sent_at is not None:
            if now - self._ping_sent_at >= self._policing.ping_timeout_seconds:
                self._tell("ping_timeout", "")
                self._closed.set()
        elif after is not None and now - self._read_at >= after:
            self._tell("server_ping", "")
            self._http.ping(b"keepaliv")
            self._ping_sent_at = now
        for number in range(self._sent + 1, due(self._policing, time.time_ns()) + 1):
            self._send_event(self._policing.event or (b"%d" % number).zfill(self._policing.number_bytes))
            self._sent = number
        if self._goodbye is not None:
            (code, grace_seconds), self._goodbye = self._goodbye, None
            self._ends_at = now + grace_seconds
            self._say_goodbye(code)
        if now >= self._ends_at:
            self._closed.set()

    def _send_event(self, event: bytes) -> None:
        body = framed(event)
        for stream, watch in self._streams.items():
            if not watch.headers_sent:
                self._write(stream, HEADERS)
                watch.headers_sent = True
            if self._http.local_flow_control_window(stream) >= len(body):
                self._http.send_data(stream, body)
                self._policy.wrote()

    def _write(self, stream: int, headers: list[tuple[bytes, bytes]], *, end: bool = False) -> None:
        self._http.send_headers(stream, headers, end_stream=end)
        self._policy.wrote()

    def _say_goodbye(self, code: h2.errors.ErrorCodes) -> None:
        """GOAWAY; what was called before goes on. The library would take the connection for closed."""
        self._tell("goaway", "")
        frame = hyperframe.frame.GoAwayFrame(0, last_stream_id=max(self._streams, default=0), error_code=code)
        self._flush()
        self._sock.sendall(frame.serialize())

    def _end(self, code: h2.errors.ErrorCodes, reason: bytes) -> None:
        self._tell("goaway", reason.decode())
        self._http.close_connection(code, additional_data=reason)
        self._flush()
        self._closed.set()

    def _flush(self) -> None:
        with contextlib.suppress(OSError):  # the next read tells that the client has gone
            self._sock.sendall(self._http.data_to_send())
