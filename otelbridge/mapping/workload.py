"""Maps where an event happened: node, pod and container attributes, and the service they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from otelbridge.kubearmor import labels_of
from otelbridge.mapping.image import image_attributes
from otelbridge.mapping.model import Values
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import Attribute, Value

PLACEHOLDER_CLUSTER = "default"  # what KubeArmor says when nobody named the cluster
OWNER_KEYS = {
    "Deployment": "k8s.deployment.name",
    "ReplicaSet": "k8s.replicaset.name",
    "StatefulSet": "k8s.statefulset.name",
    "DaemonSet": "k8s.daemonset.name",
    "Job": "k8s.job.name",
    "CronJob": "k8s.cronjob.name",
}
MAX_LABEL_KEY = 96  # VictoriaLogs takes names of 128 bytes
MAX_PARSED_LABELS = 64  # more would not help anybody; `kubearmor.labels` still has them all
# The order in which a workload's service name is looked for: OpenTelemetry's page on Kubernetes attributes.
SERVICE_LABELS = ("app.kubernetes.io/instance", "app.kubernetes.io/name")
SERVICE_OWNERS = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob", "Job")
# k8s_<container>_<pod>_<namespace>_<pod uid>_<restarts>: what dockershim calls a container.
_DOCKER_NAME = re.compile(r"k8s_([^_]+)_([^_]+)_([^_]+)_([0-9a-f-]{32,36})_(\d{1,9})")
_NOT_A_LABEL_KEY = re.compile(r"[^\w/-]", re.ASCII)
WORKLOAD = "workload"
"""As service name: each workload's own."""
SENSOR = "kubearmor"
"""The service of what happened outside of all containers."""


class Place(NamedTuple):
    """Attributes by level. How many levels stand on the resource is the operator's choice."""

    node: list[Attribute]
    pod: list[Attribute]
    container: list[Attribute]
    service: list[Attribute]
    """Of the workload, or of the sensor for a node's own events."""
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
    labels = labels_of(values.text("Labels"))
    on_labels, left_out = _label_attributes(labels, settings, keys.label_prefix)
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
        *on_labels,
    ]
    on_container: list[Attribute] = [
        (keys.container, container or values.text("ContainerName")),
        ("container.name", values.text("ContainerName") if docker else ""),
        *([("k8s.container.restart_count", int(restarts))] if docker else []),
        ("container.id", values.text("ContainerID")),
        *image_attributes(values.text("ContainerImage")),
    ]
    service = _service(values, labels, settings, (namespace, pod, container or values.text("ContainerName")))
    return Place(on_node, on_pod, on_container, service, left_out)


def _label_attributes(labels: Mapping[str, str], settings: MappingSettings, prefix: str) -> tuple[list[Attribute], int]:
    """The wanted labels as attributes, and how many had to be left out.

    Dots in a label's key, and whatever no key may hold, become `_`: `app` beside `app.kubernetes.io/name` would be both
    a value and an object to back-ends that nest keys at dots. Of two labels that then share a key the first is taken.
    """
    if not settings.parse_labels:
        return [], 0
    wanted = {key: value for key, value in labels.items() if not settings.label_keys or key in settings.label_keys}
    named: dict[str, Value] = {}
    for key, value in wanted.items():
        if len(named) < MAX_PARSED_LABELS and len(key) <= MAX_LABEL_KEY:
            named.setdefault(prefix + _NOT_A_LABEL_KEY.sub("_", key), value)
    return list(named.items()), len(wanted) - len(named)


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


def _service(
    values: Values, labels: Mapping[str, str], settings: MappingSettings, inside: tuple[str, str, str]
) -> list[Attribute]:
    """service.name, service.namespace and service.instance.id.

    Args:
        values: the event's own.
        labels: of its pod.
        settings: they may name one service for all.
        inside: namespace, pod and container, empty for a node's own event.
    """
    namespace, pod, container = inside
    level = settings.resource_granularity
    if settings.service_name != WORKLOAD:
        return [("service.name", settings.service_name)]
    if level == "node" or not (pod or container):
        return [("service.name", SENSOR)]
    instance = (namespace, pod, container if level == "container" else "")
    return [
        ("service.name", _service_name(values, labels, pod, container)),
        ("service.namespace", namespace),
        ("service.instance.id", ".".join(name for name in instance if name)),
    ]


def _service_name(values: Values, labels: Mapping[str, str], pod: str, container: str) -> str:
    for label in SERVICE_LABELS:
        if labels.get(label):
            return labels[label]
    if values.text("Owner.Ref") in SERVICE_OWNERS and values.text("Owner.Name"):
        return values.text("Owner.Name")
    return pod or container
