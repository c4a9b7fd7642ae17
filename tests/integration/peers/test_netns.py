"""The namespaces that black-hole tests run in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.netns import SERVER_ADDRESS, NetworkPair, network_pair
from tests.simulated import SimulatorProcess

ROOT = Path(__file__).resolve().parents[3]
CLIENT = """
import sys
from tests.integration.simulator.watching import channel_to, health_check
with channel_to(sys.argv[1]) as channel:
    print(health_check(channel, 7, float(sys.argv[2])))
"""


def ask(pair: NetworkPair, endpoint: str, timeout_seconds: float) -> subprocess.CompletedProcess[str]:
    command = (*pair.on_client, sys.executable, "-c", CLIENT, endpoint, str(timeout_seconds))
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


@pytest.mark.netns
def test_a_cut_cable_is_silent_and_a_mended_one_carries_again() -> None:
    with network_pair() as pair, SimulatorProcess(("--host", SERVER_ADDRESS), prefix=pair.on_server) as simulator:
        assert ask(pair, simulator.endpoint, 10).stdout == "7\n"

        pair.cut()
        assert "DEADLINE_EXCEEDED" in ask(pair, simulator.endpoint, 0.5).stderr

        pair.mend()
        assert ask(pair, simulator.endpoint, 10).stdout == "7\n"


@pytest.mark.netns
def test_the_namespaces_are_gone_afterwards() -> None:
    with network_pair() as pair:
        pass

    left = subprocess.run(("ip", "netns", "list"), capture_output=True, text=True, check=True).stdout
    assert pair.server not in left
    assert pair.client not in left
