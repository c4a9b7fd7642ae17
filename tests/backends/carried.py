"""What every back end is given: samples, hard events and 10,000 numbered ones, carried by a bridge as users run it.

A second bridge, subscribed to the same relay, delivers to an endpoint of ours: what it delivers is what the back end
must have. So nothing here knows the name of an attribute, but for the event's id.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint, ReceivedLog, attributes
from otelbridge.simulator.events import event_from_json
from otelbridge.simulator.upstream import Relay
from tests.backends.hard_events import hard_events
from tests.oracle import Publisher, gap_records, uid_of
from tests.peers.bridge import Json, running_bridge
from tests.peers.presence import ROOT
from tests.waiting import eventually

NUMBERED = 10_000
PER_SECOND = 3_000
STREAMS = (Stream.ALERTS, Stream.LOGS, Stream.MESSAGES)
SAMPLES = ROOT / "tests" / "samples"
DELIVERED_SECONDS = 60

Records = dict[str, ReceivedLog]
"""Log records by their `log.record.uid`."""


def samples() -> list[tuple[Stream, bytes]]:
    """Every sample event and every hard one, each once."""
    lines = [
        line for file in sorted(SAMPLES.glob("*.json*")) for line in file.read_bytes().splitlines() if line.strip()
    ]
    events = [(event.stream, event.message.SerializeToString()) for event in map(event_from_json, lines)]
    return list(dict.fromkeys([*events, *hard_events()]))


def carry(folder: Path, *, send: Json, numbered: int = NUMBERED, **settings: Json) -> Records:
    """Has a bridge deliver the samples and so many numbered events; returns what it must have delivered.

    Args:
        folder: for the bridges' files.
        send: where the bridge delivers to.
        settings: further sections, for both bridges.
    """
    with Relay() as relay, OtlpEndpoint(http_port=None) as witness:
        feed: Json = {"endpoints": [relay.endpoint]}
        with (
            running_bridge(folder / "carrier", feed=feed, send=send, **settings) as bridge,
            running_bridge(
                folder / "witness", feed=feed, send={"endpoint": witness.grpc_endpoint}, **settings
            ) as second,
        ):
            bridge.wait_until_watching()
            second.wait_until_watching()
            relay.wait_for_subscribers(2)
            given = samples()
            for stream, body in given:
                relay.publish(stream, body)
            Publisher(relay, per_second=PER_SECOND, streams=STREAMS).publish(numbered)
            for one in (bridge, second):
                eventually(
                    lambda one=one: sum(one.balance(stream)["received"] for stream in STREAMS) >= len(given) + numbered,  # type: ignore[misc]
                    within_seconds=DELIVERED_SECONDS,
                    why="all are received",
                )
                one.wait_until_delivered(within_seconds=DELIVERED_SECONDS)
            assert relay.dropped == 0
            records = witness.log_records()
    by_uid = {str(uid_of(record)): record for record in records}
    gaps = len(gap_records(records))  # a sample says that KubeArmor throttles, and a gap record goes with it
    assert len(by_uid) == len(records) == len(given) + numbered + gaps, "each event has an id of its own"
    return by_uid


def as_text(value: object) -> str:
    """An attribute's value as back ends write it that know texts only."""
    match value:
        case bool():
            return str(value).lower()
        case bytes():
            return base64.b64encode(value).decode()
        case float():
            return str(value).removesuffix(".0")
        case list():
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        case _:
            return str(value)


def as_texts(pairs: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes as such back ends have them."""
    return {key: as_text(value) for key, value in attributes(pairs).items()}
