"""The chart through its life on a genuine API server: installed, upgraded, rolled back, uninstalled."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.applied import NAMESPACE, STRICT, namespace, pods, quiet, uids
from tests.cluster.chart import CHART
from tests.deploy.rendering import overlays
from tests.peers.cluster import SETTLE_SECONDS, TENANT, Cluster, program
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GIVEN = "image.repository=registry.example/otelbridge,config.send.endpoint=http://collector.example:4317"
RELAY = ("--set", GIVEN, "--set", "mode=relay")


@pytest.fixture
def place(cluster: Cluster) -> Iterator[Cluster]:
    with namespace(cluster):
        yield cluster


def helm(cluster: Cluster, verb: str, *arguments: str) -> str:
    done = cluster.helm(verb, *arguments, "--namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "warning" not in done.stderr.lower(), done.stderr
    return done.stdout


def workload_template(cluster: Cluster, kind: str) -> dict[str, object]:
    (one,) = cluster.get(kind, namespace=NAMESPACE)
    spec: dict[str, object] = one["spec"]["template"]["spec"]
    return spec


def settings(cluster: Cluster) -> dict[str, dict[str, object]]:
    (one,) = [item for item in cluster.get("configmap", namespace=NAMESPACE) if "otelbridge.yaml" in item["data"]]
    found: dict[str, dict[str, object]] = yaml.safe_load(one["data"]["otelbridge.yaml"])
    return found


@pytest.mark.parametrize("name", overlays())
def test_what_it_renders_is_taken_strictly_and_without_a_warning(place: Cluster, name: str) -> None:
    values = CHART / "ci" / f"{name}-values.yaml"
    text = helm(place, "template", "otelbridge", str(CHART), "--values", str(values))
    file = place.file("chart.yaml", text)
    quiet(place.kubectl("apply", *STRICT, "-f", file))


def test_the_linter_has_no_complaint() -> None:
    for values in sorted((CHART / "ci").glob("*.yaml")):
        done = subprocess.run(
            [program("helm"), "lint", "--strict", CHART, "--values", values],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" not in done.stdout + done.stderr


def test_a_release_is_installed_upgraded_rolled_back_and_uninstalled(place: Cluster) -> None:
    said = helm(place, "install", "kube-events", str(CHART), *RELAY)
    assert f"kubectl -n {NAMESPACE} rollout status statefulset/kube-events-otelbridge" in said
    (pod,) = pods(place, 1)
    assert pod["spec"]["containers"][0]["image"] == "registry.example/otelbridge:0.1.0"
    assert settings(place)["feed"] == {"endpoints": ["kubearmor.kubearmor.svc.cluster.local:32767"]}

    helm(
        place, "upgrade", "kube-events", str(CHART), *RELAY, "--set", "image.tag=0.2.0,config.queue.max_age_seconds=60"
    )
    assert "otelbridge:0.2.0" in json.dumps(workload_template(place, "statefulset"))
    assert settings(place)["queue"]["max_age_seconds"] == 60

    helm(place, "rollback", "kube-events", "1")
    assert "otelbridge:0.1.0" in json.dumps(workload_template(place, "statefulset"))
    assert "max_age_seconds" not in settings(place)["queue"]

    helm(place, "uninstall", "kube-events")
    assert uids(place, ("statefulset", "daemonset")) == {}
    kept = uids(place, ("persistentvolumeclaim", "serviceaccount"))
    assert set(kept) == {
        "PersistentVolumeClaim/queue-kube-events-otelbridge-0",
        "ServiceAccount/default",
        "ServiceAccount/otelbridge",
    }


def test_changed_settings_roll_the_pods_and_a_second_upgrade_does_not(place: Cluster) -> None:
    def checksum() -> str:
        (one,) = place.get("daemonset", namespace=NAMESPACE)
        return str(one["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    helm(place, "install", "otelbridge", str(CHART), "--set", GIVEN, "--set", "serviceAccount.create=false")
    first = checksum()
    helm(place, "upgrade", "otelbridge", str(CHART), "--set", GIVEN, "--set", "serviceAccount.create=false")
    assert checksum() == first
    helm(place, "upgrade", "otelbridge", str(CHART), "--reuse-values", "--set", "config.queue.overflow=drop_oldest")
    assert checksum() != first


def test_a_release_changes_its_mode(place: Cluster) -> None:
    helm(place, "install", "events", str(CHART), "--set", GIVEN)
    assert set(uids(place, ("daemonset", "statefulset"))) == {"DaemonSet/events-otelbridge"}
    helm(place, "upgrade", "events", str(CHART), "--reuse-values", "--set", "mode=relay")
    eventually(
        lambda: set(uids(place, ("daemonset", "statefulset"))) == {"StatefulSet/events-otelbridge"},
        within_seconds=SETTLE_SECONDS,
        why="the DaemonSet has given way",
    )


def test_a_second_release_beside_the_first_is_refused_before_anything_is_made(place: Cluster) -> None:
    helm(place, "install", "first", str(CHART), "--set", GIVEN)
    before = uids(place, ("daemonset", "statefulset", "configmap", "serviceaccount"))
    done = place.helm("install", "second", str(CHART), *RELAY, "--namespace", NAMESPACE)
    assert done.returncode != 0
    assert "otelbridge-either-node-or-relay" in done.stderr
    assert uids(place, ("daemonset", "statefulset", "configmap", "serviceaccount")) == before


def test_who_may_only_edit_the_namespace_can_install_it(place: Cluster) -> None:
    quiet(place.kubectl("create", "rolebinding", "tenant", "-n", NAMESPACE, "--clusterrole=admin", "--user=tenant"))
    assert place.kubectl("get", "namespaces", token=TENANT).returncode != 0, "the user may do more than meant"
    done = place.helm("install", "mine", CHART, "--set", GIVEN, "--namespace", NAMESPACE, token=TENANT)
    assert done.returncode == 0, done.stderr
    assert set(uids(place, ("daemonset",))) == {"DaemonSet/mine-otelbridge"}


def test_a_package_holds_what_is_rendered_and_not_what_kustomize_reads(tmp_path: Path) -> None:
    done = subprocess.run(
        [program("helm"), "package", CHART, "--destination", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        names = set(archive.getnames())
    assert "otelbridge/files/prometheusrule/prometheusrule.yaml" in names
    assert not [name for name in names if name.endswith("kustomization.yaml")]
