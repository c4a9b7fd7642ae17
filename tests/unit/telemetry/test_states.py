from __future__ import annotations

import pytest

from otelbridge.event import Stream
from otelbridge.telemetry import events as h
from otelbridge.telemetry.metrics import of_states
from otelbridge.telemetry.states import TIMELINE_LENGTH, States
from tests.unit.telemetry.examples import example

SECOND = 1_000_000_000
RELAY = "relay:32767"


def _moved(after: str, why: str = "") -> h.StateChanged:
    return h.StateChanged(upstream=RELAY, before="idle", after=after, why=why)


def test_a_subscription_is_blind_from_the_start_until_it_watches() -> None:
    states = States()
    states.apply(_moved("connecting"), 5 * SECOND)
    assert states.subscriptions()[0].blind_since_unix_nano == 5 * SECOND

    states.apply(_moved("watching"), 7 * SECOND)
    assert states.subscriptions()[0].blind_since_unix_nano is None


def test_blindness_counts_from_its_first_state() -> None:
    states = States()
    for at, after in ((1, "watching"), (5, "suspect"), (9, "waiting"), (12, "connecting"), (15, "holding")):
        states.apply(_moved(after, "why"), at * SECOND)

    (mirror,) = states.subscriptions()
    assert mirror.blind_since_unix_nano == 9 * SECOND
    assert [change.state for change in states.timeline(RELAY)] == [
        "watching",
        "suspect",
        "waiting",
        "connecting",
        "holding",
    ]


def test_the_timeline_is_bounded() -> None:
    states = States()
    for at in range(3 * TIMELINE_LENGTH):
        states.apply(_moved("waiting" if at % 2 else "connecting"), at)

    assert len(states.timeline(RELAY)) == TIMELINE_LENGTH


def test_an_upstream_that_was_never_heard_of_has_no_timeline() -> None:
    assert States().timeline("nobody:1") == []


def test_the_end_of_a_replaced_connection_does_not_close_the_streams_of_the_new_one() -> None:
    states = States()
    for number in (1, 2):
        states.apply(_moved("connecting"), number)
        states.apply(example(h.StreamOpened, connection_id=f"c{number}", stream=Stream.ALERTS), number)
        states.apply(example(h.ConnectionAttempted, connection_id=f"c{number}", status_code="OK"), number)
    states.apply(example(h.StreamLost, connection_id="c1", stream=Stream.ALERTS), 3)
    states.apply(example(h.ConnectionEnded, connection_id="c1", planned=True), 3)

    assert states.subscriptions()[0].streams == {"alerts": "c2"}


def test_streams_that_opened_in_an_attempt_that_failed_are_closed() -> None:
    states = States()
    states.apply(_moved("connecting"), 1)
    states.apply(example(h.StreamOpened, connection_id="c1", stream=Stream.ALERTS), 2)
    states.apply(example(h.ConnectionAttempted, connection_id="c1", status_code="UNAVAILABLE"), 3)

    assert not states.subscriptions()[0].streams


def test_an_upstream_that_is_closed_is_forgotten() -> None:
    states = States()
    for after in ("connecting", "watching", "draining", "closed"):
        states.apply(_moved(after), SECOND)
    states.apply(example(h.ConnectionEnded), 2 * SECOND)

    assert states.subscriptions() == []


def test_the_endpoint_taking_records_again_is_told_once() -> None:
    states = States()
    assert states.apply(example(h.BatchAccepted), SECOND) == []
    assert states.apply(example(h.DeliveryDelayed), 10 * SECOND) == []
    assert states.apply(example(h.DeliveryHeld), 15 * SECOND) == []

    (resumed,) = states.apply(example(h.BatchAccepted), 40 * SECOND)
    assert resumed == h.DeliveryResumed(endpoint="http://collector:4317", away_seconds=25.0)
    assert states.apply(example(h.BatchAccepted), 41 * SECOND) == []


@pytest.mark.parametrize(
    ("told", "state"),
    [(h.BatchAccepted, "delivering"), (h.DeliveryDelayed, "delayed"), (h.DeliveryHeld, "held"), (h.BatchSplit, "idle")],
)
def test_the_endpoints_state_is_its_last_answer(told: type, state: str) -> None:
    states = States()
    states.apply(example(told), SECOND)

    assert states.deliveries()[0].state == state


def test_exactly_one_state_reads_as_one() -> None:
    states = States()
    states.apply(_moved("holding"), SECOND)
    reading = dict(of_states(states))["otelbridge.source.state"]

    assert [attributes["otelbridge.state"] for value, attributes in reading() if value == 1] == ["holding"]
