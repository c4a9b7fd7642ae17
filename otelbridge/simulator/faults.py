"""Reads the faults of a simulated KubeArmor (`end:OK@10s`, `restart-every:60s`), and makes them happen on schedule."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import re
import sched
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import grpc

from otelbridge.event import UPSTREAM_STREAMS
from otelbridge.simulator.nodes import Nodes
from otelbridge.simulator.tcp_proxy import Conditions, Direction, Flow, TcpProxy
from otelbridge.simulator.upstream import Ending, HealthAnswer, Relay

SECONDS_PER_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
STATUS_NAMES = tuple(code.name for code in grpc.StatusCode)
HEALTH_WORDS = ("echo", "hang", "wrong_nonce", *STATUS_NAMES)
LAST_SECONDS = 1.0
"""How long a relay is silent, and KubeArmor refuses streams with OK, before it is gone."""


class FaultError(ValueError):
    """The words are no fault. Its text says what is wrong and what is possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is to happen, once or again and again."""

    kind: str
    """Of `SHAPES`."""
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
        """When it is undone, counted from its own start; None: never. A server that went comes back in any case."""
        return self.lasts_seconds or 0 if SHAPES[self.kind].comes_back else self.lasts_seconds

    @property
    def needs_proxy(self) -> bool:
        """Whether it happens in front of the server."""
        return SHAPES[self.kind].network

    @property
    def needs_nodes(self) -> bool:
        """Whether it happens behind the server."""
        return SHAPES[self.kind].nodes


Undo = Callable[[], object] | None


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault happens to."""

    fault: Fault
    relay: Relay
    _proxy: TcpProxy | None
    _nodes: Nodes | None

    @property
    def proxy(self) -> TcpProxy:
        """The network in front of the server."""
        assert self._proxy is not None, "asked for by faults of the network"
        return self._proxy

    @property
    def nodes(self) -> Nodes:
        """Those behind the server."""
        assert self._nodes is not None, "asked for by faults of nodes"
        return self._nodes

    @property
    def away_seconds(self) -> float:
        """How long a node is away."""
        return self.fault.lasts_seconds or float("inf")

    def start_again(self) -> None:
        """Starts the relay behind a proxy that refused connections."""
        self.relay.start()
        self.proxy.accept()
        if self._nodes is not None:
            self._nodes.relay_starts()


def _end(scene: Scene) -> None:
    scene.relay.end_streams(grpc.StatusCode[scene.fault.word], "ended by the simulator")


def _refuse(scene: Scene) -> Undo:
    relay, code = scene.relay, grpc.StatusCode[scene.fault.word]
    missing = code is grpc.StatusCode.UNIMPLEMENTED  # which a server says in its own words
    ending = Ending(code=code, details="" if missing else "refused by the simulator")
    relay.manners = replace(relay.manners, openings=dict.fromkeys(UPSTREAM_STREAMS, ending))
    return lambda: setattr(relay, "manners", replace(relay.manners, openings={}))


def _health(scene: Scene) -> Undo:
    relay, word = scene.relay, scene.fault.word
    answer = HealthAnswer(word) if word in tuple(HealthAnswer) else Ending(code=grpc.StatusCode[word])
    relay.manners = replace(relay.manners, health=answer)
    return lambda: setattr(relay, "manners", replace(relay.manners, health=HealthAnswer.ECHO))


def _hang(scene: Scene) -> Undo:
    scene.relay.freeze()
    return scene.relay.thaw


def _restart(scene: Scene) -> Undo:
    scene.relay.kill()
    return scene.relay.start


def _goaway(scene: Scene) -> None:
    scene.relay.stop(scene.fault.lasts_seconds or 0)
    scene.relay.start()


def _freeze(scene: Scene) -> Undo:
    scene.proxy.hold()
    return scene.proxy.open


def _swallow(scene: Scene) -> Undo:
    proxy = scene.proxy
    proxy.swallow()

    def reopen() -> None:
        proxy.cut()  # bytes are missing in the middle of these connections: they can only end
        proxy.open()

    return reopen


def _slow(scene: Scene) -> Undo:
    scene.proxy.shape(Conditions(bytes_per_second=scene.fault.rate))
    return scene.proxy.open


def _cut(scene: Scene) -> None:
    scene.proxy.cut()


def _kill(scene: Scene) -> Undo:
    """EOF for all clients, no GOAWAY, no trailers; then nobody listens."""
    scene.proxy.refuse()
    scene.proxy.half_close(Direction.TO_CLIENT)
    scene.proxy.open()
    scene.relay.kill()
    return scene.start_again


def _term(scene: Scene) -> Undo:
    scene.proxy.shape(Conditions(flow=Flow.SWALLOW), directions=[Direction.TO_CLIENT])
    time.sleep(LAST_SECONDS)
    return _kill(scene)


def _shutdown(scene: Scene) -> Undo:
    relay, manners = scene.relay, scene.relay.manners
    relay.manners = replace(manners, openings=dict.fromkeys(UPSTREAM_STREAMS, Ending()))
    relay.end_streams()
    time.sleep(LAST_SECONDS)
    back = _kill(scene)
    relay.manners = manners
    return back


def _stall(scene: Scene) -> Undo:
    scene.proxy.hold()
    scene.nodes.stall()

    def resume() -> None:
        scene.nodes.resume()
        scene.proxy.open()

    return resume


def _bad_event(scene: Scene) -> None:
    scene.nodes.bad_event(scene.nodes.names[0])


def _node_kill(scene: Scene) -> None:
    scene.nodes.kill(scene.nodes.names[0], scene.away_seconds)


def _node_freeze(scene: Scene) -> None:
    scene.nodes.freeze(scene.nodes.names[0], scene.away_seconds)


def _no_nodes(scene: Scene) -> None:
    scene.nodes.lose_all(scene.away_seconds)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a fault is written, and what it does."""

    act: Callable[[Scene], Undo]
    does: str
    words: tuple[str, ...] | None = None
    """What its first argument must be one of. None: there is no such argument."""
    rate: bool = False
    """Its first argument is a number of bytes a second."""
    lasts: bool = False
    """It takes a duration, after which it is undone; without one it stays."""
    comes_back: bool = False
    """Without a duration it is undone at once."""
    network: bool = False
    """It happens in front of the server, so it needs the proxy."""
    nodes: bool = False
    """It happens behind the server, so it needs nodes."""

    def written(self, name: str) -> str:
        """The form, for messages and documentation."""
        first = ":BYTES_PER_SECOND" if self.rate else ":STATUS" if self.words else ""
        return f"{name}{first}{'[:DURATION]' if self.lasts else ''}"


# fmt: off
SHAPES: Mapping[str, Shape] = {
    "end": Shape(_end, "ends the open streams with that status", words=STATUS_NAMES),
    "refuse": Shape(_refuse, "ends each stream that is opened, before its headers, with that status", words=STATUS_NAMES, lasts=True),
    "health": Shape(_health, "HealthCheck fails with that status, or is `hang` or `wrong_nonce`", words=HEALTH_WORDS, lasts=True),
    "hang": Shape(_hang, "the server answers no call, but still answers HTTP/2 pings", lasts=True),
    "freeze": Shape(_freeze, "the server seems stopped: it reads and writes nothing", lasts=True, network=True),
    "swallow": Shape(_swallow, "a black hole: bytes vanish in both directions", lasts=True, network=True),
    "slow": Shape(_slow, "the connection carries at most that many bytes a second", rate=True, lasts=True, network=True),
    "cut": Shape(_cut, "every connection is reset", network=True),
    "restart": Shape(_restart, "the server is killed and comes back, after the duration if one is given", comes_back=True, lasts=True),
    "goaway": Shape(_goaway, "the server sends GOAWAY, ends after the duration, and comes back", lasts=True),
    "term": Shape(_term, "SIGTERM of a relay: 1 s of silence, then the connections end without a status", comes_back=True, lasts=True, network=True),
    "kill": Shape(_kill, "SIGKILL: the connections end at once without a status", comes_back=True, lasts=True, network=True),
    "shutdown": Shape(_shutdown, "KubeArmor's own shutdown: streams end with OK, new ones too for 1 s, then it is away", comes_back=True, lasts=True, network=True),
    "stall": Shape(_stall, "the relay stops reading and answering; its nodes drop it after 6 s", lasts=True, network=True, nodes=True),
    "bad-event": Shape(_bad_event, "an event that cannot be marshalled: the relay loses all streams of its node for 5 s", nodes=True),
    "node-kill": Shape(_node_kill, "one node is gone; the relay tries to reconnect every 5 s", lasts=True, nodes=True),
    "node-freeze": Shape(_node_freeze, "one node stops sending, and its connection stays open", lasts=True, nodes=True),
    "no-nodes": Shape(_no_nodes, "the relay has no node, and does not report it", lasts=True, nodes=True),
}
# fmt: on


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
    shape = SHAPES[name]
    word, rate = "", 0.0
    if shape.words:
        word = _word(shape.words, arguments.pop(0) if arguments else "", text)
    elif shape.rate:
        rate = _rate(arguments.pop(0) if arguments else "", text)
    lasts = _duration(arguments.pop(0), text) if shape.lasts and arguments else None
    if arguments:
        raise FaultError(f"fault {text!r}: {arguments[0]!r} is too much; write {shape.written(name)}")
    return Fault(
        kind=name,
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


def act_of(fault: Fault, relay: Relay, proxy: TcpProxy | None, nodes: Nodes | None = None) -> Callable[[], Undo]:
    """What makes the fault happen. One that needs the proxy, or nodes, must be given them."""
    return partial(SHAPES[fault.kind].act, Scene(fault, relay, proxy, nodes))


class FaultSchedule:
    """Makes faults happen at their times, counted from its construction, until `stop`.

    `tell` is given the name of each fault when it happens, and when it ends.
    """

    def __init__(self, acts: Iterable[tuple[Fault, Callable[[], Undo]]], tell: Callable[[str], None]) -> None:
        self.failure: OSError | None = None
        """Why the schedule ended early: the server did not get its port back."""
        self._tell = tell
        self._stopped = threading.Event()
        self._scheduler = sched.scheduler(time.monotonic, self._wait)
        started = time.monotonic()
        for fault, act in acts:
            self._plan(started + fault.at_seconds, fault, act)
        self._thread = threading.Thread(target=self._scheduler.run, name="simulator-faults")
        self._thread.start()

    def stop(self) -> None:
        """No fault happens any more, and none is undone."""
        self._stopped.set()
        self._thread.join()

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            self._cancel()

    def _cancel(self) -> None:
        for planned in self._scheduler.queue:
            self._scheduler.cancel(planned)

    def _plan(self, at: float, fault: Fault, act: Callable[[], Undo]) -> None:
        self._scheduler.enterabs(at, 0, self._happen, (at, fault, act))

    def _happen(self, at: float, fault: Fault, act: Callable[[], Undo]) -> None:
        undo = self._do(fault.kind, act)
        if callable(undo) and fault.ends_after_seconds is not None:
            ended = f"{fault.kind} ended", undo
            self._scheduler.enterabs(at + fault.ends_after_seconds, 0, self._do, ended)
        if fault.every_seconds is not None and self.failure is None:
            self._plan(at + fault.every_seconds, fault, act)

    def _do(self, name: str, act: Callable[[], object]) -> object:
        self._tell(name)
        try:
            return act()
        except OSError as failure:
            self.failure = failure
            self._cancel()
            return None
