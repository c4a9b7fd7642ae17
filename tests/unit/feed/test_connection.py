from __future__ import annotations

import queue
from collections.abc import Iterator

from otelbridge.event import Stream
from otelbridge.feed.buffer import Buffer
from otelbridge.feed.connection import StreamReader
from otelbridge.feed.model import StreamEnd


class Call:
    """A Watch call that brings some events, ends, and notes in which order it was used."""

    def __init__(self, bodies: list[bytes], fault: Exception | None = None) -> None:
        self.used: list[str] = []
        self._bodies = bodies
        self._fault = fault

    def __iter__(self) -> Iterator[bytes]:
        yield from self._bodies
        self.used.append("ended")
        if self._fault is not None:
            raise self._fault

    def cancel(self) -> bool:
        return True

    def initial_metadata(self) -> object:
        self.used.append("released")
        return ()


def test_what_grpc_holds_for_a_call_is_taken_when_it_has_ended() -> None:
    buffer, ends = Buffer(1_000, 1 << 20), queue.SimpleQueue[StreamEnd]()
    call = Call([b"one", b"two"])
    reader = StreamReader(
        call, buffer.open_writer(Stream.LOGS, "relay:1"), lambda _, end: ends.put(end), lambda _: None
    )
    reader.start()
    assert ends.get(timeout=10).events == 2
    assert reader.join(10)
    assert call.used == ["ended", "released"], "20 KiB a call were never freed without this"
