from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otelbridge.event import Stream
from otelbridge.feed.model import StreamState, StreamStatus, SubscriptionState, SubscriptionStatus
from otelbridge.status.answers import ProbeResult, livez, readyz, startupz
from otelbridge.telemetry.supervisor import Pulse

SECOND = 1_000_000_000
NOW = 1_000_000 * SECOND
GRACE_SECONDS = 120
MAX_BYTES = 1000


class StillPulse(Pulse):
    """A pulse of a given age."""

    def __init__(self, name: str, age_seconds: float) -> None:
        super().__init__(name)
        self._age_seconds = age_seconds

    def age_seconds(self) -> float:
        return self._age_seconds


def _stream(state: StreamState, error: str = "") -> StreamStatus:
    return StreamStatus(
        state=state,
        since_unix_nano=NOW,
        events=0,
        bytes=0,
        last_event_unix_nano=0,
        blind_since_unix_nano=None,
        events_per_second=None,
        ends={},
        oversized=0,
        error=error,
        error_class="",
    )


WATCHING = SubscriptionStatus(
    upstream="relay:32767",
    state=SubscriptionState.WATCHING,
    since_unix_nano=NOW,
    streams={Stream.ALERTS: _stream(StreamState.WATCHING)},
    attempts=1,
    attempts_in_a_row=0,
    last_error="",
    error_class="",
    next_attempt_in_seconds=None,
    connection_id="c",
    blind_since_unix_nano=None,
    last_heartbeat_unix_nano=NOW,
    heartbeat_method="nonce",
    keepalive_seconds=15,
    certificate_expires_unix_seconds=None,
    nodes_seen=0,
)


def _ready(*subscriptions: SubscriptionStatus, held_bytes: int = 0) -> ProbeResult:
    return readyz(subscriptions, held_bytes, max_bytes=MAX_BYTES, grace_seconds=GRACE_SECONDS, clock=lambda: NOW)


def _blind(state: SubscriptionState, seconds: float, **more: Any) -> SubscriptionStatus:
    return replace(WATCHING, state=state, blind_since_unix_nano=NOW - int(seconds * SECOND), **more)


def test_alive_while_every_thread_turns() -> None:
    assert livez([StillPulse("encoder", 3), StillPulse("send-1", 59)], max_silence_seconds=60).ok


def test_a_thread_that_does_not_turn_is_named() -> None:
    result = livez([StillPulse("encoder", 3), StillPulse("send-1", 61)], max_silence_seconds=60)

    assert not result.ok
    assert [(check.name, check.ok) for check in result.checks] == [("thread encoder", True), ("thread send-1", False)]
    assert result.checks[1].why == "turned 61.0 s ago, allowed 60 s"


def test_a_thread_that_fails_again_and_again_is_named_at_once() -> None:
    pulse = StillPulse("encoder", 0)
    for _ in range(3):
        assert livez([pulse], max_silence_seconds=60).ok
        pulse.failed(KeyError("a"))
    result = livez([pulse], max_silence_seconds=60)
    assert [check.why for check in result.checks if not check.ok] == ["failed 3 times in a row: KeyError: 'a'"]

    pulse.progress()
    assert livez([pulse], max_silence_seconds=60).ok


def test_a_watched_upstream_and_an_empty_queue_are_ready() -> None:
    assert _ready(WATCHING).ok
    assert _ready(replace(WATCHING, state=SubscriptionState.SUSPECT)).ok


@pytest.mark.parametrize("state", [SubscriptionState.WAITING, SubscriptionState.CONNECTING, SubscriptionState.IDLE])
def test_blindness_is_forgiven_for_the_grace_time(state: SubscriptionState) -> None:
    assert _ready(_blind(state, GRACE_SECONDS - 1)).ok

    result = _ready(_blind(state, GRACE_SECONDS + 1, last_error="connection refused"))
    assert not result.ok
    assert result.checks[0].why == f"{state}, blind for 121 s, beyond the grace time of 120 s: connection refused"


def test_what_only_an_operator_can_cure_is_not_forgiven() -> None:
    result = _ready(_blind(SubscriptionState.HOLDING, 1, last_error="certificate expired"))

    assert not result.ok
    assert "only an operator can cure it: certificate expired" in result.checks[0].why


def test_one_stream_that_the_server_denies_makes_it_not_ready() -> None:
    result = _ready(
        replace(
            WATCHING,
            streams={
                Stream.ALERTS: _stream(StreamState.WATCHING),
                Stream.LOGS: _stream(StreamState.HOLDING, "UNIMPLEMENTED"),
            },
        )
    )

    assert not result.ok
    assert result.checks[0].why == "the server does not give us logs: UNIMPLEMENTED"


def test_a_bridge_that_is_ending_is_not_ready() -> None:
    assert not _ready(replace(WATCHING, state=SubscriptionState.DRAINING)).ok


def test_one_blind_upstream_of_several_is_named() -> None:
    result = _ready(WATCHING, _blind(SubscriptionState.HOLDING, 1, upstream="node-7:32767"))

    assert [check.name for check in result.checks if not check.ok] == ["subscription node-7:32767"]


def test_without_any_subscription_it_is_not_ready() -> None:
    assert not _ready().ok


def test_a_queue_that_is_about_to_overflow_is_not_ready() -> None:
    assert _ready(WATCHING, held_bytes=899).ok

    result = _ready(WATCHING, held_bytes=900)
    assert not result.ok
    assert result.checks[-1].why == "90% full, ready below 90%"


def test_started_is_what_the_bridge_says() -> None:
    assert startupz(started=True).ok
    assert not startupz(started=False).ok


def test_a_subscription_that_has_heard_no_node_is_ready_and_says_so() -> None:
    result = _ready(replace(WATCHING, unheard_since_unix_nano=NOW - 90 * SECOND))
    assert result.ok
    assert result.checks[0].why == "watching; connected for 90 s, but no node has sent anything"


def test_nodes_that_are_silent_are_named() -> None:
    result = _ready(replace(WATCHING, silent_nodes=("a", "b")))
    assert result.ok
    assert result.checks[0].why == "watching; silent against their habit: a, b"


def test_a_lost_road_is_no_fault_while_another_road_to_the_same_events_is_watched() -> None:
    lost = _blind(SubscriptionState.HOLDING, 500, covered_by="relay-b:32767", last_error="PERMISSION_DENIED")

    result = _ready(lost, replace(WATCHING, upstream="relay-b:32767"))

    assert result.ok
    assert result.checks[0].why == (
        "holding, but relay-b:32767, a road to the same events, is watched: PERMISSION_DENIED"
    )
    assert not _ready(replace(lost, covered_by="")).ok
