"""Maps where an event happened: node, pod, container and image attributes, and the service they belong to.

KubeArmor joins a pod's `status.image` with what stands behind the `@` of `status.imageID`, or with all of that where it
holds no `@`: so a digest may come twice, without its `@`, with a runtime's scheme before it, or instead of a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from otelbridge.event import labels_of
from otelbridge.mapping.model import Values, Workload
from otelbridge.mapping.settings import MappingSettings
from otelbridge.mapping.wire import Attribute, Value

_RUNTIME = "(?:docker|docker-pullable|containerd|cri-o)://"
_LAST_DIGEST = re.compile(
    rf"(?P<before>@|{_RUNTIME})?(?P<digest>(?:sha256|sha384|sha512|blake3):[0-9a-fA-F]{{32,128}})$"
)
_SCHEME = re.compile(_RUNTIME)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_BARE_ID = re.compile(rf"(?:{_RUNTIME}|(?<!:))(?P<id>[0-9a-f]{{64}})$")  # CRI-O's have no algorithm before them
MAX_DIGEST_TEXT = 160  # with a scheme before it: so much of the end is searched, however long the reference is
BEFORE_COLON = len("docker-pullable://sha256")
MAX_DIGESTS = 4


class Image(NamedTuple):
    """The parts that the reference has; empty where it has none."""

    name: str
    tag: str
    digests: tuple[str, ...]
    """Of manifests, each behind an `@`, in the order of the reference."""
    id: str
    """Of the image itself, which stands for its configuration: no registry can be asked for it."""

    def text(self) -> str:
        """The reference, put together again."""
        return self.name + (f":{self.tag}" if self.tag else "") + "".join(f"@{digest}" for digest in self.digests)


def parse_image(reference: str) -> Image:
    """The parts of an image's reference; never fails."""
    digests: list[str] = []
    image_id = ""
    rest = reference
    while len(digests) < MAX_DIGESTS:
        found = _LAST_DIGEST.search(rest, max(0, len(rest) - MAX_DIGEST_TEXT, rest.rfind(":") - BEFORE_COLON))
        if found is None:
            break
        rest = rest[: found.start()]
        if found["before"] == "@":
            digests.insert(0, found["digest"])
        else:
            image_id = image_id or found["digest"]
    if not image_id and not digests and "@" not in rest:
        bare = _BARE_ID.search(rest, max(0, len(rest) - MAX_DIGEST_TEXT))
        image_id, rest = (bare["id"], rest[: bare.start()]) if bare else ("", rest)
    name, tag = _name_and_tag(next(filter(None, _SCHEME.split(rest)), "").partition("@")[0])
    return Image(name, tag, tuple(dict.fromkeys(digests)), image_id)


def image_attributes(reference: str) -> list[Attribute]:
    """The image's attributes, and the whole reference where they do not say it."""
    if not reference:
        return []
    image = parse_image(reference)
    return [
        ("container.image.name", image.name),
        ("container.image.tags", [image.tag] if image.tag else []),
        ("container.image.id", image.id),
        ("container.image.repo_digests", [f"{image.name}@{digest}" for digest in image.digests if image.name]),
        ("oci.manifest.digest", image.digests[-1] if image.digests else ""),
        ("kubearmor.container.image", "" if image.text() == reference and image.name else reference),
    ]


def _name_and_tag(text: str) -> tuple[str, str]:
    slash, colon = text.rfind("/"), text.rfind(":")
    if colon > slash and _TAG.fullmatch(text[colon + 1 :]):
        return text[:colon], text[colon + 1 :]
    return text.rstrip(":"), ""


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


class WorkloadAttributes(NamedTuple):
    """Attributes by level. How many levels stand on the resource is the operator's choice."""

    node: list[Attribute]
    pod: list[Attribute]
    container: list[Attribute]
    service: list[Attribute]
    """Of the workload, or of the sensor for a node's own events."""
    workload: Workload
    """The namespace, and the controller of whatever kind, else the pod, else the container; as metrics count by."""
    labels: Mapping[str, str]
    """As they are, sorted."""
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


def workload_attributes(values: Values, settings: MappingSettings) -> WorkloadAttributes:
    """The attributes of the workload, or the node, that an event is about."""
    keys = KUBERNETES if settings.kubernetes else MACHINE
    given = values["ContainerName"]
    docker = _DOCKER_NAME.fullmatch(given) if settings.kubernetes else None
    container, pod, namespace, pod_uid, restarts = docker.groups() if docker else (given, "", "", "", "")
    namespace = values["NamespaceName"] or namespace
    pod = values["PodName"] or pod
    labels = labels_of(values["Labels"])
    on_labels, left_out = _label_attributes(labels, settings, keys.label_prefix)
    host, host_ip = values["HostName"], values["HostIP"]
    node_id = values["NodeID"]
    on_node: list[Attribute] = [
        *_cluster(values["ClusterName"], settings.cluster_name, keys.cluster),
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
        (keys.container, container),
        *([("container.name", given), ("k8s.container.restart_count", int(restarts))] if docker else []),
        ("container.id", values["ContainerID"]),
        *image_attributes(values["ContainerImage"]),
    ]
    service = _service(values, labels, settings, (namespace, pod, container))
    workload = (namespace, values["Owner.Name"] or pod or container)
    return WorkloadAttributes(on_node, on_pod, on_container, service, workload, labels, left_out)


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


def _cluster(reported: str, configured: str, key: str) -> list[Attribute]:
    if configured and reported != configured and reported.lower() != PLACEHOLDER_CLUSTER:
        return [(key, configured), ("kubearmor.cluster.reported", reported)]
    return [(key, configured or reported)]


def _owner(values: Values, namespace: str, pod: str) -> list[Attribute]:
    kind, name, owner_namespace = values["Owner.Ref"], values["Owner.Name"], values["Owner.Namespace"]
    attributes: list[Attribute] = []
    if name and kind in OWNER_KEYS:
        attributes.append((OWNER_KEYS[kind], name))
    elif not (kind == "Pod" and name and name == pod):  # a bare pod owns itself
        attributes += [("kubearmor.owner.kind", kind), ("kubearmor.owner.name", name)]
    if owner_namespace != namespace:
        attributes.append(("kubearmor.owner.namespace", owner_namespace))
    return attributes


def _service(
    values: Values, labels: Mapping[str, str], settings: MappingSettings, inside: tuple[str, str, str]
) -> list[Attribute]:
    """service.name, service.namespace and service.instance.id; nothing is `inside` for a node's own event."""
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
    owner: str = values["Owner.Name"]
    return (owner if values["Owner.Ref"] in SERVICE_OWNERS else "") or pod or container
