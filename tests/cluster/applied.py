"""What tests do with a cluster: a place of their own in it, objects applied strictly, and pods looked at."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.rendering import ROOT
from tests.peers.cluster import SETTLE_SECONDS, Cluster, Object
from tests.waiting import eventually

NAMESPACE = "otelbridge"
STRICT = ("--validate=strict", "--warnings-as-errors")


@contextmanager
def namespace(cluster: Cluster) -> Iterator[str]:
    """The namespace of k8s/cluster with what belongs to it; gone, with all that is in it, after the context."""
    quiet(cluster.kubectl("apply", *STRICT, "-k", ROOT / "k8s" / "cluster"))
    try:
        yield NAMESPACE
    finally:
        clear(cluster)


def clear(cluster: Cluster) -> None:
    """Takes the namespace away. No kubelet says that a pod has ended, so pods are removed without asking."""
    everything = ("--all", "-n", NAMESPACE)
    quiet(cluster.kubectl("delete", "daemonset,statefulset", *everything, "--cascade=orphan"))
    quiet(cluster.kubectl("delete", "pod", *everything, "--grace-period=0", "--force"), warned=True)
    there = ("--ignore-not-found", f"--timeout={SETTLE_SECONDS}s")
    quiet(cluster.kubectl("delete", "-k", ROOT / "k8s" / "cluster", *there))


def quiet(done: subprocess.CompletedProcess[str], *, warned: bool = False) -> str:
    """What it printed; fails where it failed, or said anything beside."""
    assert done.returncode == 0, done.stderr + done.stdout
    assert warned or not done.stderr, done.stderr
    return done.stdout


def overlay(name: str) -> Path:
    """The folder of an overlay."""
    return ROOT / "k8s" / "overlays" / name


def pods(cluster: Cluster, number: int) -> list[Object]:
    """The pods of the bridge, once the controllers have made so many."""

    def made() -> list[Object]:
        found = cluster.get("pod", "-l", "app.kubernetes.io/name=otelbridge", namespace=NAMESPACE)
        return found if len(found) == number else []

    return eventually(made, within_seconds=SETTLE_SECONDS, why=f"{number} pods: {complaints(cluster)}")


def pods_now(cluster: Cluster, component: str) -> list[Object]:
    """The pods of the bridge on the nodes, or of that at the relay, however many."""
    return cluster.get("pod", "-l", f"app.kubernetes.io/component={component}", namespace=NAMESPACE)


def complaints(cluster: Cluster) -> list[str]:
    """The warnings among the namespace's events, such as a pod that is refused."""
    events = cluster.get("events", "--field-selector=type=Warning", namespace=NAMESPACE)
    return [event.get("message", "") for event in events]


def scheduled(pod: Object) -> bool:
    """Whether it has a node."""
    return "nodeName" in pod["spec"]


def why_pending(pod: Object) -> str:
    """What the scheduler says of a pod that it has no node for; empty before it has looked."""
    conditions = pod.get("status", {}).get("conditions", [])
    return "".join(one.get("message", "") for one in conditions if one["type"] == "PodScheduled")


def uids(cluster: Cluster, kinds: Sequence[str]) -> dict[str, str]:
    """Kind and name of each object of some kinds, to its identity: another one after it was deleted and made again."""
    found = cluster.get(",".join(kinds), namespace=NAMESPACE)
    return {f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["uid"] for one in found}


def fences(page: Path, section: str, language: str) -> list[str]:
    """The fenced blocks of a language in one section of a page."""
    text = page.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert text, f"{page.name} has no section {section!r}"
    return [block.partition("\n```")[0] for block in text.split(f"```{language}\n")[1:]]
