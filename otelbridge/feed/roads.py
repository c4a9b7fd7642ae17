"""Roads: matches the copies of one event that come by several upstreams, and meters what each of them loses.

Of equal events as many pass as the road that brought most of them has brought; the first copy passes at once. Of each
id only the difference between the roads is kept, a byte for each, until the window is over: what a road lacks then is
its loss.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from otelbridge.event import Gap, GapCause, Stream

MAX_IDS = 400_000
"""Ids that wait for their copies, some 40 MiB; beyond it the oldest slice is shed. 80 s at 5,000 events/s."""
SLICES = 6
"""Of a window. More would be settled sooner, and make each look-up longer."""
MAX_NODES = 1000
"""Nodes whose losses are told apart, per stream; further ones share one place without a name."""
SLACK_SECONDS = 1.0
"""What a road lacks so near to a time at which it was blind, beside how late roads are, may be of that time."""
MAX_NAME = 256
MOST = 255
"""Of one id a road can be ahead by so many; beyond it an event passes unmatched."""
BLINDING = frozenset(GapCause) - {GapCause.THROTTLED, GapCause.NODE_SILENT, GapCause.STALL}
"""A road that was connected while its events stayed away has lost them."""


@dataclass(slots=True)
class Loss:
    """What is known of the events that one road should have brought from one node."""

    compared: int = 0
    """Events that another road has brought while this one was watched."""
    missed: int = 0
    """Those of them that this one has not brought."""
    unknown: int = 0
    """Events that only others have brought while it was blind, or its ids had to be shed."""
    carried: bool = False
    """Whether it has brought any event."""


class _Node:
    """One node's events of one stream."""

    __slots__ = ("carried_since", "delivered", "losses", "slices")

    def __init__(self, slices: int, losses: list[Loss]) -> None:
        self.slices: list[dict[int, int]] = [{} for _ in range(slices)]
        """Id to how often each road has brought it, less what all have; newest first."""
        self.delivered = [0] * slices
        """Events that have passed in each slice."""
        self.carried_since: list[float | None] = [None] * len(losses)
        """When each road brought the first event: from then on it has to bring them."""
        self.losses = losses


Sight = tuple[_Node, int, int, int, bool]
"""Node, slice, id, its counts before, and whether it was new."""


class Roads:
    """Lets the first copy of each event pass. Used by the encoder's thread; any may read `losses`, `shed`, `waiting`.

    Times are monotonic seconds.
    """

    def __init__(
        self,
        upstreams: Sequence[str],
        window_seconds: float,
        *,
        blind: Callable[[], Collection[tuple[str, Stream]]],
        now: float,
    ) -> None:
        self.upstreams = tuple(upstreams)
        self._window_seconds = window_seconds
        self._kept_seconds = window_seconds * (1 + 1 / (2 * SLICES))
        """For an event needs some time from the wire to here, too."""
        self._blind = blind
        self._width = len(self.upstreams)
        self._places = {upstream: place for place, upstream in enumerate(self.upstreams)}
        self._one_of_each = int.from_bytes(bytes([1] * self._width), "little")
        self._nodes: dict[tuple[Stream, str], _Node] = {}
        self._named: Counter[Stream] = Counter()
        self._starts = [now]
        """Of the slices, newest first."""
        self._lags = [0.0]
        """How late copies came in each slice, at least: they are of a slice that ended so long ago."""
        self._spans: dict[tuple[str, Stream], list[tuple[float, float]]] = defaultdict(list)
        """When the streams of the roads were blind, from and to."""
        self._blind_now: set[tuple[str, Stream]] = set()
        """Those that were when that was last asked."""
        self._asked = self._began = self._now = now
        self._sights: list[Sight] = []
        """Of the turn that goes on."""
        self.losses: dict[tuple[str, str], Loss] = {}
        """By upstream and node."""
        self.shed = 0
        """Ids that had to be let go before their window was over."""
        self.waiting = 0
        """Ids that not all roads have brought as often."""
        self._waiting_in_older = 0
        """Those of them that are not in the newest slice, or some more."""

    # --- turns ---

    def begin(self, now: float) -> None:
        """A turn begins, perhaps for the second time: what it saw before, if anything, was not seen.

        The time is that at which the turn's first event was received; it does not go back.
        """
        now = self._now = max(now, self._now)
        for node, place, key, before, was_new in reversed(self._sights):
            self._put(node.slices[place], key, before)
            node.delivered[0] -= was_new
        self._sights.clear()
        crowded = self.waiting - self._waiting_in_older > MAX_IDS // (SLICES + 2)
        if crowded or now - self._starts[0] >= self._window_seconds / SLICES:
            self._next_slice(now)
        while len(self._starts) > 1 and self._starts[-2] <= now - self._kept_seconds:
            self._ask_who_is_blind()
            self._settle(shed=False)
        while len(self._starts) > 1 and self.waiting > MAX_IDS:
            self._settle(shed=True)

    def note(self, gaps: Iterable[Gap], unix_nano: int) -> None:
        """Takes in which roads were blind until just now, by the gaps that have ended."""
        for gap in gaps:
            if gap.stream is not None and gap.cause in BLINDING:
                nanoseconds = max(unix_nano, gap.ended_unix_nano) - gap.started_unix_nano
                self._spans[gap.upstream, gap.stream].append((self._now - nanoseconds / 1e9, self._now))

    def commit(self) -> None:
        """What the turn saw is in the queue."""
        self._sights.clear()

    # --- events ---

    def is_new(self, upstream: str, stream: Stream, node_name: str, uid: bytes) -> bool:
        """Takes in an event; False where it is the copy of one that has passed already."""
        node = self._nodes.get((stream, node_name)) or self._node(stream, node_name)
        road = self._places[upstream]
        if node.carried_since[road] is None:
            node.carried_since[road] = self._starts[0]
            node.losses[road].carried = True
        key = hash(uid)
        for place, ids in enumerate(node.slices):
            before = ids.get(key)
            if before is not None:
                return self._is_ahead(node, place, key, before, road)
        node.slices[0][key] = 1 << 8 * road
        self.waiting += 1
        node.delivered[0] += 1
        self._sights.append((node, 0, key, 0, True))
        return True

    def _is_ahead(self, node: _Node, place: int, key: int, before: int, road: int) -> bool:
        counts = before.to_bytes(self._width, "little")
        if counts[road] == MOST:
            return True
        is_new = counts[road] == max(counts)
        if place and not is_new:
            self._lags[0] = max(self._lags[0], self._now - self._starts[place - 1])
        after = before + (1 << 8 * road)
        if 0 not in after.to_bytes(self._width, "little"):
            after -= self._one_of_each
        self._put(node.slices[place], key, after)
        node.delivered[0] += is_new
        self._sights.append((node, place, key, before, is_new))
        return is_new

    def _put(self, ids: dict[int, int], key: int, counts: int) -> None:
        self.waiting += (counts > 0) - (key in ids)
        if counts:
            ids[key] = counts
        else:
            ids.pop(key, None)

    def _node(self, stream: Stream, name: str) -> _Node:
        name = name[:MAX_NAME] if self._named[stream] < MAX_NODES else ""
        node = self._nodes.get((stream, name))
        if node is None:
            self._named[stream] += 1
            losses = [self.losses.setdefault((upstream, name), Loss()) for upstream in self.upstreams]
            node = self._nodes[stream, name] = _Node(len(self._starts), losses)
        return node

    # --- slices ---

    def _ask_who_is_blind(self) -> None:
        """Who is blind now may have been since it was last asked, and who was then until now."""
        now_blind = set(self._blind())
        for road_and_stream in self._blind_now | now_blind:
            self._spans[road_and_stream].append((self._asked, self._now))
        self._blind_now, self._asked = now_blind, self._now
        oldest = self._starts[-1] - self._window_seconds
        for road_and_stream, spans in self._spans.items():
            self._spans[road_and_stream] = [span for span in spans if span[1] >= oldest]

    def _next_slice(self, now: float) -> None:
        self._ask_who_is_blind()
        self._starts.insert(0, now)
        self._lags.insert(0, 0.0)
        self._waiting_in_older = self.waiting
        for node in self._nodes.values():
            node.slices.insert(0, {})
            node.delivered.insert(0, 0)

    def _settle(self, *, shed: bool) -> None:
        """Lets go of the oldest slice; what a road lacks in it is its loss, where that can be known."""
        started, ended = self._starts.pop(), self._starts[-1]
        margin = max(self._lags) + SLACK_SECONDS
        self._lags.pop()
        begin, end = started - margin, ended + margin
        blind = {key for key, spans in self._spans.items() if any(span[0] < end and begin < span[1] for span in spans)}
        known = not shed and self._began < begin
        for (stream, _), node in self._nodes.items():
            ids, delivered = node.slices.pop(), node.delivered.pop()
            self.waiting -= len(ids)
            self._waiting_in_older -= len(ids)
            self.shed += len(ids) if shed else 0
            lacking, alone = self._uneven(ids)
            for road, upstream in enumerate(self.upstreams):
                since = node.carried_since[road]
                if since is None or since >= started:
                    continue
                if known and (upstream, stream) not in blind:
                    node.losses[road].compared += delivered - alone[road]
                    node.losses[road].missed += lacking[road]
                else:
                    node.losses[road].unknown += lacking[road]

    def _uneven(self, ids: dict[int, int]) -> tuple[list[int], list[int]]:
        """How many events each road lacks, and how many it alone has brought."""
        lacking, alone = [0] * self._width, [0] * self._width
        for counts, times in Counter(ids.values()).items():
            by_road = counts.to_bytes(self._width, "little")
            second, most = sorted(by_road)[-2:]
            for road, brought in enumerate(by_road):
                lacking[road] += times * (most - brought)
                alone[road] += times * (brought - second) if brought == most else 0
        return lacking, alone
