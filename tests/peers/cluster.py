"""A genuine Kubernetes control plane without kubelets: etcd, API server, controllers, scheduler on free ports."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.peers.presence import ROOT, required
from tests.peers.process import PeerProcess, answers_ok, free_ports
from tests.waiting import eventually

BUILT = ROOT / "build" / "cluster"
CURE = "make cluster"

ADMIN, TENANT = "admin-token", "tenant-token"
"""Of a user who may do everything, and of one who may do what somebody binds to the name `tenant`."""

WITHOUT = ("nodeipam", "nodelifecycle", "taint-eviction-controller")
"""Controllers that would look after nodes: there are none, or some that no kubelet stands behind."""

COMMAND_SECONDS = 120
SETTLE_SECONDS = 60

Object = dict[str, Any]


def program(name: str) -> Path:
    """One of what tests/cluster/build makes; the test ends here when it was not built."""
    return required(BUILT / name, name=f"the genuine {name}", cure=CURE)


class Cluster:
    """A control plane that runs, and the two programs that people talk to it with."""

    def __init__(self, folder: Path, *, url: str) -> None:
        self._folder, self._url = folder, url
        self._environment = {
            "PATH": f"{BUILT}:{os.environ['PATH']}",
            "HOME": str(folder),  # kubectl and helm keep caches there
            "KUBECONFIG": str(self.kubeconfig(ADMIN)),
        }

    @property
    def environment(self) -> Mapping[str, str]:
        """Under which kubectl and helm are on PATH and talk to this cluster, as the user who may do everything."""
        return self._environment

    def kubeconfig(self, token: str) -> Path:
        """The file that leads here as the user of a token."""
        file = self._folder / f"kubeconfig-{token}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self._url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        return file

    def kubectl(self, *arguments: str | Path, token: str = ADMIN) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; what it answered, whatever that is."""
        return self._run(program("kubectl"), *arguments, token=token)

    def helm(self, *arguments: str | Path, token: str = ADMIN) -> subprocess.CompletedProcess[str]:
        """Runs helm; what it answered, whatever that is."""
        return self._run(program("helm"), *arguments, token=token)

    def file(self, name: str, text: str) -> Path:
        """A file to apply."""
        path = self._folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def get(self, kind: str, *arguments: str, namespace: str) -> list[Object]:
        """The objects of a kind, as the API server has them."""
        done = self.kubectl("get", kind, "-n", namespace, "-o", "json", *arguments)
        assert done.returncode == 0, done.stderr
        items: list[Object] = json.loads(done.stdout)["items"]
        return items

    def add_node(self, name: str) -> None:
        """A node that is ready and runs nothing: the scheduler gives it pods, and no kubelet starts them."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}}}
        room = {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "20Gi", "pods": "20"}
        status = {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}
        for arguments in (
            ("create", "-f", self.file("node.json", json.dumps(node))),
            ("patch", "node", name, "--subresource=status", "-p", json.dumps({"status": status})),
            ("taint", "node", name, "node.kubernetes.io/not-ready-"),
        ):
            done = self.kubectl(*arguments)
            assert done.returncode == 0, done.stderr

    def _run(self, path: Path, *arguments: str | Path, token: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [path, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
            cwd=self._folder,
            env={**self._environment, "KUBECONFIG": str(self.kubeconfig(token))},
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def start_cluster(folder: Path) -> Iterator[Cluster]:
    """A running control plane with the Prometheus operator's types, ended with the context.

    Args:
        folder: for its files; it must exist.
    """
    etcd, peer, api, controllers, scheduler = free_ports(5)
    url = f"https://127.0.0.1:{api}"
    _write_keys(folder)
    cluster = Cluster(folder, url=url)
    account = folder / "account.key"
    argv = {
        "etcd": [
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={api}",
            f"--cert-dir={folder / 'api'}",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={account}",
            f"--service-account-signing-key-file={account}",
        ],
        "kube-controller-manager": [
            f"--kubeconfig={cluster.kubeconfig(ADMIN)}",
            f"--controllers=*,{','.join('-' + name for name in WITHOUT)}",
            "--bind-address=127.0.0.1",
            f"--secure-port={controllers}",
            f"--cert-dir={folder / 'controllers'}",
            f"--service-account-private-key-file={account}",
            "--leader-elect=false",
        ],
        "kube-scheduler": [
            f"--kubeconfig={cluster.kubeconfig(ADMIN)}",
            "--bind-address=127.0.0.1",
            f"--secure-port={scheduler}",
            f"--cert-dir={folder / 'scheduler'}",
            "--leader-elect=false",
        ],
    }
    healthy = {
        "etcd": lambda: answers_ok(f"http://127.0.0.1:{etcd}/health"),
        "kube-apiserver": lambda: _answers_ok(f"{url}/readyz"),
        "kube-controller-manager": lambda: _answers_ok(f"https://127.0.0.1:{controllers}/healthz"),
        "kube-scheduler": lambda: _answers_ok(f"https://127.0.0.1:{scheduler}/healthz"),
    }
    with ExitStack() as running:
        for name, arguments in argv.items():
            process = PeerProcess([str(program(name)), *arguments], output=folder / f"{name}.log", is_up=healthy[name])
            process.start()
            running.callback(process.kill)
        _give_it_what_every_cluster_has(cluster)
        yield cluster


def _give_it_what_every_cluster_has(cluster: Cluster) -> None:
    done = cluster.kubectl("apply", "--server-side", "-f", BUILT / "crds")
    assert done.returncode == 0, done.stderr
    established = cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={SETTLE_SECONDS}s")
    assert established.returncode == 0, established.stderr
    eventually(
        lambda: cluster.get("serviceaccount", namespace="default"),
        within_seconds=SETTLE_SECONDS,
        why="the controllers made the default account",
    )


def _write_keys(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (folder / "account.key").write_bytes(pem)
    tokens = f'{ADMIN},admin,1,"system:masters"\n{TENANT},tenant,2\n'
    (folder / "tokens.csv").write_text(tokens, encoding="utf-8")


def _answers_ok(url: str) -> bool:
    """As the user who may do everything; its certificate is of its own making."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN}"})
    context = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
