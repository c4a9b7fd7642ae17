"""grpc-go's rule for a client's pings."""

from __future__ import annotations

from tests.peers.ping_policy import PingPolicy


def test_the_fourth_ping_within_the_interval_is_one_too_many() -> None:
    policy = PingPolicy(300)

    assert [policy.pinged(now) for now in (15, 30, 45, 60)] == [False, False, False, True]


def test_pings_as_far_apart_as_the_interval_are_free() -> None:
    policy = PingPolicy(300)

    assert not any(policy.pinged(300 * number) for number in range(20))


def test_a_written_frame_makes_the_next_ping_free_and_forgives_the_strikes() -> None:
    policy = PingPolicy(300)
    for now in (15, 30, 45):
        policy.pinged(now)

    policy.wrote()

    assert [policy.pinged(now) for now in (60, 75, 90, 105)] == [False, False, False, True]
