"""The address of a running bridge goes in, the events that passed its gate come out on a queue, as it received them."""

from __future__ import annotations

import base64
import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from otelbridge.event import Stream

EVENTS_PATH = "/events"
POLL_SECONDS = 0.5
ANSWER_SECONDS = 5.0
MAX_ANSWER_BYTES = 32 * 1024 * 1024
PUT_SECONDS = 0.2
JOIN_SECONDS = ANSWER_SECONDS + 1
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
        self._thread.join(JOIN_SECONDS)

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
                self._events.put((stream, body), timeout=PUT_SECONDS)
            except queue.Full:
                continue
            return
