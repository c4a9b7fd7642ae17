"""Where `otelbridge tail` takes events from: a stream of a KubeArmor, or the status server of a running bridge."""

from __future__ import annotations

import base64
import queue
import random
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

import grpc

from otelbridge import __version__
from otelbridge.cli.status_client import ANSWER_SECONDS, NoStatusError, ask, document_address
from otelbridge.event import Stream
from otelbridge.feed.channel import open_channel, release, start_nonce_check, start_watch
from otelbridge.feed.settings import FeedSettings
from otelbridge.net.address import parse_address
from otelbridge.net.backoff import equal_jitter_seconds
from otelbridge.net.tls_files import read_usable

PUT_SECONDS = 0.2
JOIN_SECONDS = 5.0
CHECK_SECONDS = 5.0
UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
"""Between two connections, as the bridge itself does it."""

Events = queue.Queue[tuple[Stream, bytes]]


class _Ended(Protocol):
    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str: ...


def put(events: Events, stream: Stream, body: bytes, stop: threading.Event) -> None:
    """Waits for room; what comes after the stop is of no use to anybody."""
    while not stop.is_set():
        try:
            events.put((stream, body), timeout=PUT_SECONDS)
        except queue.Full:
            continue
        return


class UpstreamReader:
    """A thread that reads one stream of one KubeArmor, over a channel of its own, and connects again when it ends."""

    def __init__(
        self,
        upstream: str,
        stream: Stream,
        settings: FeedSettings,
        *,
        events: Events,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        """Reads the certificates, but dials nobody yet.

        Raises:
            ValueError: a certificate file cannot be used.
        """
        self.never_connected = False
        self._address = parse_address(upstream)
        self._certificates = read_usable(settings.tls, "feed.tls") if settings.tls.enabled else None
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
        ever_connected, step, said = False, 0, ""
        while not self._stop.is_set():
            connected, why = self._read_once()
            if self._stop.is_set():
                return
            ever_connected = ever_connected or connected
            if why != said or connected:
                self._say(f"{self._address} {self._stream}: {why}")
            if not ever_connected:
                self.never_connected = True
                return
            said, step = why, 0 if connected else step + 1
            self._stop.wait(
                equal_jitter_seconds(
                    step, initial=FIRST_WAIT_SECONDS, longest=LONGEST_WAIT_SECONDS, random=random.random
                )
            )

    def _read_once(self) -> tuple[bool, str]:
        """Reads until the stream ends; whether there was a connection, and how it ended."""
        with self._lock:
            if self._stop.is_set():
                return False, ""
            self._channel = channel = open_channel(
                self._address,
                self._settings,
                version=__version__,
                keepalive_seconds=self._settings.keepalive.time_seconds,
                certificates=self._certificates,
            )
            # A quiet stream tells nothing, for KubeArmor sends no headers; any answer to this proves a connection.
            asked = start_nonce_check(channel, 1, CHECK_SECONDS)
            call = start_watch(channel, self._stream)
        code, why = grpc.StatusCode.OK, "the stream ended"
        try:
            for body in call:
                put(self._events, self._stream, body, self._stop)
        except grpc.RpcError as error:
            ended = cast("_Ended", error)  # what grpcio raises from a call is the call
            code, why = ended.code(), f"{ended.code().name}: {ended.details()}"
        finally:
            connected = code not in UNREACHABLE or (asked.done() and asked.code() not in UNREACHABLE)
            asked.cancel()
            release(call)
            with self._lock:
                channel.close()
                self._channel = None
        return connected, why


EVENTS_PATH = "/events"
POLL_SECONDS = 0.5
BRIDGE_JOIN_SECONDS = ANSWER_SECONDS + 1


class BridgeReader:
    """A thread that polls a bridge."""

    def __init__(
        self,
        url: str,
        *,
        streams: frozenset[Stream],
        events: Events,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        """Asks nobody yet.

        Raises:
            ValueError: the URL is none of a status server.
        """
        self._address = document_address(url, EVENTS_PATH)
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
                answer = ask(f"{self._address}?after={seen}")
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
            except NoStatusError as error:
                if not away:
                    self._say(str(error))
                away = True
                self.never_connected = not connected
                if error.answered or not connected:
                    return
            except (ValueError, KeyError, TypeError):
                self._say(f"{self._address} answers, but not with a bridge's events.")
                self.never_connected = not connected
                return
            self._stop.wait(POLL_SECONDS)

    def _pass_on(self, event: dict[str, Any], seen: int | None) -> None:
        missed = 0 if seen is None else int(event["number"]) - seen - 1
        if missed > 0:
            self._say(f"{missed} events went by too fast to be shown; a larger status.show_events shows more.")
        stream = Stream(event["stream"])
        if event["parses"] and stream in self._streams:
            put(self._events, stream, base64.b64decode(event["event"]), self._stop)
