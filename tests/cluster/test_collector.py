"""What k8s/collector has for Kubernetes: the Collector's rights, and its configurations as a ConfigMap."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.cluster.applied import STRICT, quiet
from tests.deploy.rendering import ROOT
from tests.peers.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

FOLDER = ROOT / "k8s" / "collector"
PLACE = "observability"
ACCOUNT = f"system:serviceaccount:{PLACE}:otel-collector"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
CONFIGURATIONS = sorted(file.name for file in FOLDER.glob("*.yaml") if file.name != "rbac.yaml")


def may(cluster: Cluster, verb: str, kind: str) -> bool:
    """Whether the Collector's account may do that anywhere in the cluster."""
    said = cluster.kubectl("auth", "can-i", verb, kind, f"--as={ACCOUNT}", "--all-namespaces")
    return said.stdout.strip() == "yes"


def test_the_collector_may_read_what_its_processor_reads_and_nothing_else(cluster: Cluster) -> None:
    for _ in range(2):
        quiet(cluster.kubectl("apply", *STRICT, "-f", FOLDER / "rbac.yaml"))
    try:
        for kind in ("pods", "namespaces", "nodes", "replicasets.apps", "deployments.apps", "jobs.batch"):
            assert all(may(cluster, verb, kind) for verb in ("get", "list", "watch")), kind
            assert not may(cluster, "delete", kind), kind
        assert not any(may(cluster, "get", kind) for kind in ("secrets", "configmaps", "serviceaccounts"))
    finally:
        quiet(cluster.kubectl("delete", "-f", FOLDER / "rbac.yaml"))
    assert not may(cluster, "list", "pods")


def test_each_configuration_is_taken_as_the_configmap_of_a_restricted_pod(cluster: Cluster) -> None:
    settings = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "otel-collector", "namespace": PLACE},
        "spec": {
            "serviceAccountName": "otel-collector",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "collector",
                    "image": "registry.example/otelcol-contrib:0.165.0",
                    "args": [f"--config=/etc/otelcol/{name}" for name in CONFIGURATIONS],
                    "securityContext": settings,
                    "volumeMounts": [{"name": "configuration", "mountPath": "/etc/otelcol"}],
                }
            ],
            "volumes": [{"name": "configuration", "configMap": {"name": "otel-collector"}}],
        },
    }
    place = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE, "labels": RESTRICTED}}
    data = {name: (FOLDER / name).read_text(encoding="utf-8") for name in CONFIGURATIONS}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "otel-collector", "namespace": PLACE},
        "data": data,
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "otel-collector", "namespace": PLACE}}
    try:
        for number, made in enumerate((place, account, config_map, pod)):
            quiet(cluster.kubectl("apply", *STRICT, "-f", cluster.file(f"collector-{number}.json", json.dumps(made))))
        (taken,) = cluster.get("configmap", "--field-selector=metadata.name=otel-collector", namespace=PLACE)
        assert taken["data"] == data
        assert all(isinstance(yaml.safe_load(text), dict) for text in taken["data"].values())
    finally:
        cluster.kubectl("delete", "pod", "otel-collector", "-n", PLACE, "--grace-period=0", "--force")
        quiet(cluster.kubectl("delete", "namespace", PLACE))
