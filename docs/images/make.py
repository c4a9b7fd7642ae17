"""Takes the pictures of the status page: real bridges, between a simulated cluster and an endpoint, in four states."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from otelbridge.event import UPSTREAM_STREAMS
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.integration.status.chromium import Page, open_page
from tests.oracle import Publisher
from tests.peers.bridge import BridgeProcess, running_bridge
from tests.waiting import eventually

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1280, 1010
PHONE_WIDTH, PHONE_HEIGHT = 390, 844
EVENTS_PER_SECOND = 120
WATCHED_SECONDS = 15
OUTAGE_SECONDS = 8
LOADED = 32 * 1024

Trouble = Callable[[Relay, OtlpEndpoint, BridgeProcess], None]


def nothing(_relay: Relay, _endpoint: OtlpEndpoint, _bridge: BridgeProcess) -> None:
    """All is well; there was an outage before."""


def endpoint_away(_relay: Relay, endpoint: OtlpEndpoint, _bridge: BridgeProcess) -> None:
    """The Collector is stopped."""
    endpoint.stop()


def kubearmor_away(relay: Relay, _endpoint: OtlpEndpoint, _bridge: BridgeProcess) -> None:
    """The relay is stopped."""
    relay.stop()


def disk_degraded(_relay: Relay, endpoint: OtlpEndpoint, bridge: BridgeProcess) -> None:
    """Files may not grow any more, as on a full disk; and the endpoint is away, so that something is held."""
    endpoint.stop()
    resource.prlimit(bridge.process.pid, resource.RLIMIT_FSIZE, (LOADED, LOADED))


STATES: Mapping[str, tuple[Trouble, str]] = {
    "well": (nothing, "good"),
    "endpoint-away": (endpoint_away, "endpoint away"),
    "kubearmor-away": (kubearmor_away, "blind"),
    "disk-degraded": (disk_degraded, "disk degraded"),
}


def main(names: list[str]) -> None:
    """Writes the pictures of these states, or of all."""
    with open_page() as page:
        for name in names or STATES:
            picture(page, name, *STATES[name])


def picture(page: Page, name: str, trouble: Trouble, word: str) -> None:
    """One state, on a wide screen and on a phone."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Relay() as relay,
        OtlpEndpoint(http_port=None, keep=False) as endpoint,
        running_bridge(
            Path(folder),
            feed={"endpoints": [f"localhost:{relay.endpoint.rpartition(':')[2]}"]},
            send={"endpoint": endpoint.grpc_endpoint},
            gate={"rules": [{"name": "probes", "action": "drop", "stream": ["logs"], "operation": ["Network"]}]},
            telemetry={"resource_attributes": {"k8s.node.name": "worker-3", "k8s.pod.name": "otelbridge-x7k2p"}},
        ) as bridge,
    ):
        bridge.wait_until_watching()
        relay.wait_for_subscribers(1)
        page.resize(WIDTH, HEIGHT)
        page.goto(bridge.url("/"))
        with Publisher(relay, per_second=EVENTS_PER_SECOND, streams=UPSTREAM_STREAMS).going_on():
            _live(page, WATCHED_SECONDS)
            relay.stop()
            _live(page, OUTAGE_SECONDS)
            relay.start()
            bridge.wait_until_watching()
            relay.wait_for_subscribers(1)
            _live(page, WATCHED_SECONDS)
            trouble(relay, endpoint, bridge)
            if trouble is not nothing:
                eventually(lambda: page.evaluate("document.title").startswith(word), within_seconds=60, why=word)
            _live(page, OUTAGE_SECONDS)
            page.screenshot(HERE / f"status-{name}.png", whole=False)
            page.resize(PHONE_WIDTH, PHONE_HEIGHT)
            page.screenshot(HERE / f"status-{name}-phone.png", whole=False)


def _live(page: Page, seconds: float) -> None:
    """The page runs on for so long, by its own clock."""
    page.evaluate(f"new Promise(done => setTimeout(done, {seconds * 1000}))")


if __name__ == "__main__":
    main(sys.argv[1:])
