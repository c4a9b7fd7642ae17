"""One stream of one KubeArmor goes in, its encoded events come out on a queue; it reconnects until it is stopped."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol, cast

import grpc

from otelbridge import __version__
from otelbridge.event import Stream
from otelbridge.feed.address import parse_address
from otelbridge.feed.certificates import read_certificates
from otelbridge.feed.channel import open_channel, release, start_watch
from otelbridge.feed.settings import FeedSettings

RECONNECT_SECONDS = 2.0
"""Somebody watches: no ladder, and no herd of one."""
PUT_SECONDS = 0.2
JOIN_SECONDS = 5.0
UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)


class _Ended(Protocol):
    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str: ...


class Reader:
    """A thread that owns its channel."""

    def __init__(
        self,
        upstream: str,
        stream: Stream,
        settings: FeedSettings,
        *,
        events: queue.Queue[tuple[Stream, bytes]],
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        """Reads the certificates, but dials nobody yet.

        Raises:
            ValueError: a certificate file cannot be used.
        """
        self.never_connected = False
        self._address = parse_address(upstream)
        self._certificates = read_certificates(settings.tls) if settings.tls.enabled else None
        self._stream, self._settings, self._events, self._stop, self._say = stream, settings, events, stop, say
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._thread = threading.Thread(target=self._run, name=f"tail-{stream}-{upstream}", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether more may come."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Ends the call, by its channel, and the thread; the stop event must be set."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        connected = False
        while not self._stop.is_set():
            error = self._read_once()
            if self._stop.is_set():
                return
            connected = connected or error is None or error.code() not in UNREACHABLE
            why = "it ended" if error is None else f"{error.code().name}: {error.details()}"
            self._say(f"{self._address} {self._stream}: {why}")
            if not connected:
                self.never_connected = True
                return
            self._stop.wait(RECONNECT_SECONDS)

    def _read_once(self) -> _Ended | None:
        """Reads until the stream ends; returns the error that it ended with."""
        with self._lock:
            if self._stop.is_set():
                return None
            self._channel = open_channel(
                self._address,
                self._settings,
                version=__version__,
                keepalive_seconds=self._settings.keepalive.time_seconds,
                certificates=self._certificates,
            )
            call = start_watch(self._channel, self._stream)
        try:
            for body in call:
                self._put(body)
        except grpc.RpcError as error:
            return cast("_Ended", error)  # what grpcio raises from a call is the call
        finally:
            release(call)
            with self._lock:
                self._channel.close()
                self._channel = None
        return None

    def _put(self, body: bytes) -> None:
        """Waits for room; what comes after the stop is of no use to anybody."""
        while not self._stop.is_set():
            try:
                self._events.put((self._stream, body), timeout=PUT_SECONDS)
            except queue.Full:
                continue
            return
