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
from otelbridge.settings.tree import BridgeSettings
from otelbridge.status.settings import DEFAULT_STATUS_PORT
from tests.deploy.rendering import RENDERED, ROOT, Document, documents, overlays

pytestmark = pytest.mark.parametrize("overlay", overlays())

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


def test_the_namespace_allows_restricted_pods_only(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


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
    assert settings["status"]["host"] == "0.0.0.0", "the kubelet could not reach it"


def test_a_bridge_that_recovers_a_full_queue_has_two_minutes_to_start(overlay: str) -> None:
    probe = container(overlay)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 120


def test_the_grace_period_covers_the_drain_and_its_end(overlay: str) -> None:
    assert pod(overlay)["terminationGracePeriodSeconds"] >= BridgeSettings().drain_seconds + 15


def test_memory_is_bounded_and_cpu_is_not(overlay: str) -> None:
    resources = container(overlay)["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert size(resources["limits"]["memory"]) >= 2 * size(resources["requests"]["memory"])
    assert "cpu" not in resources["limits"], "a throttled reader overflows KubeArmor's buffers"


def test_the_queue_fits_its_volume(overlay: str) -> None:
    queue = QueueSettings.model_validate(yaml.safe_load(settings_file(overlay))["queue"])
    (volume,) = [volume for volume in pod(overlay)["volumes"] if volume["name"] == "queue"]
    if "emptyDir" in volume:
        room = size(volume["emptyDir"]["sizeLimit"])
        resources = container(overlay)["resources"]
        assert size(resources["requests"]["ephemeral-storage"]) >= room
        assert size(resources["limits"]["ephemeral-storage"]) > room, (
            "the pod would be evicted before the queue is full"
        )
    else:
        (claim,) = of_kind(overlay, "PersistentVolumeClaim")
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        room = size(claim["spec"]["resources"]["requests"]["storage"])
    assert room >= 1.2 * queue.max_bytes + queue.dead_letter_max_bytes
    (mount,) = [mount for mount in container(overlay)["volumeMounts"] if mount["name"] == "queue"]
    assert Path(mount["mountPath"]) == queue.directory


def test_only_one_bridge_owns_a_queue(overlay: str) -> None:
    one = workload(overlay)
    if one["kind"] == "Deployment":
        assert one["spec"]["replicas"] == 1
        assert one["spec"]["strategy"] == {"type": "Recreate"}


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
    spread = {document["metadata"].get("namespace") for document in example(overlay)}
    assert spread == {"otelbridge", None}
    without = {document["kind"] for document in example(overlay) if "namespace" not in document["metadata"]}
    assert without <= {"Namespace", "PriorityClass"}


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
