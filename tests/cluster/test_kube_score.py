"""kube-score's judgement of what the overlays render to; what it finds and we keep stands here with its reason."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.deploy.rendering import RENDERED, overlays
from tests.peers.cluster import program

pytestmark = pytest.mark.cluster

ACCEPTED = {
    "CPU limit is not set": "A throttled reader overflows KubeArmor's buffers, and events are lost there.",
    "ImagePullPolicy is not set to Always": "A bridge must start while the registry is away. Deploy by digest.",
    "The pod does not have a matching NetworkPolicy": "A component, since its namespaces are the cluster's own.",
    "StatefulSet does not have a valid serviceName": "Nobody looks its one pod up: it needs a claim, not a name.",
}
ALL_OK = 10


def findings(overlay: str) -> set[str]:
    """What is not well, in kube-score's words."""
    done = subprocess.run(
        [program("kube-score"), "score", "--output-format", "json", RENDERED / f"{overlay}.yaml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return {
        comment["summary"]
        for scored in json.loads(done.stdout)
        for check in scored["checks"]
        if not check["skipped"] and check["grade"] < ALL_OK
        for comment in check["comments"]
    }


@pytest.mark.parametrize("overlay", overlays())
def test_it_finds_nothing_that_is_not_accepted(overlay: str) -> None:
    assert findings(overlay) - ACCEPTED.keys() == set()


def test_nothing_is_accepted_that_it_no_longer_finds() -> None:
    assert {words for overlay in overlays() for words in findings(overlay)} == set(ACCEPTED)


def test_the_network_policy_answers_its_finding() -> None:
    assert "The pod does not have a matching NetworkPolicy" not in findings("monitored")
