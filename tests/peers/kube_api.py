"""As much of a Kubernetes API as a Collector asks for: lists of objects, and watches on which nothing ever happens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

KINDS = {
    "pods": "Pod",
    "namespaces": "Namespace",
    "nodes": "Node",
    "replicasets": "ReplicaSet",
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet",
    "jobs": "Job",
    "cronjobs": "CronJob",
}
POLL_SECONDS = 0.05


@contextmanager
def start_kube_api(folder: Path, objects: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Path]:
    """A running API with some objects by resource name (`pods`, ...); gives the kubeconfig that leads to it."""
    ending = threading.Event()

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            resource, query = url.path.rpartition("/")[2], parse_qs(url.query)
            if resource not in KINDS:
                self._answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})
            elif "sendInitialEvents" in query:  # an older API, which cannot begin a watch with a list
                self._answer(422, {"kind": "Status", "apiVersion": "v1", "reason": "Invalid", "code": 422})
            elif query.get("watch") in (["true"], ["1"]):
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.flush()
                ending.wait()
            else:
                version = "v1" if url.path.startswith("/api/v1/") else "/".join(url.path.split("/")[2:4])
                items = [dict(item) for item in objects.get(resource, ())]
                listed = {"kind": f"{KINDS[resource]}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}}
                self._answer(200, {**listed, "items": items})

        def _answer(self, code: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server gives it
            pass

    # Its threads wait on connections that a client keeps open: they end with the process that asks, not with us.
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), name="kube-api")
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {}}],
        "current-context": "test",
    }
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
    try:
        yield kubeconfig
    finally:
        ending.set()
        server.shutdown()
        thread.join()
        server.server_close()
