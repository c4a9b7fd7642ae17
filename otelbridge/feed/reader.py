"""One thread that reads one Watch call: encoded events go into its lane, how the call ended goes to a callback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from otelbridge.event import RawEvent, Stream
from otelbridge.feed.channel import WatchCall, release
from otelbridge.feed.handoff import Lane
from otelbridge.feed.messages import messages


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd:
    """How a Watch call ended."""

    stream: Stream
    code: grpc.StatusCode
    details: str
    events: int
    lived_seconds: float
    ended_unix_nano: int


class Reader:
    """Owns one Watch call and the thread that reads it."""

    def __init__(
        self, call: WatchCall, lane: Lane, connection_id: str, ended: Callable[[Reader, StreamEnd], None]
    ) -> None:
        self.lane = lane
        self.asked_to_end = False
        """Set before its channel is closed: its end is no news then."""
        self._call = call
        self._connection_id = connection_id
        self._ended = ended
        self._started = time.monotonic()
        # A daemon: a read that does not end, against everything that was measured, must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=f"read {lane.stream} {lane.upstream}", daemon=True)

    def start(self) -> None:
        """Starts reading."""
        self._thread.start()

    def join(self, timeout_seconds: float) -> bool:
        """Waits for the thread; False when it is still running after the deadline."""
        if self._thread.ident is not None:  # otherwise it could not be started: the process is out of threads
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            code, details = self._read_to_the_end()
        # The thread's boundary. grpcio has raised ValueError and UsageError on calls of a closed channel; whatever it
        # is, the stream is over, and its owner has to hear of it or it would be blind without knowing.
        except Exception as error:  # noqa: BLE001
            code, details = grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}"
        self._ended(
            self,
            StreamEnd(
                stream=self.lane.stream,
                code=code,
                details=details,
                events=self.lane.events,
                lived_seconds=time.monotonic() - self._started,
                ended_unix_nano=time.time_ns(),
            ),
        )

    def _read_to_the_end(self) -> tuple[grpc.StatusCode, str]:
        try:
            self._read()
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
        else:
            code, details = grpc.StatusCode.OK, ""
        release(self._call)
        return code, details

    def _read(self) -> None:
        # The hot loop: about 1 us per event beside what grpcio takes.
        stream, upstream, connection_id = self.lane.stream, self.lane.upstream, self._connection_id
        offer, time_ns = self.lane.offer, time.time_ns
        for body in messages(self._call):
            offer(RawEvent(stream, body, time_ns(), upstream, connection_id))
