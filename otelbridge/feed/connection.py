"""One channel, its Watch calls and their readers, as one thing to open and to close. Decides nothing."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping

import grpc

from otelbridge.event import Stream
from otelbridge.feed.channel import start_watch
from otelbridge.feed.handoff import HandOff
from otelbridge.feed.heartbeat import Answer, Heartbeat
from otelbridge.feed.reader import Reader, StreamEnd
from otelbridge.feed.stream_watch import StreamWatch

JOIN_SECONDS = 5.0
"""A cancelled read ends within milliseconds (measured); this is the point at which we stop believing it will."""


class Connection:
    """Used by its subscription's thread; readers and gRPC's threads reach it through its mailbox only."""

    def __init__(
        self,
        channel: grpc.Channel,
        upstream: str,
        watches: Mapping[Stream, StreamWatch],
        handoff: HandOff,
        heartbeat: Heartbeat,
        *,
        connection_id: str,
    ) -> None:
        self.id = connection_id
        self.started = time.monotonic()
        self.started_unix_nano = time.time_ns()
        self.heartbeat = heartbeat
        self.last_answer_unix_nano = 0
        self.watches = watches
        self._channel = channel
        self._upstream = upstream
        self._handoff = handoff
        self._mailbox: queue.SimpleQueue[tuple[Reader, StreamEnd] | Answer | None] = queue.SimpleQueue()
        self._readers: dict[Stream, Reader] = {}
        self._past_events: dict[Stream, int] = {}

    def open_stream(self, stream: Stream) -> None:
        """Starts a Watch call and its reader."""
        watch = self.watches[stream]
        call = start_watch(self._channel, stream)
        lane = self._handoff.open_lane(stream, self._upstream)
        reader = Reader(call, lane, self.id, lambda reader, end: self._mailbox.put((reader, end)))
        self._readers[stream] = reader
        watch.attach(lane)
        watch.open()
        reader.start()

    def ask(self) -> None:
        """Sends a health check; its answer comes as a message."""
        self.heartbeat.ask(self._channel, self._mailbox.put)

    def nudge(self) -> None:
        """Makes `next_message` return. From any thread."""
        self._mailbox.put(None)

    def next_message(self, timeout_seconds: float) -> StreamEnd | Answer | None:
        """An end that we did not ask for, or a health check's outcome; None after the timeout or a nudge."""
        try:
            message = self._mailbox.get(timeout=max(0.0, timeout_seconds))
        except queue.Empty:
            return None
        if isinstance(message, Answer):
            if message.alive:
                self.last_answer_unix_nano = message.unix_nano
            return message
        if message is None or message[0].asked_to_end:
            return None
        reader, end = message
        self._release(end.stream, reader)
        return end

    def reads(self, stream: Stream) -> bool:
        """Whether a Watch call of this stream is open, as far as messages have been read."""
        return stream in self._readers

    @property
    def open_streams(self) -> int:
        """Watch calls that have not ended, as far as messages have been read."""
        return len(self._readers)

    @property
    def events(self) -> Mapping[Stream, int]:
        """Events received on this connection, per stream."""
        return {
            stream: self._past_events.get(stream, 0) + (reader.lane.events if reader else 0)
            for stream in self.watches
            for reader in (self._readers.get(stream),)
        }

    @property
    def last_event_unix_nano(self) -> int:
        """When the last event was received on any stream of the subscription; 0 before the first."""
        return max((watch.last_event_unix_nano for watch in self.watches.values()), default=0)

    def close(self) -> None:
        """Closes the channel, which ends the calls at once, and waits for the readers.

        What they read is in the hand-off then. The calls are not cancelled before: a call that was cancelled does not
        take its own status any more, and what gRPC holds for it is never freed.
        """
        readers = dict(self._readers)
        for reader in readers.values():
            reader.asked_to_end = True
        self._channel.close()
        for stream, reader in readers.items():
            reader.join(JOIN_SECONDS)
            self._release(stream, reader)

    def _release(self, stream: Stream, reader: Reader) -> None:
        if self._readers.get(stream) is reader:
            del self._readers[stream]
        reader.join(JOIN_SECONDS)
        self._past_events[stream] = self._past_events.get(stream, 0) + reader.lane.events
        self._handoff.end_lane(reader.lane)
        self.watches[stream].detach(reader.lane)
