"""A fault and whom it happens to in, the act out; the act returns what undoes it, if anything does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import grpc

from otelbridge.event import UPSTREAM_STREAMS
from otelbridge.simulator.faults import Fault, FaultKind
from otelbridge.simulator.manners import Ending, Health
from otelbridge.simulator.relay import Relay
from otelbridge.simulator.tcp_pipe import Conditions
from otelbridge.simulator.tcp_proxy import TcpProxy

Undo = Callable[[], object] | None
Act = Callable[[], Undo]


def act_of(fault: Fault, relay: Relay, proxy: TcpProxy | None) -> Act:
    """What makes the fault happen.

    Raises:
        ValueError: A fault in front of the server, and no proxy.
    """
    if not fault.needs_proxy:
        return _server_act(fault, relay)
    if proxy is None:
        raise ValueError(f"{fault.kind} happens in front of the server: it needs the proxy")
    return _network_act(fault, proxy)


def _server_act(fault: Fault, relay: Relay) -> Act:
    def end() -> Undo:
        relay.end_streams(grpc.StatusCode[fault.word], "ended by the simulator")
        return None

    def refuse() -> Undo:
        ending = Ending(code=grpc.StatusCode[fault.word], details="refused by the simulator")
        relay.manners = replace(relay.manners, openings=dict.fromkeys(UPSTREAM_STREAMS, ending))
        return lambda: setattr(relay, "manners", replace(relay.manners, openings={}))

    def health() -> Undo:
        manner = Health(fault.word) if fault.word in tuple(Health) else Ending(code=grpc.StatusCode[fault.word])
        relay.manners = replace(relay.manners, health=manner)
        return lambda: setattr(relay, "manners", replace(relay.manners, health=Health.ECHO))

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
    }[fault.kind]


def _network_act(fault: Fault, proxy: TcpProxy) -> Act:
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
    }[fault.kind]
