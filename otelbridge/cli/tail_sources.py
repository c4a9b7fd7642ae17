"""The address of a running bridge goes in, the events that passed its gate come out on a queue, as it received them."""

from __future__ import annotations

import base64
import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol, cast

import grpc

from otelbridge import __version__
from otelbridge.event import Stream
from otelbridge.feed.certificates import read_certificates
from otelbridge.feed.channel import open_channel, release, start_watch
from otelbridge.feed.settings import FeedSettings
from otelbridge.net.address import parse_address

RECONNECT_SECONDS = 2.0
"""Somebody watches: no ladder, and no herd of one."""
PUT_SECONDS = 0.2
JOIN_SECONDS = 5.0
UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)


class _Ended(Protocol):
    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str: ...


class UpstreamReader:
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


EVENTS_PATH = "/events"
POLL_SECONDS = 0.5
ANSWER_SECONDS = 5.0
MAX_ANSWER_BYTES = 32 * 1024 * 1024
BRIDGE_PUT_SECONDS = 0.2
BRIDGE_JOIN_SECONDS = ANSWER_SECONDS + 1
MAX_REASON_BYTES = 1024


class BridgeReader:
    """A thread that polls a bridge."""

    def __init__(
        self,
        url: str,
        *,
        streams: frozenset[Stream],
        events: queue.Queue[tuple[Stream, bytes]],
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        """Asks nobody yet.

        Raises:
            ValueError: the URL is none of a status server.
        """
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url} is no URL of a status server: write it like http://127.0.0.1:32799")
        self._address = url.rstrip("/").removesuffix("/status") + EVENTS_PATH
        self._streams, self._events, self._stop, self._say = streams, events, stop, say
        self.never_connected = False
        self._thread = threading.Thread(target=self._run, name="tail-bridge", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether more may come."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Ends the thread; the stop event must be set."""
        self._thread.join(BRIDGE_JOIN_SECONDS)

    def _run(self) -> None:
        seen, connected, away = 0, False, False
        while not self._stop.is_set():
            try:
                answer = self._ask(seen)
                latest = int(answer["latest"])
                for event in answer["events"]:
                    self._pass_on(event, seen if connected else None)
                    seen = int(event["number"])
                if unparsed := sum(not event["parses"] for event in answer["events"]):
                    self._say(f"Events that do not parse: {unparsed}.")
                if latest < seen:
                    self._say("The bridge has started anew.")
                    seen = 0
                    continue
                connected, away = True, False
            except urllib.error.HTTPError as error:
                with error:
                    reason = error.read(MAX_REASON_BYTES).decode("utf-8", "replace").strip()
                self._say(f"{self._address}: {reason or error}")
                self.never_connected = not connected
                return
            except (OSError, ValueError, KeyError, TypeError) as error:
                if not away:
                    self._say(f"{self._address}: {error}")
                away = True
                if not connected:
                    self.never_connected = True
                    return
            self._stop.wait(POLL_SECONDS)

    def _ask(self, seen: int) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._address}?after={seen}", timeout=ANSWER_SECONDS) as answer:  # noqa: S310  # http(s), see above
            document: dict[str, Any] = json.loads(answer.read(MAX_ANSWER_BYTES))
            return document

    def _pass_on(self, event: dict[str, Any], seen: int | None) -> None:
        missed = 0 if seen is None else int(event["number"]) - seen - 1
        if missed > 0:
            self._say(f"{missed} events went by too fast to be shown; a larger status.show_events shows more.")
        stream = Stream(event["stream"])
        if event["parses"] and stream in self._streams:
            self._put(stream, base64.b64decode(event["event"]))

    def _put(self, stream: Stream, body: bytes) -> None:
        while not self._stop.is_set():
            try:
                self._events.put((stream, body), timeout=BRIDGE_PUT_SECONDS)
            except queue.Full:
                continue
            return
