"""Parses the words of a fault (`end:OK@10s`, `freeze:20s@30s`, `restart-every:60s`) and carries it out."""

from __future__ import annotations

import heapq
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import grpc

from otelbridge.event import UPSTREAM_STREAMS
from otelbridge.simulator.manners import Ending, HealthAnswer
from otelbridge.simulator.nodes import Nodes
from otelbridge.simulator.tcp_proxy import Conditions, Direction, Flow, TcpProxy
from otelbridge.simulator.upstream import Relay

SECONDS_PER_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
STATUS_NAMES = tuple(code.name for code in grpc.StatusCode)
HEALTH_WORDS = ("echo", "hang", "wrong_nonce", *STATUS_NAMES)


class FaultError(ValueError):
    """The words are no fault. Its text says what is wrong and what is possible."""


class FaultKind(StrEnum):
    """What can happen."""

    END = "end"
    REFUSE = "refuse"
    HEALTH = "health"
    HANG = "hang"
    FREEZE = "freeze"
    SWALLOW = "swallow"
    SLOW = "slow"
    CUT = "cut"
    RESTART = "restart"
    GOAWAY = "goaway"
    TERM = "term"
    KILL = "kill"
    SHUTDOWN = "shutdown"
    STALL = "stall"
    BAD_EVENT = "bad-event"
    NODE_KILL = "node-kill"
    NODE_FREEZE = "node-freeze"
    NO_NODES = "no-nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a fault is written, and what it does."""

    words: tuple[str, ...] | None = None
    """What its first argument must be one of. None: there is no such argument."""
    rate: bool = False
    """Its first argument is a number of bytes a second."""
    lasts: bool = False
    """It takes a duration, after which it is undone; without one it stays."""
    network: bool = False
    """It happens in front of the server, so it needs the proxy."""
    nodes: bool = False
    """It happens behind the server, so it needs nodes."""
    does: str

    def written(self, kind: FaultKind) -> str:
        """The form, for messages and documentation."""
        first = ":BYTES_PER_SECOND" if self.rate else ":STATUS" if self.words else ""
        return f"{kind}{first}{'[:DURATION]' if self.lasts else ''}"


SHAPES: Mapping[FaultKind, Shape] = {
    FaultKind.END: Shape(words=STATUS_NAMES, does="ends the open streams with that status"),
    FaultKind.REFUSE: Shape(
        words=STATUS_NAMES, lasts=True, does="ends each stream that is opened, before its headers, with that status"
    ),
    FaultKind.HEALTH: Shape(
        words=HEALTH_WORDS, lasts=True, does="HealthCheck fails with that status, or is `hang` or `wrong_nonce`"
    ),
    FaultKind.HANG: Shape(lasts=True, does="the server answers nothing, but its HTTP/2 pings still are"),
    FaultKind.FREEZE: Shape(lasts=True, network=True, does="the server looks stopped: nothing is read or written"),
    FaultKind.SWALLOW: Shape(lasts=True, network=True, does="a black hole: bytes vanish in both directions"),
    FaultKind.SLOW: Shape(rate=True, lasts=True, network=True, does="the line carries only so many bytes a second"),
    FaultKind.CUT: Shape(network=True, does="every connection is reset"),
    FaultKind.RESTART: Shape(
        lasts=True, does="the server is killed and comes back, after the duration if one is given"
    ),
    FaultKind.GOAWAY: Shape(lasts=True, does="the server says GOAWAY, ends after the duration, and comes back"),
    FaultKind.TERM: Shape(
        lasts=True, network=True, does="SIGTERM of a relay: 1 s of silence, then the connections end without a status"
    ),
    FaultKind.KILL: Shape(lasts=True, network=True, does="SIGKILL: the connections end at once without a status"),
    FaultKind.SHUTDOWN: Shape(
        lasts=True, network=True, does="KubeArmor's own: streams end with OK, new ones too for 1 s, then it is away"
    ),
    FaultKind.STALL: Shape(
        lasts=True,
        network=True,
        nodes=True,
        does="a relay stands still; its nodes drop it after 6 s",
    ),
    FaultKind.BAD_EVENT: Shape(nodes=True, does="one bad event: all streams of its node are away for 5 s"),
    FaultKind.NODE_KILL: Shape(lasts=True, nodes=True, does="one node is gone; the relay tries it every 5 s"),
    FaultKind.NODE_FREEZE: Shape(lasts=True, nodes=True, does="one node stands still, and nobody notices"),
    FaultKind.NO_NODES: Shape(lasts=True, nodes=True, does="the relay knows no node, and says nothing of it"),
}

COMES_BACK = frozenset({FaultKind.RESTART, FaultKind.TERM, FaultKind.KILL, FaultKind.SHUTDOWN})
"""Faults after which the server comes back at once when no duration is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is to happen, once or again and again."""

    kind: FaultKind
    word: str = ""
    """The status or manner, for those kinds that have one."""
    rate: float = 0
    """Bytes a second, for `slow`."""
    lasts_seconds: float | None = None
    at_seconds: float
    """After the start."""
    every_seconds: float | None = None

    @property
    def ends_after_seconds(self) -> float | None:
        """When it is undone, counted from its own start; None: never. A restarted server comes back in any case."""
        return self.lasts_seconds or 0 if self.kind in COMES_BACK else self.lasts_seconds

    @property
    def needs_proxy(self) -> bool:
        """Whether it happens in front of the server."""
        return SHAPES[self.kind].network

    @property
    def needs_nodes(self) -> bool:
        """Whether it happens behind the server."""
        return SHAPES[self.kind].nodes


def parse_fault(text: str) -> Fault:
    """Reads `WHAT@TIME` (once, so long after the start) or `WHAT-every:TIME`; see `faults_table` for WHAT.

    Raises:
        FaultError: It cannot be read.
    """
    what, separator, time = text.partition("-every:")
    if not separator:
        what, separator, time = text.partition("@")
    if not separator:
        raise FaultError(f"fault {text!r} does not say when: end it with @10s (once) or -every:60s")
    when = _duration(time, text)
    if separator == "-every:" and when <= 0:
        raise FaultError(f"fault {text!r}: the time after -every: must be greater than 0")
    name, *arguments = what.split(":")
    if name not in SHAPES:
        raise FaultError(f"fault {text!r}: {name!r} is none of {', '.join(SHAPES)}")
    kind = FaultKind(name)
    shape = SHAPES[kind]
    word, rate = "", 0.0
    if shape.words:
        word = _word(shape.words, arguments.pop(0) if arguments else "", text)
    elif shape.rate:
        rate = _rate(arguments.pop(0) if arguments else "", text)
    lasts = _duration(arguments.pop(0), text) if shape.lasts and arguments else None
    if arguments:
        raise FaultError(f"fault {text!r}: {arguments[0]!r} is too much; write {shape.written(kind)}")
    return Fault(
        kind=kind,
        word=word,
        rate=rate,
        lasts_seconds=lasts,
        at_seconds=when,
        every_seconds=when if separator == "-every:" else None,
    )


def faults_table() -> str:
    """Markdown: every fault, as it is written and what it does."""
    rows = [f"| `{shape.written(kind)}` | {shape.does} |" for kind, shape in SHAPES.items()]
    return "\n".join(["| fault | what happens |", "|---|---|", *rows])


def _duration(text: str, fault: str) -> float:
    if (match := DURATION.fullmatch(text)) is None:
        raise FaultError(f"fault {fault!r}: {text!r} is no duration; write 500ms, 10s, 2m or 1h")
    return float(match[1]) * SECONDS_PER_UNIT[match[2]]


def _word(words: tuple[str, ...], text: str, fault: str) -> str:
    for word in words:
        if word.lower() == text.lower():
            return word
    raise FaultError(f"fault {fault!r}: {text!r} is none of {', '.join(words)}")


def _rate(text: str, fault: str) -> float:
    if not text.isdecimal() or not int(text):
        raise FaultError(f"fault {fault!r}: {text!r} is no number of bytes a second; write slow:10000@5s")
    return float(text)


Undo = Callable[[], object] | None
Act = Callable[[], Undo]


def act_of(fault: Fault, relay: Relay, proxy: TcpProxy | None, nodes: Nodes | None = None) -> Act:
    """What makes the fault happen.

    Raises:
        ValueError: A fault in front of the server, and no proxy; or behind it, and no nodes.
    """
    if fault.needs_proxy and proxy is None:
        raise ValueError(f"{fault.kind} happens in front of the server: it needs the proxy")
    if fault.needs_nodes and nodes is None:
        raise ValueError(f"{fault.kind} happens behind the server: it needs nodes")
    acts = _server_acts(fault, relay)
    if proxy is not None:
        acts |= _network_acts(fault, proxy) | _ending_acts(relay, proxy, nodes)
    if nodes is not None:
        acts |= _node_acts(fault, nodes, proxy)
    return acts[fault.kind]


def _server_acts(fault: Fault, relay: Relay) -> dict[FaultKind, Act]:
    def end() -> Undo:
        relay.end_streams(grpc.StatusCode[fault.word], "ended by the simulator")
        return None

    def refuse() -> Undo:
        code = grpc.StatusCode[fault.word]
        missing = code is grpc.StatusCode.UNIMPLEMENTED  # which a server says in its own words
        ending = Ending(code=code, details="" if missing else "refused by the simulator")
        relay.manners = replace(relay.manners, openings=dict.fromkeys(UPSTREAM_STREAMS, ending))
        return lambda: setattr(relay, "manners", replace(relay.manners, openings={}))

    def health() -> Undo:
        manner = (
            HealthAnswer(fault.word) if fault.word in tuple(HealthAnswer) else Ending(code=grpc.StatusCode[fault.word])
        )
        relay.manners = replace(relay.manners, health=manner)
        return lambda: setattr(relay, "manners", replace(relay.manners, health=HealthAnswer.ECHO))

    def hang() -> Undo:
        relay.freeze()
        return relay.thaw

    def restart() -> Undo:
        relay.kill()
        return relay.start

    def goaway() -> Undo:
        relay.stop(fault.lasts_seconds or 0)
        relay.start()
        return None

    return {
        FaultKind.END: end,
        FaultKind.REFUSE: refuse,
        FaultKind.HEALTH: health,
        FaultKind.HANG: hang,
        FaultKind.RESTART: restart,
        FaultKind.GOAWAY: goaway,
    }


def _network_acts(fault: Fault, proxy: TcpProxy) -> dict[FaultKind, Act]:
    def freeze() -> Undo:
        proxy.hold()
        return proxy.open

    def swallow() -> Undo:
        proxy.swallow()

        def reopen() -> None:
            proxy.cut()  # bytes are missing in the middle of these connections: they can only end
            proxy.open()

        return reopen

    def slow() -> Undo:
        proxy.shape(Conditions(bytes_per_second=fault.rate))
        return proxy.open

    def cut() -> Undo:
        proxy.cut()
        return None

    return {
        FaultKind.FREEZE: freeze,
        FaultKind.SWALLOW: swallow,
        FaultKind.SLOW: slow,
        FaultKind.CUT: cut,
    }


LAST_SECONDS = 1.0
"""How long a relay is silent, and KubeArmor refuses streams with OK, before it is gone."""


def _ending_acts(relay: Relay, proxy: TcpProxy, nodes: Nodes | None) -> dict[FaultKind, Act]:
    def gone() -> Undo:
        """EOF for all clients, no GOAWAY, no trailers; then nobody listens."""
        proxy.refuse()
        proxy.half_close(Direction.TO_CLIENT)
        proxy.open()
        relay.kill()

        def back() -> None:
            relay.start()
            proxy.accept()
            if nodes is not None:
                nodes.relay_starts()

        return back

    def term() -> Undo:
        proxy.shape(Conditions(flow=Flow.SWALLOW), directions=[Direction.TO_CLIENT])
        time.sleep(LAST_SECONDS)
        return gone()

    def shutdown() -> Undo:
        manners = relay.manners
        relay.manners = replace(manners, openings=dict.fromkeys(UPSTREAM_STREAMS, Ending()))
        relay.end_streams()
        time.sleep(LAST_SECONDS)
        back = gone()
        relay.manners = manners
        return back

    return {FaultKind.TERM: term, FaultKind.KILL: gone, FaultKind.SHUTDOWN: shutdown}


def _node_acts(fault: Fault, nodes: Nodes, proxy: TcpProxy | None) -> dict[FaultKind, Act]:
    first, seconds = nodes.names[0], fault.lasts_seconds or float("inf")

    def stall() -> Undo:
        assert proxy is not None, "a fault in front of the server, too"
        proxy.hold()
        nodes.stall()

        def resume() -> None:
            nodes.resume()
            proxy.open()

        return resume

    def bad_event() -> Undo:
        nodes.bad_event(first)
        return None

    def kill() -> Undo:
        nodes.kill(first, seconds)
        return None

    def freeze() -> Undo:
        nodes.freeze(first, seconds)
        return None

    def no_nodes() -> Undo:
        nodes.lose_all(seconds)
        return None

    return {
        FaultKind.STALL: stall,
        FaultKind.BAD_EVENT: bad_event,
        FaultKind.NODE_KILL: kill,
        FaultKind.NODE_FREEZE: freeze,
        FaultKind.NO_NODES: no_nodes,
    }


class Planned(NamedTuple):
    """An entry of the schedule; the numbers come first because they order it."""

    at_seconds: float
    order: int
    name: str
    do: Callable[[], object]
    fault: Fault | None
    """None for the end of a fault."""


class FaultSchedule:
    """Runs from its construction to `stop`.

    Args:
        acts: What is to happen; times count from now.
        tell: Is given the name of each fault when it happens, and when it ends.
    """

    def __init__(self, acts: Iterable[tuple[Fault, Act]], tell: Callable[[str], None]) -> None:
        self.failure: OSError | None = None
        """Why the schedule ended early: the server did not get its port back."""
        self._tell = tell
        self._order = itertools.count()
        self._waiting: list[Planned] = []
        self._stopped = threading.Event()
        started = time.monotonic()
        for fault, act in acts:
            self._plan(started + fault.at_seconds, fault.kind, act, fault)
        self._thread = threading.Thread(target=self._run, name="simulator-faults")
        self._thread.start()

    def stop(self) -> None:
        """No fault happens any more, and none is undone."""
        self._stopped.set()
        self._thread.join()

    def _plan(self, at: float, name: str, do: Callable[[], object], fault: Fault | None) -> None:
        heapq.heappush(self._waiting, Planned(at, next(self._order), name, do, fault))

    def _run(self) -> None:
        while self._waiting:
            planned = heapq.heappop(self._waiting)
            if self._stopped.wait(max(0.0, planned.at_seconds - time.monotonic())):
                return
            self._tell(planned.name)
            try:
                undo = planned.do()
            except OSError as failure:
                self.failure = failure
                return
            if planned.fault is not None:
                self._follow_up(planned, planned.fault, undo)

    def _follow_up(self, planned: Planned, fault: Fault, undo: object) -> None:
        if callable(undo) and fault.ends_after_seconds is not None:
            self._plan(planned.at_seconds + fault.ends_after_seconds, f"{fault.kind} ended", undo, None)
        if fault.every_seconds is not None:
            self._plan(planned.at_seconds + fault.every_seconds, planned.name, planned.do, fault)
