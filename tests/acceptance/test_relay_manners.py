"""What a relay and its nodes do without a word: each stretch that was not seen has its record, to the last event."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from otelbridge.simulator.upstream import NODE
from tests.acceptance.relay_manners import NAMES, stage
from tests.oracle import GAP_SLACK_NANOS
from tests.waiting import eventually

KNOWN_SECONDS = 25.0
"""A node's habit is known after 20 s of events."""


def test_a_stalled_relay_and_a_node_that_is_killed_behind_it_leave_no_silent_gap(tmp_path: Path) -> None:
    with stage(tmp_path) as relay:
        with relay.publishing(per_second_and_node=10):
            relay.pause(5)
            relay.happen("stall:8s")
            relay.pause(KNOWN_SECONDS)
            relay.happen("node-kill:10s")
            relay.pause(16)
        assert len(relay.missing()) > 150, "the faults have cost something"
        eventually(
            lambda: not relay.silently_missing(slack_nanos=GAP_SLACK_NANOS),
            within_seconds=15,
            why="each stretch has its record",
        )
        gaps = relay.gaps()
        assert {(gap.cause, gap.stream) for gap in gaps} == {
            *(("stall", stream) for stream in ("alerts", "logs", "messages")),
            ("node_silent", "all"),
        }
        assert [gap.node for gap in gaps if gap.cause == "node_silent"] == [NAMES[0]]
        assert len(gaps) == 4, "nothing is suspected that was not"
        assert relay.bridge.status()["subscriptions"][0]["attempts"] == 1, "the connection has stayed all the time"
        assert relay.bridge.balances()


def test_kubearmors_own_shutdown_and_a_relay_that_is_terminated_leave_no_silent_gap(tmp_path: Path) -> None:
    with stage(tmp_path) as relay:
        with relay.publishing(per_second_and_node=50):
            for fault in ("shutdown:2s", "term:2s", "kill:1s"):
                relay.pause(3)
                relay.happen(fault)
                relay.bridge.wait_until_watching()
            relay.pause(2)
        assert relay.missing()
        eventually(
            lambda: not relay.silently_missing(slack_nanos=GAP_SLACK_NANOS),
            within_seconds=15,
            why="each stretch has its record",
        )
        assert {gap.cause for gap in relay.gaps()} == {"disconnect"}
        assert relay.bridge.balances()


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped meanwhile", "not dropped"])
def test_a_bridge_that_stands_still_itself_leaves_no_silent_gap(dropped: bool, tmp_path: Path) -> None:
    with stage(tmp_path, replace(NODE, ping_timeout_seconds=1 if dropped else 30)) as relay:
        with relay.publishing(per_second_and_node=20):
            relay.pause(4)
            relay.bridge.process.freeze()
            relay.pause(8)
            relay.bridge.process.thaw()
            relay.pause(1)
            relay.bridge.wait_until_watching()
            relay.pause(2)
        eventually(
            lambda: (
                relay.gaps()
                and bool(relay.missing()) is dropped
                and not relay.silently_missing(slack_nanos=GAP_SLACK_NANOS)
            ),
            within_seconds=15,
            why="each stretch has its record",
        )
        assert {gap.cause for gap in relay.gaps()} - {"disconnect", "heartbeat_loss", "stall"} == {"pause"}
        assert relay.bridge.balances()
