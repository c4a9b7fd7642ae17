"""The nodes behind a simulated relay, and the chain of buffers that an event of theirs goes through.

A node keeps 1,000 events per stream for its one client, the relay; the relay puts what it receives into a queue per
stream that all nodes share, looks at it every 10 ms, and gives each event to its own clients. All of it is silent about
losses: a node drops a relay that leaves its pings unanswered, a relay goes back to a lost node after a fixed pause, and
the relay's clients are told of neither. Here every loss is counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.simulator.upstream import Relay

NODE_SLOTS = 1_000
"""Events of one stream that wait in a node for the relay."""
WINDOW_BYTES = 64 * 1024
"""HTTP/2's window as Go begins with it: so much of a stream is on its way while the relay does not read."""
SHARED_QUEUE = {Stream.LOGS: 10_000, Stream.ALERTS: 1_000, Stream.MESSAGES: 100}
"""Events of all nodes that wait in the relay."""
LARGEST_BYTES = 4 * 1024 * 1024
"""The relay takes no larger event: the node's streams end with it, all three."""
POLL_SECONDS = 0.01
"""The relay's pause when its queue is empty."""
PING_SECONDS = 6.0
"""A node pings a relay that was silent for 1 s, and drops it 5 s later."""
FIND_SECONDS = 0.5
"""What a relay that was started needs to list its nodes and subscribe to them."""
RETURN_SECONDS = 5.0
"""The relay's pause before it goes back to a node that it has lost, or cannot reach. That of 2026 goes back at
once to one that answers on its probe port."""


class ChainCounts(NamedTuple):
    """What became of the events of all nodes."""

    published: int
    passed: int
    """To the relay's clients."""
    lost: int
    """On the way, without a word to anyone."""


class _Link:
    """One node, and what is under way from it to the relay."""

    def __init__(self) -> None:
        self.up_at = 0.0
        """On the monotonic clock; in the future while the relay has lost it."""
        self.away_until = 0.0
        """Of the node itself: it takes and sends nothing."""
        self.slots: dict[Stream, deque[bytes]] = {stream: deque() for stream in UPSTREAM_STREAMS}
        self.under_way: dict[Stream, deque[bytes]] = {stream: deque() for stream in UPSTREAM_STREAMS}
        self.under_way_bytes = dict.fromkeys(UPSTREAM_STREAMS, 0)

    def send(self, stream: Stream) -> None:
        """Moves from the slots onto the line what its window takes."""
        slots = self.slots[stream]
        while slots and (self.under_way_bytes[stream] + len(slots[0]) <= WINDOW_BYTES or not self.under_way[stream]):
            body = slots.popleft()
            self.under_way[stream].append(body)
            self.under_way_bytes[stream] += len(body)

    def drop(self, *, up_at: float, line_too: bool) -> int:
        """Takes the link down until then; returns how many events are lost by it."""
        self.up_at = up_at
        lost = 0
        for stream in UPSTREAM_STREAMS:
            gone = [self.slots[stream], self.under_way[stream]] if line_too else [self.slots[stream]]
            for each in gone:
                lost += len(each)
                each.clear()
            if line_too:
                self.under_way_bytes[stream] = 0
        return lost


class Nodes:
    """Nodes by name, whose events go to one relay. All methods may be called from any thread."""

    def __init__(self, relay: Relay, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._relay = relay
        self._links = {name: _Link() for name in names}
        self._lock = threading.Lock()
        self._stalled_at: float | None = None
        self._published = self._passed = self._lost = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulator-nodes")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def publish(self, name: str, stream: Stream, body: bytes) -> None:
        """Publishes an event of a node. Never blocks."""
        now = time.monotonic()
        with self._lock:
            self._published += 1
            link = self._links[name]
            if len(body) > LARGEST_BYTES:
                self._lost += 1 + link.drop(up_at=max(link.up_at, now + RETURN_SECONDS), line_too=True)
                return
            slots = link.slots[stream]
            if now < link.up_at or now < link.away_until or len(slots) >= NODE_SLOTS:
                self._lost += 1
            else:
                slots.append(body)
                link.send(stream)

    def stall(self) -> None:
        """The relay stands still: it reads nothing and answers no ping. Somebody else has to hold its clients."""
        with self._lock:
            self._stalled_at = time.monotonic()

    def resume(self) -> None:
        """Ends a stall: the relay finds out which nodes have dropped it."""
        with self._lock:
            now = time.monotonic()
            if self._stalled_at is not None and now - self._stalled_at >= PING_SECONDS:
                for link in self._links.values():
                    link.up_at = now + RETURN_SECONDS
            self._stalled_at = None

    def relay_starts(self) -> None:
        """Takes all links down for a moment: a restarted relay answers its clients before it has found its nodes."""
        with self._lock:
            up_at = time.monotonic() + FIND_SECONDS
            self._lost += sum(link.drop(up_at=up_at, line_too=True) for link in self._links.values())

    def bad_event(self, name: str) -> None:
        """One event that cannot be marshalled, or is too large: all three streams of its node end, neighbours too."""
        with self._lock:
            self._lost += 1 + self._links[name].drop(up_at=time.monotonic() + RETURN_SECONDS, line_too=True)
            self._published += 1

    def kill(self, name: str, seconds: float) -> None:
        """A node is gone for so long; the relay tries it every 5 s."""
        with self._lock:
            pause = (1 + seconds // RETURN_SECONDS) * RETURN_SECONDS
            self._lost += self._links[name].drop(up_at=time.monotonic() + pause, line_too=False)

    def freeze(self, name: str, seconds: float) -> None:
        """A node stands still for so long: nobody notices, and what happens on it meanwhile is not seen."""
        with self._lock:
            self._links[name].away_until = time.monotonic() + seconds

    def lose_all(self, seconds: float) -> None:
        """The relay knows no node (its Kubernetes API is away), for so long."""
        up_at = time.monotonic() + seconds
        with self._lock:
            self._lost += sum(link.drop(up_at=up_at, line_too=True) for link in self._links.values())

    def counts(self) -> ChainCounts:
        """What became of everything published so far."""
        with self._lock:
            return ChainCounts(self._published, self._passed, self._lost)

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            with self._lock:
                if self._stalled_at is not None:
                    self._drop_the_relay()
                    continue
                passing = self._collect()
            for stream, bodies in passing.items():
                for body in bodies:
                    self._relay.publish(stream, body)

    def _drop_the_relay(self) -> None:
        """Nodes drop a relay that answers no ping; what is on the line already is read after the stall."""
        if self._stalled_at is not None and time.monotonic() - self._stalled_at >= PING_SECONDS:
            self._lost += sum(link.drop(up_at=float("inf"), line_too=False) for link in self._links.values())

    def _collect(self) -> Mapping[Stream, Sequence[bytes]]:
        """Takes what has arrived since the last poll, as far as the relay's queue has room."""
        passing: dict[Stream, list[bytes]] = {stream: [] for stream in UPSTREAM_STREAMS}
        for link in self._links.values():
            for stream, queue in passing.items():
                while link.under_way[stream]:
                    body = link.under_way[stream].popleft()
                    link.under_way_bytes[stream] -= len(body)
                    link.send(stream)
                    if len(queue) < SHARED_QUEUE[stream]:
                        queue.append(body)
                        self._passed += 1
                    else:
                        self._lost += 1
        return passing
