"""What each of the chart's values does to the objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.cluster.chart import template
from tests.deploy.rendering import Document, documents

pytestmark = pytest.mark.cluster

GIVEN = {"image": {"repository": "r/otelbridge"}, "config": {"send": {"endpoint": "http://c:4317"}}}
DIGEST = "sha256:" + "a" * 64
Rendered = list[Document]


def workload(found: Rendered) -> Document:
    (one,) = [document for document in found if document["kind"] in {"DaemonSet", "StatefulSet"}]
    return one


def pod(found: Rendered) -> dict[str, Any]:
    spec: dict[str, Any] = workload(found)["spec"]["template"]["spec"]
    return spec


def container(found: Rendered) -> dict[str, Any]:
    first: dict[str, Any] = pod(found)["containers"][0]
    return first


def of_kind(found: Rendered, kind: str) -> Document:
    (one,) = [document for document in found if document["kind"] == kind]
    return one


def template_metadata(found: Rendered) -> dict[str, Any]:
    metadata: dict[str, Any] = workload(found)["spec"]["template"]["metadata"]
    return metadata


def settings(found: Rendered) -> dict[str, Any]:
    (text,) = [one["data"]["otelbridge.yaml"] for one in found if "otelbridge.yaml" in one.get("data", {})]
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


SECRET_VOLUME = {"name": "own", "secret": {"secretName": "s"}}
OWN_VARIABLE = {"name": "HTTPS_PROXY", "value": "http://p:3128"}

EFFECTS: dict[str, tuple[dict[str, Any], Callable[[Rendered], Any], Any]] = {
    "tag": ({"image": {"tag": "9.9.9"}}, lambda all_: container(all_)["image"], "r/otelbridge:9.9.9"),
    "digest": ({"image": {"digest": DIGEST}}, lambda all_: container(all_)["image"], f"r/otelbridge@{DIGEST}"),
    "pull policy": ({"image": {"pullPolicy": "Always"}}, lambda all_: container(all_)["imagePullPolicy"], "Always"),
    "pull secrets": (
        {"imagePullSecrets": [{"name": "s"}]},
        lambda all_: pod(all_)["imagePullSecrets"],
        [{"name": "s"}],
    ),
    "full name": ({"fullnameOverride": "other"}, lambda all_: workload(all_)["metadata"]["name"], "other"),
    "name": (
        {"nameOverride": "other"},
        lambda all_: template_metadata(all_)["labels"]["app.kubernetes.io/name"],
        "other",
    ),
    "no account": ({"serviceAccount": {"create": False}}, lambda all_: pod(all_)["serviceAccountName"], "default"),
    "own account": (
        {"serviceAccount": {"name": "other"}},
        lambda all_: of_kind(all_, "ServiceAccount")["metadata"]["name"],
        "other",
    ),
    "pod labels": ({"podLabels": {"a": "b"}}, lambda all_: template_metadata(all_)["labels"]["a"], "b"),
    "pod annotations": ({"podAnnotations": {"a": "b"}}, lambda all_: template_metadata(all_)["annotations"]["a"], "b"),
    "memory": (
        {"resources": {"limits": {"memory": "1Gi"}}},
        lambda all_: container(all_)["resources"]["limits"],
        {"memory": "1Gi", "ephemeral-storage": "1Gi"},
    ),
    "queue's room": (
        {"persistence": {"sizeLimit": "2Gi"}, "resources": {"limits": {"ephemeral-storage": "3Gi"}}},
        lambda all_: container(all_)["resources"]["requests"]["ephemeral-storage"],
        "2Gi",
    ),
    "no tolerations": ({"tolerations": []}, lambda all_: pod(all_).get("tolerations"), None),
    "tolerations": ({}, lambda all_: pod(all_)["tolerations"], [{"operator": "Exists"}]),
    "own affinity": (
        {"mode": "relay", "affinity": {"nodeAffinity": {}}},
        lambda all_: pod(all_)["affinity"],
        {"nodeAffinity": {}},
    ),
    "priority": ({"priorityClassName": "p"}, lambda all_: pod(all_)["priorityClassName"], "p"),
    "variables": ({"extraEnvs": [OWN_VARIABLE]}, lambda all_: container(all_)["env"][-1], OWN_VARIABLE),
    "variables from": (
        {"extraEnvsFrom": [{"secretRef": {"name": "s"}}]},
        lambda all_: container(all_)["envFrom"],
        [{"secretRef": {"name": "s"}}],
    ),
    "volumes": ({"extraVolumes": [SECRET_VOLUME]}, lambda all_: pod(all_)["volumes"][-1], SECRET_VOLUME),
    "mounts": (
        {"extraVolumes": [SECRET_VOLUME], "extraVolumeMounts": [{"name": "own", "mountPath": "/own"}]},
        lambda all_: container(all_)["volumeMounts"][-1],
        {"name": "own", "mountPath": "/own"},
    ),
    "status port": (
        {"config": {"status": {"port": 8080}}},
        lambda all_: container(all_)["ports"][0]["containerPort"],
        8080,
    ),
    "KubeArmor's address": (
        {"config": {"feed": {"endpoints": ["relay:32767"]}}},
        lambda all_: settings(all_)["feed"]["endpoints"],
        ["relay:32767"],
    ),
    "claim": (
        {"mode": "relay", "persistence": {"size": "5Gi", "storageClassName": "fast"}},
        lambda all_: workload(all_)["spec"]["volumeClaimTemplates"][0]["spec"],
        {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}},
    ),
    "roll-out": (
        {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}},
        lambda all_: workload(all_)["spec"]["updateStrategy"],
        {"type": "OnDelete"},
    ),
}


def merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {key: merged(below.get(key), above.get(key, below.get(key))) for key in below | above}
    return above


@pytest.mark.parametrize("value", EFFECTS)
def test_a_value_reaches_its_object_which_stays_a_valid_one(value: str, tmp_path: Path) -> None:
    given, look, expected = EFFECTS[value]
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(merged(GIVEN, given)), encoding="utf-8")
    done = template("--values", str(file))
    assert done.returncode == 0, done.stderr
    found = documents(done.stdout)
    assert look(found) == expected
    for document in found:
        kubernetes_validate.validate(document, "1.37", strict=True)
