"""Every overlay on a genuine API server: strictly, without a warning, and to the pods that come of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.applied import (
    NAMESPACE,
    STRICT,
    complaints,
    namespace,
    overlay,
    pods,
    pods_now,
    quiet,
    scheduled,
    uids,
    why_pending,
)
from tests.deploy.rendering import ROOT, overlays
from tests.peers.cluster import SETTLE_SECONDS, Cluster
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NODES = ("node-a", "node-b")
KINDS = ("daemonset", "statefulset", "configmap", "serviceaccount", "persistentvolumeclaim")


@pytest.fixture(scope="module")
def with_nodes(cluster: Cluster) -> Cluster:
    for name in NODES:
        cluster.add_node(name)
    return cluster


@pytest.fixture
def place(with_nodes: Cluster) -> Iterator[Cluster]:
    with namespace(with_nodes):
        yield with_nodes


@pytest.fixture
def volume(place: Cluster) -> Iterator[None]:
    """What a provisioner would make for the relay's claim; without it, the scheduler looks no further."""
    name = "queue"
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": NAMESPACE, "name": "queue-otelbridge-0"},
            "csi": {"driver": "test.example", "volumeHandle": name},
        },
    }
    quiet(place.kubectl("apply", "-f", place.file("volume.yaml", yaml.safe_dump(manifest))))
    yield
    quiet(place.kubectl("delete", "persistentvolume", name, "--wait=false"))


def expected_pods(name: str) -> int:
    return len(NODES) if name in {"node", "monitored"} else 1


@pytest.mark.parametrize("name", overlays())
def test_it_applies_strictly_and_without_a_warning_and_makes_its_pods(place: Cluster, name: str) -> None:
    quiet(place.kubectl("apply", *STRICT, "-k", overlay(name)))
    made = pods(place, expected_pods(name))
    for pod in made:
        assert pod["spec"]["priority"] == 1_000_000
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert quiet(place.kubectl("diff", "-k", overlay(name))) == "", "applied again, it would change something"


@pytest.mark.parametrize("name", overlays())
def test_a_second_apply_changes_nothing(place: Cluster, name: str) -> None:
    def generation() -> int:
        (one,) = place.get("daemonset,statefulset", namespace=NAMESPACE)
        return int(one["metadata"]["generation"])

    quiet(place.kubectl("apply", *STRICT, "-k", overlay(name)))
    before = generation()
    quiet(place.kubectl("apply", *STRICT, "-k", overlay(name)))
    assert generation() == before


def test_the_namespace_refuses_a_pod_that_is_not_restricted(place: Cluster) -> None:
    done = place.kubectl("run", "free", "--image=x", "-n", NAMESPACE)
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr


def test_deleting_the_relay_leaves_the_namespace_the_account_and_the_queue(place: Cluster) -> None:
    quiet(place.kubectl("apply", *STRICT, "-k", overlay("relay")))
    pods(place, 1)
    before = uids(place, ("persistentvolumeclaim", "serviceaccount"))
    assert "PersistentVolumeClaim/queue-otelbridge-0" in before
    quiet(place.kubectl("delete", "-k", overlay("relay"), "--wait=false"))
    assert uids(place, ("persistentvolumeclaim", "serviceaccount")) == before
    assert uids(place, ("statefulset",)) == {}


@pytest.mark.usefixtures("volume")
def test_a_relay_beside_nodes_is_refused_by_name_is_never_scheduled_and_leaves_no_trace(place: Cluster) -> None:
    quiet(place.kubectl("apply", *STRICT, "-k", overlay("node")))
    wait_until_scheduled(place, "node", len(NODES))
    before = uids(place, KINDS)

    refused = place.kubectl("apply", *STRICT, "-k", overlay("relay"))
    assert refused.returncode != 0
    assert "otelbridge-either-node-or-relay" in refused.stderr
    assert "immutable" in refused.stderr
    wait_until_kept_away(place, "relay")

    place.kubectl("delete", "-k", overlay("relay"), "--wait=false")
    after = uids(place, KINDS)
    gone = {name for name in before if after.get(name) != before[name]}
    assert gone <= {"ConfigMap/otelbridge-either-node-or-relay"}


@pytest.mark.usefixtures("volume")
def test_nodes_beside_a_relay_are_never_scheduled_either(place: Cluster) -> None:
    quiet(place.kubectl("apply", *STRICT, "-k", overlay("relay")))
    wait_until_scheduled(place, "relay", 1)

    assert place.kubectl("apply", *STRICT, "-k", overlay("node")).returncode != 0
    wait_until_kept_away(place, "node")


@pytest.mark.parametrize("name", ["node", "relay"])
def test_a_new_version_is_taken(place: Cluster, name: str) -> None:
    """A StatefulSet's claim, a selector and an immutable object could each refuse it."""
    rendered = (ROOT / "k8s" / "rendered" / f"{name}.yaml").read_text(encoding="utf-8")
    quiet(place.kubectl("apply", *STRICT, "-k", overlay(name)))
    newer = [document for document in yaml.safe_load_all(rendered.replace("0.1.0", "0.2.0")) if document]
    file = place.file("newer.yaml", yaml.safe_dump_all(newer))
    quiet(place.kubectl("apply", *STRICT, "-f", file))
    pods(place, expected_pods(name))


def wait_until_scheduled(cluster: Cluster, component: str, number: int) -> None:
    eventually(
        lambda: sum(scheduled(pod) for pod in pods_now(cluster, component)) == number,
        within_seconds=SETTLE_SECONDS,
        why=f"{number} pods have a node: {complaints(cluster)}",
    )


def wait_until_kept_away(cluster: Cluster, component: str) -> None:
    """The scheduler has looked at every pod of a way, and says that it may not stand beside the others."""

    def refused() -> bool:
        found = pods_now(cluster, component)
        return bool(found) and all("anti-affinity" in why_pending(pod) for pod in found)

    eventually(refused, within_seconds=SETTLE_SECONDS, why=f"the pods of {component} have no node")
    assert not [pod for pod in pods_now(cluster, component) if scheduled(pod)]
