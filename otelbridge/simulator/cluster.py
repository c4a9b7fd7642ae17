"""A seed in, an invented cluster out: nodes, and pods of ordinary workloads spread over them."""

from __future__ import annotations

import random
from dataclasses import dataclass

NODES = 20
PODS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a team deploys."""

    name: str
    kind: str
    namespace: str
    container: str
    image: str
    process: str
    """Path of the container's main process."""
    folders: tuple[str, ...]
    """Where it reads and writes files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of the cluster."""

    name: str
    node_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One instance of a workload, on a node."""

    workload: Workload
    node: Node
    name: str
    labels: str
    container_id: str
    image: str
    """With its digest."""
    main_host_pid: int


def _workload(row: tuple[str, str, str, str, str, str, str]) -> Workload:
    name, kind, namespace, container, image, process, folders = row
    return Workload(
        name=name,
        kind=kind,
        namespace=namespace,
        container=container,
        image=image,
        process=process,
        folders=tuple(folders.split()),
    )


WORKLOADS = tuple(
    _workload(row)
    for row in (
        ("frontend", "Deployment", "shop", "web", "docker.io/library/nginx:1.27.1", "/usr/sbin/nginx", "/etc/nginx /var/cache/nginx /usr/share/nginx/html"),  # noqa: E501 - a table
        ("checkout", "Deployment", "shop", "checkout", "ghcr.io/shop/checkout:4.2.0", "/app/checkout", "/app/config /tmp /var/run/secrets/kubernetes.io/serviceaccount"),  # noqa: E501
        ("orders-db", "StatefulSet", "shop", "postgres", "docker.io/library/postgres:16.4", "/usr/lib/postgresql/16/bin/postgres", "/var/lib/postgresql/data/base /var/lib/postgresql/data/pg_wal"),  # noqa: E501
        ("cart-cache", "StatefulSet", "shop", "redis", "docker.io/library/redis:7.4", "/usr/local/bin/redis-server", "/data /etc/redis"),  # noqa: E501
        ("payments", "Deployment", "payments", "api", "registry.corp.example:5000/payments/api:2024.11", "/usr/bin/java", "/opt/payments/lib /opt/payments/conf /tmp/hsperfdata_app"),  # noqa: E501
        ("ledger", "Deployment", "payments", "ledger", "registry.corp.example:5000/payments/ledger:2024.11", "/usr/local/bin/python3.12", "/srv/ledger /usr/local/lib/python3.12/site-packages"),  # noqa: E501
        ("wordpress", "Deployment", "wordpress-mysql", "wordpress", "docker.io/library/wordpress:6.6-apache", "/usr/sbin/apache2", "/var/www/html/wp-content /var/www/html/wp-includes /etc/apache2"),  # noqa: E501
        ("mysql", "StatefulSet", "wordpress-mysql", "mysql", "docker.io/library/mysql:8.4", "/usr/sbin/mysqld", "/var/lib/mysql /etc/mysql"),  # noqa: E501
        ("log-shipper", "DaemonSet", "observability", "fluent-bit", "cr.fluentbit.io/fluent/fluent-bit:3.1.7", "/fluent-bit/bin/fluent-bit", "/var/log/containers /fluent-bit/etc"),  # noqa: E501
        ("nightly-report", "CronJob", "batch", "report", "ghcr.io/corp/report:1.9", "/usr/bin/node", "/srv/report /srv/report/node_modules /tmp"),  # noqa: E501
    )
)  # fmt: skip


def invent_pods(seed: int, *, nodes: int = NODES, pods: int = PODS) -> tuple[Pod, ...]:
    """The same cluster for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - made up, not secret
    machines = [Node(name=f"node-{number:02}", node_id=_hex(chance, 32)) for number in range(1, nodes + 1)]
    digests = {workload: _hex(chance, 64) for workload in WORKLOADS}
    return tuple(
        _pod(chance, WORKLOADS[number % len(WORKLOADS)], machines[number % nodes], number, digests)
        for number in range(pods)
    )


def _pod(chance: random.Random, workload: Workload, node: Node, number: int, digests: dict[Workload, str]) -> Pod:
    ordinal = number // len(WORKLOADS)
    suffix = f"{ordinal}" if workload.kind == "StatefulSet" else f"{_hex(chance, 9)}-{_hex(chance, 5)}"
    return Pod(
        workload=workload,
        node=node,
        name=f"{workload.name}-{suffix}",
        labels=f"app={workload.name},app.kubernetes.io/part-of={workload.namespace},release=r{ordinal % 3}",
        container_id=_hex(chance, 64),
        image=f"{workload.image}@sha256:{digests[workload]}",
        main_host_pid=chance.randrange(2_000, 4_000_000),
    )


def _hex(chance: random.Random, digits: int) -> str:
    return f"{chance.getrandbits(4 * digits):0{digits}x}"
