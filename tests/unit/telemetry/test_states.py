from __future__ import annotations

import pytest

from otelbridge.telemetry import events as h
from otelbridge.telemetry.states import States
from tests.unit.telemetry.examples import example

SECOND = 1_000_000_000


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
