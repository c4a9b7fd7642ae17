"""Takes the picture of the status page: a real bridge, between a simulated cluster and an endpoint, after an outage."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from otelbridge.event import UPSTREAM_STREAMS
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.integration.status.chromium import open_page
from tests.oracle import Publisher
from tests.peers.bridge import running_bridge

PICTURE = Path(__file__).with_name("status.png")
WIDTH, HEIGHT = 1280, 1010
EVENTS_PER_SECOND = 120
SHOWN_EVENTS = 5
BEFORE_SECONDS, OUTAGE_SECONDS, AFTER_SECONDS = 12, 8, 25


def main(*, whole: Path | None) -> None:
    """Writes the picture, and one of the whole page where that is asked for."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Relay() as relay,
        OtlpEndpoint(http_port=None, keep=False) as endpoint,
        running_bridge(
            Path(folder),
            feed={"endpoints": [f"localhost:{relay.endpoint.rpartition(':')[2]}"]},
            send={"endpoint": endpoint.grpc_endpoint},
            gate={"rules": [{"name": "probes", "action": "drop", "stream": ["logs"], "operation": ["Network"]}]},
            status={"show_events": SHOWN_EVENTS},
        ) as bridge,
        open_page() as page,
    ):
        bridge.wait_until_watching()
        relay.wait_for_subscribers(1)
        page.resize(WIDTH, HEIGHT)
        page.goto(bridge.url("/"))
        with Publisher(relay, per_second=EVENTS_PER_SECOND, streams=UPSTREAM_STREAMS).going_on():
            time.sleep(BEFORE_SECONDS)
            relay.stop()
            time.sleep(OUTAGE_SECONDS)
            relay.start()
            time.sleep(AFTER_SECONDS)
            page.screenshot(PICTURE, whole=False)
            if whole:
                page.screenshot(whole)


if __name__ == "__main__":
    main(whole=Path(sys.argv[1]) if sys.argv[1:] else None)
