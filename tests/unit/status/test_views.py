"""Four views of one state: the probe, the metrics, the status document and the page's first answer never disagree."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.feed.model import StreamState, StreamStatus, SubscriptionState, SubscriptionStatus
from otelbridge.queue.model import Depth
from otelbridge.status.answers import missed, readyz, seeing
from otelbridge.status.components import OBSERVED, Components
from otelbridge.status.document import shown

SECOND = 1_000_000_000
BLIND_SECONDS = 12
GRACE_SECONDS = 120
STREAMS = (Stream.ALERTS, Stream.LOGS)
UPSTREAM = "relay:32767"


def stream(state: StreamState, now: int) -> StreamStatus:
    watching = state is StreamState.WATCHING
    return StreamStatus(
        state=state,
        since_unix_nano=now,
        events=7,
        bytes=700,
        last_event_unix_nano=now - SECOND,
        blind_since_unix_nano=None if watching else now - BLIND_SECONDS * SECOND,
        events_per_second=None,
        ends={},
        oversized=0,
        error="" if watching else "PERMISSION_DENIED: not for you",
        error_class="",
    )


def subscription(state: SubscriptionState, *streams: StreamState, now: int, **more: Any) -> SubscriptionStatus:
    made = {name: stream(one, now) for name, one in zip(STREAMS, streams, strict=True)}
    blind = [one.blind_since_unix_nano for one in made.values() if one.blind_since_unix_nano]
    return SubscriptionStatus(
        **{
            "upstream": UPSTREAM,
            "state": state,
            "since_unix_nano": now,
            "streams": made,
            "attempts": 1,
            "attempts_in_a_row": 0,
            "last_error": "",
            "error_class": "",
            "next_attempt_in_seconds": None,
            "connection_id": "c",
            "blind_since_unix_nano": min(blind, default=None),
            "last_heartbeat_unix_nano": now,
            "heartbeat_method": "nonce",
            "keepalive_seconds": 15,
            "certificate_expires_unix_seconds": None,
            "nodes_seen": 3,
            **more,
        }
    )


EMPTY = Depth(
    batches=0,
    records=0,
    bytes=0,
    memory_records=0,
    oldest_received_unix_nano=None,
    streams={},
    dead_letters=0,
    dead_letter_bytes=0,
    retained_bytes=0,
    degraded=False,
)


def metrics(status: SubscriptionStatus) -> dict[str, list[tuple[float, dict[str, object]]]]:
    feed = SimpleNamespace(subscriptions=lambda: (status,), nodes_last_seen=dict)
    components = cast("Components", SimpleNamespace(feed=feed, roads=None))
    return {
        instrument.name: [(value, dict(attributes)) for value, attributes in reading(components)]
        for instrument, reading in OBSERVED.items()
        if instrument.name.startswith("otelbridge.source.")
    }


@pytest.mark.parametrize(
    ("state", "streams"),
    [
        (state, streams)
        for state in (SubscriptionState.WATCHING, SubscriptionState.SUSPECT)
        for streams in itertools.product(StreamState, repeat=len(STREAMS))
    ]
    + [(state, (StreamState.CLOSED,) * len(STREAMS)) for state in SubscriptionState],
    ids=str,
)
def test_whatever_state_the_streams_are_in_all_views_agree(
    state: SubscriptionState, streams: tuple[StreamState, ...]
) -> None:
    now = time.time_ns()
    status = subscription(state, *streams, now=now)
    blind = [name for name, one in zip(STREAMS, streams, strict=True) if one is not StreamState.WATCHING]
    operator = state is SubscriptionState.HOLDING or StreamState.HOLDING in streams

    seen = metrics(status)
    ((blind_seconds, _),) = seen["otelbridge.source.blind.time"]
    assert (blind_seconds >= BLIND_SECONDS) is bool(blind)
    assert [a["kubearmor.stream"] for value, a in seen["otelbridge.source.stream.active"] if not value] == blind
    assert [a["otelbridge.state"] for value, a in seen["otelbridge.source.state"] if value] == [state.value]

    document = shown(status)
    assert (document["blind_since_unix_seconds"] is not None) is bool(blind)
    assert {name: one["state"] for name, one in document["streams"].items()} == dict(zip(STREAMS, streams, strict=True))

    answer = seeing([status])
    assert (answer["mood"], answer["word"]) == (("bad", "blind") if blind else ("good", ""))
    assert ("An operator has to act" in answer["sentence"]) is operator
    if len(blind) == 1:
        assert f"No {blind[0]} have been received" in answer["sentence"]

    probe = readyz([status], 0, max_bytes=1, grace_seconds=GRACE_SECONDS, clock=lambda: now)
    ending = state in {SubscriptionState.DRAINING, SubscriptionState.CLOSED}
    assert probe.ok is not (operator or ending)
    late = readyz([status], 0, max_bytes=1, grace_seconds=BLIND_SECONDS - 1, clock=lambda: now)
    assert late.ok is not bool(blind or ending)


def test_alerts_that_the_relay_denies_are_blind_in_every_view_while_the_rest_goes_on() -> None:
    now = time.time_ns()
    status = subscription(SubscriptionState.WATCHING, StreamState.HOLDING, StreamState.WATCHING, now=now)

    assert metrics(status)["otelbridge.source.blind.time"][0][0] >= BLIND_SECONDS
    assert seeing([status])["sentence"].startswith(f"Not all. No alerts have been received from {UPSTREAM} since ")
    probe = readyz([status], 0, max_bytes=1, grace_seconds=GRACE_SECONDS, clock=lambda: now)
    assert [check.why for check in probe.checks if not check.ok] == [
        "the server does not give us alerts: PERMISSION_DENIED: not for you"
    ]


def test_a_connection_on_which_no_node_has_been_heard_is_said_in_every_view() -> None:
    now = time.time_ns()
    quiet = {"unheard_since_unix_nano": now - BLIND_SECONDS * SECOND, "nodes_seen": 0}
    status = subscription(SubscriptionState.WATCHING, StreamState.WATCHING, StreamState.WATCHING, now=now, **quiet)

    assert metrics(status)["otelbridge.source.unheard.time"][0][0] >= BLIND_SECONDS
    assert shown(status)["unheard_since_unix_seconds"] is not None
    answer = seeing([status])
    assert (answer["mood"], answer["word"]) == ("warn", "no node heard")
    probe = readyz([status], 0, max_bytes=1, grace_seconds=GRACE_SECONDS, clock=lambda: now)
    assert probe.ok
    assert probe.checks[0].why == "watching; connected for 12 s, but no node has sent anything"


def test_a_lost_road_is_a_warning_while_another_one_sees_and_its_gaps_are_not_missed_events() -> None:
    now = time.time_ns()
    lost = subscription(
        SubscriptionState.WAITING, StreamState.CLOSED, StreamState.CLOSED, now=now, covered_by="relay-b:32767"
    )
    seen = subscription(SubscriptionState.WATCHING, StreamState.WATCHING, StreamState.WATCHING, now=now)

    answer = seeing([lost, seen])
    assert (answer["mood"], answer["word"], answer["runbook"]) == ("warn", "a road is lost", "otelbridgeblind")
    assert answer["sentence"].startswith(f"Yes, by relay-b:32767. Another road, {UPSTREAM}, has been blind since ")
    gap = Gap(
        stream=Stream.ALERTS, upstream=UPSTREAM, cause=GapCause.DISCONNECT, started_unix_nano=now - SECOND,
        ended_unix_nano=now, covered_by="relay-b:32767",
    )  # fmt: skip
    assert missed([gap], [], {}, now)["mood"] == "good"
    assert missed([replace(gap, covered_by="")], [], {}, now)["mood"] == "past"
    assert metrics(lost)["otelbridge.source.blind.time"][0][0] >= BLIND_SECONDS, "the alert fires: a road is gone"
