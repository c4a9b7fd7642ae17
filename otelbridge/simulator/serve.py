"""Runs a simulated KubeArmor: publishes the events of a source at a given pace until they end, and sums up."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from typing import NamedTuple, TypeVar

from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.simulator.events import (
    KubeArmorMessage,
    NotAnEvent,
    ParsedEvent,
    read_file,
    sample_events,
    stamp_sequence,
    stamp_time,
)
from otelbridge.simulator.faults import Fault, FaultSchedule, act_of
from otelbridge.simulator.generator import attack, flood, generate
from otelbridge.simulator.listening import ServerTls
from otelbridge.simulator.nodes import Nodes
from otelbridge.simulator.tcp_proxy import ProxyCounts, TcpProxy
from otelbridge.simulator.upstream import RELAY, FanoutCounts, Profile, Relay

T = TypeVar("T")

SAMPLES = "samples"
GENERATED = "generated"
ATTACK = "attack"
FLOOD = "flood"
MAX_REMEMBERED = 100
"""Bad lines and unknown keys that are remembered; more are only counted."""


class SourceError(ValueError):
    """The source has nothing to give."""


class SourcedEvent(NamedTuple):
    """An event that may be changed by whoever takes it."""

    stream: Stream
    message: KubeArmorMessage


class EventSource:
    """Events of some streams, by name; what was wrong with a file is told by the attributes.

    The name is `samples`, `generated`, `attack`, `flood`, `flood:KINDS`, or the path of a file (see `events`). With
    `loop` they begin again at the end; what is generated has no end.
    """

    def __init__(self, name: str, *, streams: tuple[Stream, ...], loop: bool = False, seed: int = 1) -> None:
        self.bad_lines: dict[str, NotAnEvent] = {}
        """By place; the first 100."""
        self.bad_line_count = 0
        """Of one round."""
        self.unknown_keys: dict[str, None] = {}
        """In order of appearance; the first 100."""
        self._name = name
        self._streams = streams
        self._loop = loop
        self._seed = seed

    def check(self) -> None:
        """Raises what iterating would, if there is nothing in it."""
        next(iter(self))

    def __iter__(self) -> Iterator[SourcedEvent]:
        """Begins.

        Raises:
            SourceError: There is no event of these streams in it.
            OSError: The file cannot be read.
        """
        if self._name == GENERATED:
            yield from starmap(SourcedEvent, generate(self._seed, streams=self._streams))
        kind, _, kinds = self._name.partition(":")
        if kind == FLOOD and (not kinds or kinds.isdecimal()):
            if Stream.ALERTS not in self._streams:
                raise SourceError(f"{self._name} has alerts only")
            yield from starmap(SourcedEvent, flood(self._seed, max(1, int(kinds or 1))))
        while True:
            empty = True
            for event in self._one_round():
                empty = False
                yield event
            if empty:
                raise SourceError(f"{self._name} has no event of the streams {', '.join(self._streams)}")
            if not self._loop:
                return

    def _one_round(self) -> Iterator[SourcedEvent]:
        self.bad_line_count = 0
        if self._name == ATTACK:
            yield from starmap(SourcedEvent, attack(self._seed, self._streams))
            self._seed += 10  # the next one has other processes, and a session of its own
            return
        for event in sample_events() if self._name == SAMPLES else self._from_file():
            if event.stream in self._streams:
                if event.unknown_keys and len(self.unknown_keys) < MAX_REMEMBERED:
                    self.unknown_keys.update(dict.fromkeys(event.unknown_keys))
                yield SourcedEvent(event.stream, event.message)

    def _from_file(self) -> Iterator[ParsedEvent]:
        for found in read_file(Path(self._name)):
            if not isinstance(found, NotAnEvent):
                yield found.event
                continue
            self.bad_line_count += 1
            if len(self.bad_lines) < MAX_REMEMBERED:
                self.bad_lines[found.place] = found


SHORTEST_SLEEP_SECONDS = 0.002
"""At higher rates several events go out per wake-up; a timer finer than this costs more than the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPace:
    """Rate and amount of what is published."""

    per_second: float | None = None
    """Events a second on average; None: as fast as they can be made."""
    burst: int = 1
    """Events that go out together; the pause after them keeps the rate."""
    count: int | None = None
    """Ends after so many events."""
    duration_seconds: float | None = None
    """Ends after so long."""

    def __post_init__(self) -> None:
        for name, value in (("rate", self.per_second), ("burst", self.burst), ("duration", self.duration_seconds)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, not {value}")
        if self.count is not None and self.count < 0:
            raise ValueError(f"count must be at least 0, not {self.count}")


def publish_at_pace(
    events: Iterable[T],
    publish: Callable[[T], None],
    pace: PublishPace,
    *,
    until: threading.Event,
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[threading.Event, float], object] = threading.Event.wait,
) -> int:
    """Publishes until the events, the count, the duration or `until` end it; returns how many went out.

    The rate holds on average: an event that was late is made up for, so a slow publisher catches up in a run of events.
    An event is taken just before it is published, in this thread. `until` may be set by another, also during a pause.
    """
    started = now()
    end = None if pace.duration_seconds is None else started + pace.duration_seconds
    supply = iter(events)
    published = 0
    while published != pace.count:
        if pace.per_second is not None and published % pace.burst == 0:
            due = started + published / pace.per_second
            pause = (due if end is None else min(due, end)) - now()
            if pause >= SHORTEST_SLEEP_SECONDS:
                wait(until, pause)
        if until.is_set() or (end is not None and now() >= end):
            break
        try:
            event = next(supply)
        except StopIteration:
            break
        publish(event)
        published += 1
    return published


LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.05
SUBSCRIBE_SECONDS = 2.0
"""After the first subscription others of the same client have so long to come before events are published."""
NODE_NAME = "node-{}.example.internal"
"""As its alerts and logs carry it; KubeArmor's messages have it cut at the first dot."""
FAULTY_NODES = 2
"""Behind the relay where a fault needs some, and no number was given."""
ROOM_POLL_SECONDS = 0.002
DRAIN_SECONDS = 10.0
"""How long events that wait for slow subscribers keep the simulator alive after the last was published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """What to simulate."""

    host: str = LOOPBACK
    port: int = 0
    profile: Profile = RELAY
    tls: ServerTls | None = None
    source: str = SAMPLES
    """`samples`, `generated`, or the path of a file with one JSON object per line."""
    streams: tuple[Stream, ...] = UPSTREAM_STREAMS
    loop: bool = False
    """Begin again at the end of the samples or of the file."""
    seed: int = 1
    """Of what is generated."""
    pace: PublishPace = field(default_factory=lambda: PublishPace(per_second=10))
    """Without a rate: as fast as the slowest subscriber takes them. With one, full queues drop as KubeArmor's do."""
    fresh_times: bool = True
    """Events get the time at which they are published; else those they were recorded with."""
    sequence: bool = False
    """Each event carries its number, from 0; see `stamp_sequence`."""
    wait_for_subscriber: bool = True
    """Publish nothing before somebody is subscribed: nobody would hear it."""
    stay: bool = False
    """Keep serving after the last event."""
    nodes: int = 0
    """So many nodes behind the relay take turns in sending; 0 leaves the events to the relay itself."""
    faults: tuple[Fault, ...] = ()
    roads: tuple[float, ...] = (0.0,)
    """Relays with the same events, on the port and those behind it; what share of the events each drops, by seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The result of a run."""

    published: int
    counts: Mapping[Stream, FanoutCounts]
    bad_lines: tuple[str, ...]
    """`file:line: reason`, the first 100."""
    bad_line_count: int
    unknown_keys: tuple[str, ...]
    """Keys of the source that no message has a field for."""
    lost: tuple[int, ...]
    """Events that each road has dropped by its share."""


class SimulatedRoads:
    """Relays that publish the same events, less the share that each is to drop, by the chance of a seed."""

    def __init__(self, relays: Sequence[Relay], shares: Sequence[float], seed: int) -> None:
        self.relays = tuple(relays)
        self.lost = [0] * len(relays)
        self._shares = tuple(shares)
        self._chance = random.Random(seed)  # noqa: S311 - no secret

    def publish(self, stream: Stream, message: KubeArmorMessage) -> None:
        """Gives an event to each road that does not drop it."""
        for place, (relay, share) in enumerate(zip(self.relays, self._shares, strict=True)):
            if share and self._chance.random() < share:
                self.lost[place] += 1
            else:
                relay.publish(stream, message)

    def room(self, stream: Stream) -> int:
        """How many events the fullest queue would still take."""
        return min(relay.room(stream) for relay in self.relays)


def serve(
    options: SimulateOptions,
    *,
    until: threading.Event,
    ready: Callable[[str], None] = lambda _endpoint: None,
    tell: Callable[[str], None] = lambda _fault: None,
) -> Summary:
    """Serves until everything is published and sent, or `until` is set by another thread or a signal's handler.

    `ready` is given `host:port` of each road when clients may come, `tell` the name of each fault when it happens.

    Raises:
        OSError: The port is taken, or a file cannot be read.
        SourceError: The source has no event of these streams.
    """
    source = EventSource(options.source, streams=options.streams, loop=options.loop, seed=options.seed)
    source.check()
    with contextlib.ExitStack() as stack:
        proxied = any(fault.needs_proxy for fault in options.faults)
        host, port = (LOOPBACK, 0) if proxied else (options.host, options.port)
        relay = stack.enter_context(Relay(host=host, port=port, profile=options.profile, tls=options.tls))
        proxy = None
        if proxied:
            proxy = stack.enter_context(TcpProxy(relay.endpoint, host=options.host, port=options.port))
        ready((proxy or relay).endpoint)
        roads = SimulatedRoads([relay, *_further(stack, options)], options.roads, options.seed)
        for further in roads.relays[1:]:
            ready(further.endpoint)
        number = options.nodes or (FAULTY_NODES if any(fault.needs_nodes for fault in options.faults) else 0)
        nodes = (
            stack.enter_context(Nodes(relay, [NODE_NAME.format(each) for each in range(number)])) if number else None
        )
        schedule = FaultSchedule([(fault, act_of(fault, relay, proxy, nodes)) for fault in options.faults], tell)
        stack.callback(schedule.stop)
        published = _publish(source, roads, nodes, options, until)
        if options.stay:
            until.wait()
        elif not until.is_set():
            for each in roads.relays:
                _finish(each, proxy, until)
        if schedule.failure is not None:
            raise schedule.failure
        return Summary(
            published=published,
            counts=relay.counts(),
            bad_lines=tuple(str(line) for line in source.bad_lines.values()),
            bad_line_count=source.bad_line_count,
            unknown_keys=tuple(source.unknown_keys),
            lost=tuple(roads.lost),
        )


def _further(stack: contextlib.ExitStack, options: SimulateOptions) -> list[Relay]:
    """The relays of the other roads, each on the next port, or on a free one."""
    ports = [options.port and options.port + place for place in range(1, len(options.roads))]
    made = [Relay(host=options.host, port=port, profile=options.profile, tls=options.tls) for port in ports]
    return [stack.enter_context(relay) for relay in made]


def _publish(
    source: EventSource, roads: SimulatedRoads, nodes: Nodes | None, options: SimulateOptions, until: threading.Event
) -> int:
    if options.wait_for_subscriber:
        heard = [(relay, stream) for relay in roads.relays for stream in options.streams]
        _wait(lambda: any(relay.subscribers(stream) for relay, stream in heard), until)
        most = time.monotonic() + SUBSCRIBE_SECONDS
        _wait(
            lambda: all(relay.subscribers(stream) for relay, stream in heard) or time.monotonic() > most,
            until,
        )
    number = 0
    turns = itertools.cycle(nodes.names if nodes else ())

    def publish(event: SourcedEvent) -> None:
        nonlocal number
        if options.fresh_times:
            stamp_time(event.message, time.time_ns())
        if options.sequence:
            stamp_sequence(event.message, number)
            number += 1
        while options.pace.per_second is None and not roads.room(event.stream) and not until.wait(ROOM_POLL_SECONDS):
            pass
        if nodes is None:
            roads.publish(event.stream, event.message)
        else:
            name = next(turns)
            event.message.HostName = name.partition(".")[0] if event.stream is Stream.MESSAGES else name
            nodes.publish(name, event.stream, event.message.SerializeToString())

    return publish_at_pace(source, publish, options.pace, until=until)


def _finish(relay: Relay, proxy: TcpProxy | None, until: threading.Event) -> None:
    """Ends the streams behind their last event, and waits until that has arrived; who is too slow loses the rest.

    Closing the connections at once would lose what is still on the way.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    relay.end_streams()
    with contextlib.suppress(TimeoutError):
        relay.wait_for_subscribers(0, within_seconds=DRAIN_SECONDS)
    before: ProxyCounts | None = None
    while proxy is not None and (now := proxy.counts()) != before and time.monotonic() < deadline:
        # Bytes also wait in the kernel, between server and proxy: only a poll without any movement says that none do.
        before = None if now.held_up else now
        until.wait(POLL_SECONDS)


def _wait(condition: Callable[[], bool], until: threading.Event) -> None:
    while not condition() and not until.wait(POLL_SECONDS):
        pass
