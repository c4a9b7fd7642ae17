"""Where it happened: cluster, node, pod and container in, attributes of three levels out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from otelbridge.mapping.model import Values
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import Attribute

PLACEHOLDER_CLUSTER = "default"  # what KubeArmor says when nobody named the cluster
OWNER_KEYS = {
    "Deployment": "k8s.deployment.name",
    "ReplicaSet": "k8s.replicaset.name",
    "StatefulSet": "k8s.statefulset.name",
    "DaemonSet": "k8s.daemonset.name",
    "Job": "k8s.job.name",
    "CronJob": "k8s.cronjob.name",
}
MAX_PARSED_LABELS = 64  # more would not help anybody; `kubearmor.labels` still has them all
# The order in which a workload's service name is looked for, after OpenTelemetry's non-normative k8s-attributes page.
SERVICE_LABELS = ("app.kubernetes.io/instance", "app.kubernetes.io/name")
SERVICE_OWNERS = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob", "Job")
# k8s_<container>_<pod>_<namespace>_<pod uid>_<restarts>: what dockershim calls a container.
_DOCKER_NAME = re.compile(r"k8s_([^_]+)_([^_]+)_([^_]+)_([0-9a-f-]{32,36})_(\d{1,9})")
_DIGEST = re.compile(r"@?(sha\d{3}:[0-9a-f]+)$")


class Place(NamedTuple):
    """Attributes by level. How many levels stand on the resource is the operator's choice."""

    node: list[Attribute]
    pod: list[Attribute]
    container: list[Attribute]
    service_name: str
    labels_left_out: int
    """Labels that were not parsed because there were too many."""


class Keys(NamedTuple):
    """The keys that differ between a cluster and a plain machine with containers."""

    cluster: str
    namespace: str
    pod: str
    container: str
    label_prefix: str


KUBERNETES = Keys("k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name", "k8s.pod.label.")
MACHINE = Keys("kubearmor.cluster.name", "kubearmor.namespace", "kubearmor.pod", "container.name", "container.label.")


def place(values: Values, settings: MappingSettings) -> Place:
    """The attributes of the place where an event happened."""
    keys = KUBERNETES if settings.kubernetes else MACHINE
    docker = _DOCKER_NAME.fullmatch(values.text("ContainerName")) if settings.kubernetes else None
    container, pod, namespace, pod_uid, restarts = docker.groups() if docker else ("", "", "", "", "")
    namespace = values.text("NamespaceName") or namespace
    pod = values.text("PodName") or pod
    labels = parse_labels(values.text("Labels")) if settings.parse_labels else {}
    wanted = {k: v for k, v in labels.items() if not settings.label_keys or k in settings.label_keys}
    kept = dict(list(wanted.items())[:MAX_PARSED_LABELS])
    host, host_ip = values.text("HostName"), values.text("HostIP")
    node_id = values.text("NodeID")
    on_node: list[Attribute] = [
        *_cluster(values.text("ClusterName"), settings.cluster_name, keys.cluster),
        ("host.name", host),
        ("k8s.node.name", host if settings.kubernetes else ""),
        ("host.id", node_id if node_id != host else ""),
        ("host.ip", [host_ip] if host_ip else []),
    ]
    on_pod: list[Attribute] = [
        (keys.namespace, namespace),
        (keys.pod, pod),
        ("k8s.pod.uid", pod_uid),
        *_owner(values, namespace, pod),
        *((keys.label_prefix + key, value) for key, value in kept.items()),
    ]
    on_container: list[Attribute] = [
        (keys.container, container or values.text("ContainerName")),
        ("container.name", values.text("ContainerName") if docker else ""),
        *([("k8s.container.restart_count", int(restarts))] if docker else []),
        ("container.id", values.text("ContainerID")),
        *image_attributes(values.text("ContainerImage")),
    ]
    name = settings.service_name
    if name == "workload":
        name = _service_name(values, labels, pod, container or values.text("ContainerName"))
    return Place(on_node, on_pod, on_container, name, len(wanted) - len(kept))


def parse_labels(text: str) -> dict[str, str]:
    """`k=v,k2=v2`, sorted. A part without `=` belongs to the value before it: Docker's values may hold commas."""
    pairs: list[tuple[str, list[str]]] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals and key:
            pairs.append((key, [value]))
        elif pairs:
            pairs[-1][1].append(part)
    return dict(sorted((key, ",".join(values)) for key, values in pairs))


def image_attributes(image: str) -> Iterator[Attribute]:
    """Name, tag and digest of `repo:tag@sha256:digest`, any part of which may be missing, even the `@`."""
    if not image:
        return
    found = _DIGEST.search(image)
    digest = found[1] if found else ""
    rest = image[: found.start()] if found else image
    slash, colon = rest.rfind("/"), rest.rfind(":")
    name, tag = (rest[:colon], rest[colon + 1 :]) if colon > slash else (rest, "")
    yield "container.image.name", name
    yield "container.image.tags", [tag] if tag else []
    yield "container.image.repo_digests", [f"{name}@{digest}"] if digest else []
    rebuilt = name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    yield "kubearmor.container.image", image if rebuilt != image else ""


def _cluster(reported: str, configured: str, key: str) -> Iterator[Attribute]:
    yield key, configured or reported
    if configured and reported != configured and reported.lower() != PLACEHOLDER_CLUSTER:
        yield "kubearmor.cluster.reported", reported


def _owner(values: Values, namespace: str, pod: str) -> Iterator[Attribute]:
    kind, name = values.text("Owner.Ref"), values.text("Owner.Name")
    if name and kind in OWNER_KEYS:
        yield OWNER_KEYS[kind], name
    elif not (kind == "Pod" and name and name == pod):  # a bare pod owns itself
        yield "kubearmor.owner.kind", kind
        yield "kubearmor.owner.name", name
    if values.text("Owner.Namespace") != namespace:
        yield "kubearmor.owner.namespace", values.text("Owner.Namespace")


def _service_name(values: Values, labels: Mapping[str, str], pod: str, container: str) -> str:
    for label in SERVICE_LABELS:
        if labels.get(label):
            return labels[label]
    if values.text("Owner.Ref") in SERVICE_OWNERS and values.text("Owner.Name"):
        return values.text("Owner.Name")
    return pod or container or "kubearmor"
