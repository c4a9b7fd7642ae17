"""Nodes that are odd: each that falls silent has its record, by when it was heard, whatever it is called or dates."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint, attributes
from otelbridge.simulator.events import stamp_time
from otelbridge.simulator.generator import generate
from otelbridge.simulator.upstream import Relay
from tests.oracle import GAP_SLACK_NANOS, gap_records, unix_nano
from tests.peers.bridge import running_bridge
from tests.waiting import eventually

EVENTS_PER_SECOND = 5
KNOWN_SECONDS = 24
"""What a node's habit is known after is 20."""
AWAY_SECONDS = 8
HOUR_NANOS = 3600 * 1_000_000_000
MARK = "-mark"


@dataclass(slots=True)
class Node:
    """One that KubeArmor runs on.

    Args:
        name: as its events say it.
        place: the relay that it is behind.
        recorded: as whom the gap record names it; nothing where there is to be none.
        dated: its clock, against the truth.
        bytes_for_mark: what stands in its events in place of `-mark`.
        away: falls silent for a while.
        until: its last moment is when others fall silent.
        since: its first moment is that.
    """

    name: str
    place: int = 0
    recorded: str = ""
    dated: int = 0
    bytes_for_mark: bytes = MARK.encode()
    away: bool = True
    until: bool = False
    since: bool = False
    heard: list[int] = field(default_factory=list)

    def speaks(self, at: str) -> bool:
        return {"before": not self.since, "meanwhile": not (self.away or self.until), "after": not self.until}[at]


def nodes() -> list[Node]:
    return [
        Node("punctual", recorded="punctual"),
        Node("hours-ahead", recorded="hours-ahead", dated=5 * HOUR_NANOS),
        Node("hours-behind", recorded="hours-behind", dated=-5 * HOUR_NANOS),
        Node(f"no-utf-8{MARK}", recorded="no-utf-8-\\xff\\xfe\\xff\\xfe", bytes_for_mark=b"-\xff\xfe\xff\xfe"),
        Node("in-two-clusters", place=0, recorded="in-two-clusters"),
        Node("in-two-clusters", place=1, away=False),
        Node("twice-behind-one", away=False),
        Node("twice-behind-one", until=True, away=False),
        Node("old-name", until=True, away=False),
        Node("new-name", since=True, away=False),
    ]


def test_each_silence_is_on_record_by_receipt_and_by_name(tmp_path: Path) -> None:
    every, events = nodes(), generate(1, streams=(Stream.LOGS,))
    with (
        Relay() as one,
        Relay() as other,
        OtlpEndpoint() as endpoint,
        running_bridge(
            tmp_path,
            feed={"endpoints": [one.endpoint, other.endpoint]},
            send={"endpoint": endpoint.grpc_endpoint},
        ) as bridge,
    ):
        relays, clock = (one, other), threading.Event()
        bridge.wait_until_watching()

        def speak(seconds: float, at: str) -> None:
            began = time.monotonic()
            for turn in range(int(seconds * EVENTS_PER_SECOND)):
                clock.wait(max(0.0, began + turn / EVENTS_PER_SECOND - time.monotonic()))
                for node in (node for node in every if node.speaks(at)):
                    _, message = next(events)
                    now = time.time_ns()
                    stamp_time(message, now + node.dated)
                    message.HostName = node.name
                    body = message.SerializeToString().replace(MARK.encode(), node.bytes_for_mark)
                    relays[node.place].publish(Stream.LOGS, body)
                    node.heard.append(now)

        speak(KNOWN_SECONDS, "before")
        before = {id(node): node.heard[-1] for node in every if node.heard}
        speak(AWAY_SECONDS, "meanwhile")
        speak(4, "after")
        wanted = {(relays[node.place].endpoint, node.recorded) for node in every if node.recorded}
        found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)

        def all_recorded() -> bool:
            found.clear()
            records = endpoint.log_records()
            of_gaps = [one for one in records if one.record.event_name == "otelbridge.gap"]
            for gap, one in zip(gap_records(records), of_gaps, strict=True):
                if gap["otelbridge.gap.cause"] != "throttled":
                    name = str(attributes(one.resource.attributes).get("k8s.node.name", ""))
                    span = unix_nano(gap["otelbridge.gap.start"]), unix_nano(gap["otelbridge.gap.end"])
                    found[str(gap["otelbridge.gap.upstream"]), name].append(span)
            return wanted <= set(found)

        try:
            eventually(all_recorded, within_seconds=15)
        except AssertionError:
            raise AssertionError((wanted, dict(found), bridge.status()["subscriptions"])) from None
        assert set(found) == wanted, "and no other"
        for node in every:
            if node.recorded:
                ((started, ended),) = found[relays[node.place].endpoint, node.recorded]
                assert before[id(node)] - GAP_SLACK_NANOS <= started <= before[id(node)]
                back = next(at for at in node.heard if at > before[id(node)])
                assert back <= ended <= back + GAP_SLACK_NANOS
        silent = {one["upstream"]: one["silent_nodes"] for one in bridge.status()["subscriptions"]}
        assert silent == {one.endpoint: ["old-name"], other.endpoint: []}
        assert bridge.balances()
