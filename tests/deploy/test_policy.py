from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from otelbridge.queue.settings import QueueSettings
from otelbridge.setting import section_from
from otelbridge.settings.tree import BridgeSettings
from otelbridge.status.settings import DEFAULT_STATUS_PORT
from tests.deploy.rendering import RENDERED, ROOT, Document, documents, overlays

pytestmark = pytest.mark.parametrize("overlay", overlays())

CLUSTER = ROOT / "k8s" / "cluster"
EITHER = "otelbridge-either-node-or-relay"
WORKLOADS = {"DaemonSet", "Deployment", "StatefulSet"}
UNITS = {"Mi": 1024**2, "Gi": 1024**3}
LABELS = {"app.kubernetes.io/name", "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by"}
DOWNWARD = {"status.hostIP": "10.0.0.7", "spec.nodeName": "node-7", "metadata.uid": "0b8a"}
"""What a kubelet would fill in; everything else becomes `x`."""


def example(overlay: str) -> list[Document]:
    return documents((RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8"))


def of_kind(overlay: str, *kinds: str) -> list[Document]:
    return [document for document in example(overlay) if document["kind"] in kinds]


def workload(overlay: str) -> Document:
    (one,) = of_kind(overlay, *WORKLOADS)
    return one


def pod(overlay: str) -> dict[str, Any]:
    spec: dict[str, Any] = workload(overlay)["spec"]["template"]["spec"]
    return spec


def container(overlay: str) -> dict[str, Any]:
    (one,) = pod(overlay)["containers"]
    assert isinstance(one, dict)
    return one


def pod_labels(overlay: str) -> dict[str, str]:
    labels: dict[str, str] = workload(overlay)["spec"]["template"]["metadata"]["labels"]
    return labels


def cluster_wide() -> list[Document]:
    found = [document for file in CLUSTER.glob("*.yaml") for document in documents(file.read_text(encoding="utf-8"))]
    return [document for document in found if document["kind"] != "Kustomization"]


def settings_file(overlay: str) -> str:
    (volume,) = [volume for volume in pod(overlay)["volumes"] if volume["name"] == "settings"]
    name = volume["configMap"]["name"]
    found = [config for config in of_kind(overlay, "ConfigMap") if config["metadata"]["name"] == name]
    assert found, "the pod would wait for a map that is not there"
    text: str = found[0]["data"]["otelbridge.yaml"]
    return text


def size(quantity: str) -> int:
    """Bytes of a quantity such as 512Mi."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def environment(overlay: str) -> dict[str, str]:
    """The container's variables as a kubelet expands them."""
    values: dict[str, str] = {}
    for variable in container(overlay)["env"]:
        if "value" in variable:
            text = re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], variable["value"])
        else:
            text = DOWNWARD.get(variable["valueFrom"]["fieldRef"]["fieldPath"], "x")
        values[variable["name"]] = text
    return values


def test_deleting_the_overlay_takes_nothing_that_another_one_needs(overlay: str) -> None:
    assert not of_kind(overlay, "Namespace", "PriorityClass", "ServiceAccount", "PersistentVolumeClaim")


def test_the_cluster_has_the_account_and_the_priority_that_the_pod_names(overlay: str) -> None:
    once = {(document["kind"], document["metadata"]["name"]) for document in cluster_wide()}
    assert ("ServiceAccount", pod(overlay)["serviceAccountName"]) in once
    assert ("PriorityClass", pod(overlay)["priorityClassName"]) in once


def test_the_other_way_is_refused_by_name_and_never_scheduled(overlay: str) -> None:
    way = pod_labels(overlay)["app.kubernetes.io/component"]
    (either,) = [one for one in of_kind(overlay, "ConfigMap") if one["metadata"]["name"] == EITHER]
    assert (either["immutable"], either["data"]) == (True, {"way": way})
    if way == "relay":
        (term,) = pod(overlay)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        avoided = {rule["key"]: rule["values"] for rule in term["labelSelector"]["matchExpressions"]}
        assert set(term["labelSelector"]) == {"matchExpressions"}, "kustomize added a label of its own"
        assert {key: [value] for key, value in pod_labels("node").items() if key in avoided} == avoided
        assert term["topologyKey"] in pod(overlay)["nodeSelector"], "one place for all nodes that it may run on"


def test_the_pod_is_a_restricted_one(overlay: str) -> None:
    context, inner = pod(overlay)["securityContext"], container(overlay)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 65532
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inner["allowPrivilegeEscalation"] is False
    assert inner["readOnlyRootFilesystem"] is True
    assert inner["capabilities"] == {"drop": ["ALL"]}
    assert not inner.get("privileged")


def test_it_shares_nothing_with_the_node(overlay: str) -> None:
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod(overlay))
    assert not [volume for volume in pod(overlay)["volumes"] if "hostPath" in volume]
    assert not [port for port in container(overlay)["ports"] if "hostPort" in port]


def test_it_cannot_ask_the_kubernetes_api(overlay: str) -> None:
    assert pod(overlay)["automountServiceAccountToken"] is False
    assert pod(overlay)["enableServiceLinks"] is False
    assert not of_kind(overlay, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def test_the_probes_ask_the_status_server(overlay: str) -> None:
    (port,) = container(overlay)["ports"]
    assert (port["name"], port["containerPort"]) == ("status", DEFAULT_STATUS_PORT)
    paths = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        assert container(overlay)[probe]["httpGet"] == {"path": path, "port": "status"}
    settings = yaml.safe_load(settings_file(overlay))
    assert settings["status"]["host"] == "::", "the kubelet of an IPv6 cluster could not reach it"


def test_a_bridge_that_recovers_a_full_queue_has_two_minutes_to_start(overlay: str) -> None:
    probe = container(overlay)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 120


def test_the_grace_period_covers_the_drain_and_its_end(overlay: str) -> None:
    assert pod(overlay)["terminationGracePeriodSeconds"] >= BridgeSettings().drain_seconds + 15


def test_memory_is_bounded_and_cpu_is_not(overlay: str) -> None:
    resources = container(overlay)["resources"]
    assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["requests"])
    assert "ephemeral-storage" in resources["limits"]
    assert size(resources["limits"]["memory"]) >= 2 * size(resources["requests"]["memory"])
    assert "cpu" not in resources["limits"], "a throttled reader overflows KubeArmor's buffers"


def test_the_queue_fits_its_volume(overlay: str) -> None:
    queue = section_from(QueueSettings, yaml.safe_load(settings_file(overlay))["queue"])
    volumes = [volume for volume in pod(overlay)["volumes"] if volume["name"] == "queue"]
    if volumes:
        (volume,) = volumes
        room = size(volume["emptyDir"]["sizeLimit"])
        resources = container(overlay)["resources"]
        assert size(resources["requests"]["ephemeral-storage"]) >= room
        assert size(resources["limits"]["ephemeral-storage"]) > room, (
            "the pod would be evicted before the queue is full"
        )
    else:
        (claim,) = workload(overlay)["spec"]["volumeClaimTemplates"]
        assert claim["metadata"]["name"] == "queue"
        room = size(claim["spec"]["resources"]["requests"]["storage"])
    assert room >= 1.2 * queue.max_bytes + queue.dead_letter_max_bytes
    (mount,) = [mount for mount in container(overlay)["volumeMounts"] if mount["name"] == "queue"]
    assert Path(mount["mountPath"]) == queue.directory


def test_a_new_version_changes_no_template_of_a_claim(overlay: str) -> None:
    for claim in workload(overlay)["spec"].get("volumeClaimTemplates", []):
        assert "app.kubernetes.io/version" not in claim["metadata"]["labels"]


def test_only_one_bridge_owns_a_queue(overlay: str) -> None:
    one = workload(overlay)
    assert one["kind"] in {"DaemonSet", "StatefulSet"}, "of a Deployment two pods may run, while a node is away"
    if one["kind"] == "StatefulSet":
        assert one["spec"]["replicas"] == 1


def test_the_queue_outlives_its_workload(overlay: str) -> None:
    one = workload(overlay)
    if one["kind"] == "StatefulSet":
        kept = one["spec"]["persistentVolumeClaimRetentionPolicy"]
        assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_the_relay_may_use_more_cpu_than_a_node(overlay: str) -> None:
    asked = {"node": "50m", "relay": "250m"}[pod_labels(overlay)["app.kubernetes.io/component"]]
    assert container(overlay)["resources"]["requests"]["cpu"] == asked


def test_the_image_has_a_version(overlay: str) -> None:
    image = container(overlay)["image"]
    assert re.search(r"(:\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})$", image), image
    assert container(overlay)["imagePullPolicy"] == "IfNotPresent"


def test_every_object_is_labelled_and_the_selectors_never_change(overlay: str) -> None:
    for document in example(overlay):
        assert set(document["metadata"].get("labels", {})) >= LABELS, f"{document['kind']}: labels are missing"
    selector = workload(overlay)["spec"]["selector"]["matchLabels"]
    assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    assert selector.items() <= workload(overlay)["spec"]["template"]["metadata"]["labels"].items()


def test_the_relay_would_not_take_the_pod_for_a_kubearmor(overlay: str) -> None:
    assert "kubearmor-app" not in (RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8")


def test_everything_stands_in_the_one_namespace(overlay: str) -> None:
    assert {document["metadata"].get("namespace") for document in example(overlay)} == {"otelbridge"}


def test_the_bridge_itself_accepts_the_settings_and_the_environment(overlay: str, tmp_path: Path) -> None:
    file = tmp_path / "otelbridge.yaml"
    # The one thing that a kubelet would do and this machine cannot: mount the certificates and the queue.
    file.write_text(settings_file(overlay).replace("/var/lib/otelbridge", str(tmp_path)), encoding="utf-8")
    values = environment(overlay)
    mounted = tmp_path / "tls"
    mounted.mkdir()
    values = {name: text.replace("/etc/otelbridge-kubearmor", str(mounted)) for name, text in values.items()}
    write_certificates(mounted)
    done = subprocess.run(
        [Path(sys.executable).parent / "otelbridge", "config", "check", "--config", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **values},
    )
    assert done.returncode == 0, done.stderr + done.stdout


def write_certificates(folder: Path) -> None:
    """The three files of KubeArmor's client secret."""
    authority = trustme.CA()
    identity = authority.issue_cert("kubearmor.kubearmor.svc.cluster.local")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    identity.private_key_pem.write_to_path(folder / "tls.key")
    identity.cert_chain_pems[0].write_to_path(folder / "tls.crt")
