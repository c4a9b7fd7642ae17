"""The commands of docs/install.md and README.md for a cluster, run as they stand there, in a copy of the tree."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.applied import NAMESPACE, clear, fences, pods, quiet
from tests.deploy.rendering import ROOT
from tests.peers.cluster import SETTLE_SECONDS, Cluster
from tests.peers.presence import required

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GUIDE = ROOT / "docs" / "install.md"
NODE, RELAY = "In a cluster: one bridge per node", "In a cluster: one bridge at the relay"
REGISTRY = "registry.example"

OTHERWHERE = {
    r"docker ": "needs a container engine; tests/deploy/test_image.py builds the image",
    r"kubectl .* (exec|port-forward) ": "needs a kubelet; tests/integration/cli runs doctor",
}
WAITS = {r"(kubectl .* rollout status .*)": r"\1 --watch=false"}
"""No kubelet makes a pod ready here."""


@pytest.fixture
def tree(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """What a reader has cloned; what was applied is gone afterwards."""
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s", ignore=shutil.ignore_patterns("__pycache__"))
    yield tmp_path
    clear(cluster)


def write_files(tree: Path, section: str) -> None:
    """The files that a section says to write: each names itself in its first line."""
    for fence in fences(GUIDE, section, "yaml"):
        head, _, content = fence.partition("\n")
        file = tree / head.removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(content.replace("REGISTRY", REGISTRY), encoding="utf-8")


def run_commands(cluster: Cluster, tree: Path, section: str, page: Path = GUIDE) -> list[str]:
    """Runs what can be run here; the commands that were."""
    ran = []
    for fence in fences(page, section, "sh"):
        for line in re.sub(r"\\\n\s*", " ", fence).splitlines():
            command = line.partition("   #")[0].replace("REGISTRY", REGISTRY).strip()
            if any(re.match(known, command) for known in OTHERWHERE):
                continue
            for waiting, asking in WAITS.items():
                command = re.sub(waiting, asking, command)
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                capture_output=True,
                text=True,
                check=False,
                cwd=tree,
                env=dict(cluster.environment),
                timeout=SETTLE_SECONDS,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            assert "Warning" not in done.stderr, done.stderr
            ran.append(command)
    return ran


def test_one_bridge_per_node(cluster: Cluster, tree: Path) -> None:
    write_files(tree, NODE)
    assert len(run_commands(cluster, tree, NODE)) == 4
    (daemon_set,) = cluster.get("daemonset", namespace=NAMESPACE)
    pod = daemon_set["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"{REGISTRY}/otelbridge:0.1.0"
    assert settings_of(cluster, pod)["send"] == {"endpoint": "http://COLLECTOR.NAMESPACE.svc:4317"}


def test_one_bridge_at_the_relay(cluster: Cluster, tree: Path) -> None:
    write_files(tree, NODE)
    write_files(tree, RELAY)
    overlay = tree / "mine" / "kustomization.yaml"
    overlay.write_text(overlay.read_text(encoding="utf-8").replace("overlays/node", "overlays/relay"), encoding="utf-8")
    for folder in ("k8s/cluster", "mine"):
        quiet(cluster.kubectl("apply", "--validate=strict", "-k", tree / folder))
    run_commands(cluster, tree, RELAY)
    (pod,) = pods(cluster, 1)
    assert settings_of(cluster, pod["spec"])["feed"] == {"endpoints": ["kubearmor.kubearmor.svc.cluster.local:32767"]}


def test_with_helm(cluster: Cluster, tree: Path) -> None:
    assert len(run_commands(cluster, tree, "With Helm")) == 2
    assert [set(one["metadata"]["labels"]) for one in cluster.get("daemonset", namespace=NAMESPACE)]


def test_the_readme(cluster: Cluster, tree: Path) -> None:
    commands = run_commands(cluster, tree, "In a cluster that runs KubeArmor", page=ROOT / "README.md")
    assert [command.split()[0] for command in commands] == ["helm", "kubectl"]
    (daemon_set,) = cluster.get("daemonset", namespace=NAMESPACE)
    assert daemon_set["spec"]["template"]["spec"]["containers"][0]["image"] == f"{REGISTRY}/otelbridge:0.1.0"


def test_the_client_secret_is_copied_and_mounted(cluster: Cluster, tree: Path) -> None:
    found = shutil.which("jq")
    required(Path(found) if found else None, name="jq", cure="apt-get install jq")
    for arguments in (
        ("apply", "-k", str(tree / "k8s" / "cluster")),
        ("create", "namespace", "kubearmor"),
        ("create", "secret", "generic", "kubearmor-client-certs", "-n", "kubearmor", "--from-literal=tls.crt=x"),
    ):
        quiet(cluster.kubectl(*arguments))
    run_commands(cluster, tree, "TLS towards KubeArmor")
    quiet(cluster.kubectl("apply", "--validate=strict", "-k", tree / "k8s" / "overlays" / "mtls"))
    secrets = [secret["metadata"]["name"] for secret in cluster.get("secret", namespace=NAMESPACE)]
    (pod,) = pods(cluster, 1)
    (mounted,) = [volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume]
    assert mounted in secrets


def test_a_namespace_is_annotated_as_troubleshooting_says(cluster: Cluster) -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`(kubectl annotate [^`]*)`", page)
    quiet(cluster.kubectl("create", "namespace", "annotated"))
    quiet(cluster.kubectl(*command.replace("NAME", "annotated").split()[1:]))
    quiet(cluster.kubectl("delete", "namespace", "annotated"))


def settings_of(cluster: Cluster, pod: dict[str, object]) -> dict[str, object]:
    """The settings file that a pod would read."""
    text = yaml.safe_dump(pod)
    (name,) = re.findall(r"configMap:\n\s+(?:defaultMode: \d+\n\s+)?name: (\S+)", text)
    (settings,) = [one for one in cluster.get("configmap", namespace=NAMESPACE) if one["metadata"]["name"] == name]
    found: dict[str, object] = yaml.safe_load(settings["data"]["otelbridge.yaml"])
    return found
