from __future__ import annotations

import pytest

from docs import tables
from otelbridge.feed.model import (
    STREAM_MOVES,
    SUBSCRIPTION_MOVES,
    IllegalMoveError,
    Machine,
    StreamState,
    SubscriptionState,
)


@pytest.mark.parametrize("before", SubscriptionState)
@pytest.mark.parametrize("after", SubscriptionState)
def test_a_subscription_moves_as_the_table_says_and_no_other_way(
    before: SubscriptionState, after: SubscriptionState
) -> None:
    machine = Machine(before, SUBSCRIPTION_MOVES)
    if after in SUBSCRIPTION_MOVES[before]:
        assert machine.move(after) is before
        assert machine.state is after
    else:
        with pytest.raises(IllegalMoveError, match=f"no move from {before} to {after}"):
            machine.move(after)
        assert machine.state is before


def test_every_state_can_be_reached_and_every_state_can_be_drained() -> None:
    reached = {SubscriptionState.IDLE}.union(*SUBSCRIPTION_MOVES.values())
    assert reached == set(SubscriptionState)
    living = set(SubscriptionState) - {SubscriptionState.DRAINING, SubscriptionState.CLOSED}
    assert all(SubscriptionState.DRAINING in SUBSCRIPTION_MOVES[state] for state in living)
    assert not SUBSCRIPTION_MOVES[SubscriptionState.CLOSED]


def test_every_stream_state_has_its_moves_and_can_be_closed() -> None:
    assert set(STREAM_MOVES) == set(StreamState)
    assert all(StreamState.CLOSED in moves for state, moves in STREAM_MOVES.items() if state != StreamState.CLOSED)


def test_the_documentation_lists_every_state() -> None:
    assert all(f"| {state} |" in tables.states() for state in SubscriptionState)
