"""The feed: one subscription per upstream, upstreams found by name, and the nodes behind them."""

from __future__ import annotations

import random as random_module
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from otelbridge.event import Gap, GapCause, RecordGap, Stream
from otelbridge.feed.buffer import Buffer
from otelbridge.feed.model import StreamState, SubscriptionStatus
from otelbridge.feed.nodes import NodeRoster
from otelbridge.feed.port_watch import LookLimit
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.subscription import Subscription
from otelbridge.feed.unread import ELAPSED_CLOCK
from otelbridge.net.address import Address, Resolve, parse_address, resolve_by_system
from otelbridge.net.deadline import run_with_deadline
from otelbridge.telemetry.events import NodeFellSilent, Tell, UpstreamsChanged, UpstreamsUnknown
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread

STOP_SECONDS = 5.0
"""Cancelled reads end within milliseconds, and DNS is not waited for: this is for a machine that crawls."""


CLOCK_SET_NANOS = 500_000_000
"""Less is a clock that is corrected."""


def _clock_offset() -> int:
    return time.time_ns() - time.clock_gettime_ns(ELAPSED_CLOCK)


class Feed:
    """All subscriptions. `start`, `stop_reading` and `close` are for one thread, the rest for any."""

    def __init__(
        self,
        settings: FeedSettings,
        *,
        buffer: Buffer,
        tell: Tell,
        record_gap: RecordGap,
        version: str,
        random: random_module.Random | None = None,
        resolve: Resolve = resolve_by_system,
        max_nodes: int = 1000,
    ) -> None:
        self._settings = settings
        self._buffer = buffer
        self._tell = tell
        self._record_gap = record_gap
        self._version = version
        self._random = random or random_module.Random()  # noqa: S311 jitter, no secret
        self._resolve = resolve
        self._nodes = NodeRoster(max_nodes)
        self._clock_offset = _clock_offset()
        self._look_limit = LookLimit()
        self._watched_until: Mapping[tuple[str, Stream], int] = {}
        self._lock = threading.Lock()  # between those who add, remove and list; never held while waiting
        self._subscriptions: dict[Address, Subscription] = {}
        self._addresses = [parse_address(endpoint) for endpoint in settings.endpoints]
        self._followers: list[NameFollower] = []
        if settings.resolve == "all":
            names = [address for address in self._addresses if not address.is_ip]
            self._addresses = [address for address in self._addresses if address.is_ip]
            self._followers = [
                NameFollower(name, resolve=resolve, add=self._add, remove=self._remove, tell=tell) for name in names
            ]

    def start(self, watched_until: Mapping[tuple[str, Stream], int] | None = None) -> None:
        """Starts subscribing; returns at once.

        Args:
            watched_until: the Unix time in nanoseconds up to which an earlier life of the bridge watched an upstream's
                stream. Where given, the first gap of that stream starts there, with the cause `restart`; where not, a
                stream is blind from now on, which is worth a record only if its first attempt fails.
        """
        self._watched_until = watched_until or {}
        self._share_windows()
        for address in self._addresses:
            self._add(address)
        for follower in self._followers:
            follower.start()

    def stop_reading(self) -> None:
        """Drains: cancels the streams and waits for the readers. All that was read is in the buffer afterwards."""
        for follower in self._followers:
            follower.stop()
        with self._lock:
            subscriptions = list(self._subscriptions.values())
        for subscription in subscriptions:
            subscription.stop()
        deadline = time.monotonic() + STOP_SECONDS
        for follower in self._followers:
            follower.join(max(0.0, deadline - time.monotonic()))
        for subscription in subscriptions:
            subscription.join(max(0.0, deadline - time.monotonic()))
        for subscription in subscriptions:
            for gap in self._nodes.forget_upstream(subscription.upstream, time.time_ns()):
                self._record(gap)

    def close(self) -> None:
        """Releases everything. Nothing is left after `stop_reading`; without it, this does that first."""
        self.stop_reading()
        with self._lock:
            self._subscriptions.clear()

    def subscriptions(self) -> tuple[SubscriptionStatus, ...]:
        """How each subscription stands right now, in the order in which they were added."""
        with self._lock:
            subscriptions = list(self._subscriptions.values())
        now, statuses = time.time_ns(), []
        for subscription in subscriptions:
            seen, silent = self._nodes.of_upstream(subscription.upstream, now)
            statuses.append(subscription.status(nodes_seen=seen, silent_nodes=silent))
        return _with_cover(statuses) if self._settings.roads else tuple(statuses)

    def pulses(self) -> list[Pulse]:
        """The signs of life of all threads."""
        with self._lock:
            pulses = [pulse for subscription in self._subscriptions.values() for pulse in subscription.pulses()]
        return pulses + [follower.pulse for follower in self._followers]

    def watched_until(self) -> dict[tuple[str, Stream], int]:
        """Up to when each stream that is watched now has been seen, and all of it is on disk: see `start`."""
        settled = self._buffer.settled_until(time.time_ns())
        with self._lock:
            subscriptions = list(self._subscriptions.values())
        return {
            (one.upstream, stream): min(until, settled)
            for one in subscriptions
            for stream, until in one.watched_until().items()
        }

    def blind(self) -> set[tuple[str, Stream]]:
        """The upstreams and streams that are not watched now."""
        with self._lock:
            subscriptions = list(self._subscriptions.values())
        statuses = [subscription.status() for subscription in subscriptions]
        return {(one.upstream, stream) for one in statuses for stream in one.streams if stream not in one.watching}

    # --- nodes ---

    def heard(self, upstream: str, nodes: Mapping[str, int]) -> None:
        """Nodes sent events through an upstream: by name, the Unix time in nanoseconds of the last one's receipt."""
        now = self._follow_the_clock()
        self._nodes.heard(upstream, {node: min(unix_nano, now) for node, unix_nano in nodes.items()})

    def look_at_nodes(self) -> None:
        """To be called every second: tells which nodes have fallen silent, and records their absences."""
        now = self._follow_the_clock()
        for silent in self._nodes.fallen_silent(now):
            self._tell(NodeFellSilent(node=silent.node, last_event_unix_nano=silent.last_event_unix_nano))
        for gap in self._nodes.to_record(now):
            self._record(gap)

    def _follow_the_clock(self) -> int:
        """The time; where the clock was set, what is remembered of nodes is set with it."""
        offset = _clock_offset()
        if abs(offset - self._clock_offset) >= CLOCK_SET_NANOS:
            self._nodes.shift(offset - self._clock_offset)
            self._clock_offset = offset
        return time.time_ns()

    def limit_nodes(self, max_nodes: int) -> None:
        """So many nodes are told apart from now on; those heard first are forgotten."""
        self._nodes.max_nodes = max_nodes

    def nodes_last_seen(self) -> dict[str, int]:
        """Node to the Unix time in nanoseconds of its last event, whichever upstream has brought it."""
        latest: dict[str, int] = {}
        for (_, node), unix_nano in self._nodes.last_seen().items():
            latest[node] = max(unix_nano, latest.get(node, 0))
        return latest

    def _record(self, gap: Gap | None) -> None:
        if gap is None:
            return
        if gap.stream is not None:
            self._nodes.excuse(gap)
            if self._settings.roads and gap.cause not in {GapCause.PAUSE, GapCause.OVERFLOW}:  # of all roads at once
                gap = self._covered(gap)
        self._record_gap(gap)

    def _covered(self, gap: Gap) -> Gap:
        """The gap, with the name of another road that was watched all the time, if there was one."""
        for status in self.subscriptions():
            stream = status.streams.get(gap.stream) if gap.stream else None
            if stream is None or status.upstream == gap.upstream or not stream.watched:
                continue
            if stream.state is StreamState.WATCHING and stream.since_unix_nano <= gap.started_unix_nano:
                return replace(gap, covered_by=status.upstream, estimated_records=None)
        return gap

    # --- upstreams ---

    def _add(self, address: Address) -> None:
        subscription = Subscription(
            address,
            self._settings,
            buffer=self._buffer,
            tell=self._tell,
            record=self._record,
            version=self._version,
            random=random_module.Random(self._random.random()),  # noqa: S311 each thread its own
            resolve=self._resolve,
            watched_until={
                stream: at for (upstream, stream), at in self._watched_until.items() if upstream == str(address)
            },
            look_limit=self._look_limit,
            spread_seconds=self._random.uniform(0, self._settings.retry.initial_spread_seconds),
        )
        with self._lock:
            self._subscriptions[address] = subscription
        self._share_windows()
        subscription.start()

    def _share_windows(self) -> None:
        """The next connection gets its share of what may be read ahead."""
        upstreams = max(len(self._addresses), len(self._subscriptions))
        self._buffer.budget.streams = upstreams * len(self._settings.streams)

    def _remove(self, address: Address) -> None:
        with self._lock:
            subscription = self._subscriptions.pop(address)
        self._share_windows()
        subscription.stop(gone=True)
        subscription.join(STOP_SECONDS)
        for gap in self._nodes.forget_upstream(subscription.upstream, time.time_ns()):
            self._record(gap)


def _with_cover(statuses: Sequence[SubscriptionStatus]) -> tuple[SubscriptionStatus, ...]:
    """The roads, each with another one that makes up for it where it is blind."""

    def cover(status: SubscriptionStatus) -> str:
        lacking = {stream for stream in status.streams if stream not in status.watching}
        others = [other.upstream for other in statuses if other is not status and lacking <= {*other.watching}]
        return others[0] if lacking and others else ""

    return tuple(replace(status, covered_by=cover(status)) for status in statuses)


RESOLVE_PAUSE_SECONDS = 10.0
RESOLVE_SECONDS = 10.0
PULSE_SECONDS = 1.0

ABSENCES = 3
"""An address is given up after it was missing from so many answers in a row: answers of DNS may be cut short."""


class Membership:
    """Which addresses are behind a name. Pure: answers come in."""

    def __init__(self) -> None:
        self._absences: dict[Address, int] = {}

    def changes(self, found: Iterable[Address]) -> tuple[list[Address], list[Address]]:
        """What one more answer adds, and what it removes."""
        present = dict.fromkeys(found)
        added = [address for address in present if address not in self._absences]
        for address in self._absences:
            self._absences[address] = 0 if address in present else self._absences[address] + 1
        removed = [address for address, absences in self._absences.items() if absences >= ABSENCES]
        for address in removed:
            del self._absences[address]
        self._absences.update(dict.fromkeys(added, 0))
        return added, removed


class NameFollower:
    """Resolves one name again and again, on its own thread. A name that does not resolve changes nothing."""

    def __init__(
        self,
        name: Address,
        *,
        resolve: Resolve,
        add: Callable[[Address], None],
        remove: Callable[[Address], None],
        tell: Tell,
    ) -> None:
        self._name = name
        self._resolve = resolve
        self._add = add
        self._remove = remove
        self._tell = tell
        self._membership = Membership()
        self._due: deque[tuple[Callable[[Address], None], Address]] = deque()
        self._stopping = threading.Event()
        self._thread = SupervisedThread(f"follow {name}", self._turn, tell=tell)
        self.pulse = self._thread.pulse

    def start(self) -> None:
        """Starts asking."""
        self._thread.start()

    def stop(self) -> None:
        """Asks for the end; does not wait."""
        self._stopping.set()

    def join(self, timeout_seconds: float) -> bool:
        """Waits for that end; False when it has not come after the deadline."""
        return self._thread.join(timeout_seconds)

    def _turn(self) -> bool:
        self._ask()
        left = RESOLVE_PAUSE_SECONDS
        while left > 0 and not self._stopping.wait(min(left, PULSE_SECONDS)):
            self.pulse.beat()
            left -= PULSE_SECONDS
        return not self._stopping.is_set()

    def _ask(self) -> None:
        host, port = self._name.host, self._name.port
        try:
            found = run_with_deadline(
                lambda: self._resolve(host, port),
                name=f"resolve {host}",
                timeout_seconds=RESOLVE_SECONDS,
                stopping=self._stopping,
            )
        except OSError as error:
            if not self._stopping.is_set():
                self._tell(UpstreamsUnknown(name=str(self._name), why=str(error)))
            return
        added, removed = self._membership.changes(Address(host=ip, port=port) for ip in found)
        self._due += [*((self._add, address) for address in added), *((self._remove, address) for address in removed)]
        while self._due:  # what meets a fault is due at the next turn
            change, address = self._due[0]
            change(address)
            self._due.popleft()
        if added or removed:
            self._tell(
                UpstreamsChanged(
                    name=str(self._name),
                    added=tuple(str(address) for address in added),
                    removed=tuple(str(address) for address in removed),
                )
            )
