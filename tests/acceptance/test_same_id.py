"""Bridges with different settings give the same event the same `log.record.uid`: a back end can tell it came twice."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.mapping.synthetic import GAP_EVENT
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.oracle import uid_of
from tests.peers.bridge import Json, running_bridge
from tests.unit.mapping.samples import STREAMS, alert, log, sample_events
from tests.waiting import eventually

BLACK_OUT = {"name": "all", "pattern": ".+", "fields": ["Resource", "Source", "Data", "ProcessName"]}
OTHERS: dict[str, dict[str, Json]] = {
    "redacted": {"gate": {"redact": [BLACK_OUT], "redact_common_secrets": True}},
    "with rules": {"gate": {"rules": [{"name": "none", "action": "drop", "namespace": ["nowhere"]}]}},
    "truncated, not compiled": {"mapping": {"max_value_bytes": 256, "max_body_bytes": 128, "native": False}},
    "everything opted in": {
        "mapping": {"keep_original": True, "parse_labels": True, "event_name_attribute": True, "body": "map"}
    },
    "everything opted out": {
        "mapping": {"keep_raw": False, "mitre_techniques": False, "resource_granularity": "node", "kubernetes": False}
    },
}

EVENTS = [(STREAMS[type(message)], message.SerializeToString()) for _, message in sample_events()] + [
    (Stream.ALERTS, alert(Resource="/usr/bin/curl --password=hunter2 " + "x" * 9000).SerializeToString()),
    (Stream.LOGS, log(Labels="app=a,app.kubernetes.io/name=b").SerializeToString()),
    (Stream.LOGS, log(HostPID=77).SerializeToString() + b"\xfa\x7f\x03new"),
    (Stream.LOGS, b"\x0a\x02\xff\xfe" + log().SerializeToString()),
    (Stream.ALERTS, b"\xff\xff\xff"),
]
"""Also one with a field that this bridge does not know, one that is no UTF-8, and one that is no message."""


def ids(endpoint: OtlpEndpoint) -> Counter[object]:
    """Of all events; a throttled container among them makes a gap record as well, each bridge its own."""
    return Counter(uid_of(one) for one in endpoint.log_records() if one.record.event_name != GAP_EVENT)


@pytest.mark.timeout(120)
def test_the_same_event_has_the_same_id_whatever_the_settings(relay: Relay, tmp_path: Path) -> None:
    with ExitStack() as stack:
        endpoints: dict[str, OtlpEndpoint] = {}
        for name, settings in {"as it comes": {}, **OTHERS}.items():
            endpoints[name] = stack.enter_context(OtlpEndpoint(http_port=None))
            bridge = stack.enter_context(
                running_bridge(
                    tmp_path / name,
                    feed={"endpoints": [relay.endpoint]},
                    send={"endpoint": endpoints[name].grpc_endpoint},
                    **settings,
                )
            )
            bridge.wait_until_watching()
        relay.wait_for_subscribers(len(endpoints))
        for stream, body in EVENTS:
            relay.publish(stream, body)
        for endpoint in endpoints.values():
            eventually(lambda one=endpoint: ids(one).total() == len(EVENTS), within_seconds=30)  # type: ignore[misc]
    expected = ids(endpoints.pop("as it comes"))
    assert len(expected) == len(EVENTS), "different events have different ids"
    assert {name: ids(endpoint) == expected for name, endpoint in endpoints.items()} == dict.fromkeys(OTHERS, True)
