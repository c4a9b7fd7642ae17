"""A flood of the largest legal events, with one that is too large now and then; the bridge's peak memory is watched."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.oracle import gap_records
from tests.peers.bridge import FRESH, BridgeProcess, running_bridge
from tests.peers.memory_limit import memory_limit
from tests.waiting import eventually

MIB = 1024 * 1024
LARGE_LOG = pb.Log(NamespaceName="shop", PodName="cart", Operation="File", Resource="x" * (15 * MIB), Result="Passed")
MANY_LABELS = pb.Alert(
    NamespaceName="shop", PodName="cart", PolicyName="p", Labels=",".join(f"k{number}=v" for number in range(100_000))
)
TOO_LARGE = pb.Log(Resource="x" * (17 * MIB))
LOGS_AT_ONCE, ALERTS_AT_ONCE = 3, 6
ROUNDS_BETWEEN_TOO_LARGE = 40
MANIFEST = Path(__file__).parents[1] / "k8s" / "base" / "pod.yaml"


def limit_mib() -> int:
    """The memory limit that the manifests ship."""
    found = re.search(r"limits:.*?memory: (\d+)Mi", MANIFEST.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return int(found[1])


def peak_mib(bridge: BridgeProcess) -> float:
    """Most memory that was resident so far."""
    status = Path(f"/proc/{bridge.process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def flood(folder: Path, seconds: float) -> dict[str, object]:
    """Floods a bridge on default settings, under the manifests' limit; returns what came of it."""
    with memory_limit(f"otelbridge-{os.getpid()}", limit_mib()) as limit:
        command = limit.command(*FRESH) if limit else FRESH
        found = _flooded(folder, command, seconds)
        return {**found, "limit_reached": limit.times_reached if limit else None}


def _flooded(folder: Path, command: Sequence[str], seconds: float) -> dict[str, object]:
    with Relay() as relay, OtlpEndpoint() as endpoint:
        sections: dict[str, Any] = {
            "feed": {"endpoints": [relay.endpoint]},
            "send": {"endpoint": endpoint.grpc_endpoint},
        }
        with running_bridge(folder, command, **sections) as bridge:
            bridge.wait_until_watching()
            rounds = too_large = 0
            end = time.monotonic() + seconds
            while time.monotonic() < end or not too_large:
                _publish(relay, bridge)
                rounds += 1
                if rounds % ROUNDS_BETWEEN_TOO_LARGE == 1:
                    relay.publish(Stream.LOGS, TOO_LARGE)
                    too_large += 1
                    eventually(partial(_has_gaps, endpoint, too_large), within_seconds=60)
                    bridge.wait_until_watching()
            bridge.wait_until_delivered(within_seconds=60)
            gaps = _gaps(endpoint)
            return {
                "rounds": rounds,
                "too_large": too_large,
                "lost_by_gaps": [gap.get("otelbridge.gap.lost_records") for gap in gaps],
                "peak_mib": round(peak_mib(bridge)),
                "limit_mib": limit_mib(),
                "balances": bridge.balances(),
            }


def _has_gaps(endpoint: OtlpEndpoint, number: int) -> bool:
    return len(_gaps(endpoint)) >= number


def _gaps(endpoint: OtlpEndpoint) -> list[dict[str, object]]:
    """Those that are sure: on a busy machine a health check may take so long that a stall is suspected."""
    return [gap for gap in gap_records(endpoint.log_records()) if "otelbridge.gap.suspected" not in gap]


def _publish(relay: Relay, bridge: BridgeProcess) -> None:
    """One round, taken by the bridge before it returns: the simulator would hold a backlog in its own memory."""
    before = {stream: bridge.balance(stream)["received"] for stream in ("logs", "alerts")}
    for _ in range(LOGS_AT_ONCE):
        relay.publish(Stream.LOGS, LARGE_LOG)
    for _ in range(ALERTS_AT_ONCE):
        relay.publish(Stream.ALERTS, MANY_LABELS)
    eventually(lambda: bridge.balance("logs")["received"] >= before["logs"] + LOGS_AT_ONCE, within_seconds=60)
    eventually(lambda: bridge.balance("alerts")["received"] >= before["alerts"] + ALERTS_AT_ONCE, within_seconds=60)
