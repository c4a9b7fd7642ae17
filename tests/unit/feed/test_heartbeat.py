from __future__ import annotations

from random import Random

import pytest

from otelbridge.feed.heartbeat import HealthStatus, Heartbeat, judge


@pytest.mark.parametrize(
    ("misses", "received", "health"),
    [
        (0, False, HealthStatus.ALIVE),
        (0, True, HealthStatus.ALIVE),
        (1, True, HealthStatus.SUSPECT),
        (1, False, HealthStatus.DEAD),
        (2, True, HealthStatus.DEAD),
        (2, False, HealthStatus.DEAD),
    ],
)
def test_one_miss_is_deadly_only_when_nothing_else_came_in(misses: int, received: bool, health: HealthStatus) -> None:
    assert judge(misses, received_since_asking=received) is health


def test_bridges_do_not_ask_in_step() -> None:
    heartbeat = Heartbeat(interval_seconds=15, timeout_seconds=5, random=Random(1))
    pauses = {heartbeat.pause_seconds() for _ in range(100)}
    assert len(pauses) == 100
    assert all(13.5 <= pause <= 16.5 for pause in pauses)
