"""A buffer that a test can put events into without being a reader."""

from __future__ import annotations

from otelbridge.event import RawEvent, Stream
from otelbridge.feed.buffer import Buffer, BufferWriter, ByteBudget


class OpenBuffer(Buffer):
    """Keeps a writer for each upstream and stream."""

    def offer(self, event: RawEvent) -> bool:
        """Leaves an event, as the reader of its stream would."""
        key = event.upstream, event.stream
        if key not in self._by_key:
            self._by_key[key] = self.open_writer(event.stream, event.upstream)
        return self._by_key[key].offer(event)

    def __init__(self, max_events: int, max_bytes: int) -> None:
        super().__init__(max_events, ByteBudget(max_bytes))
        self._by_key: dict[tuple[str, Stream], BufferWriter] = {}
