"""A genuine OpenSearch: one node on the loopback address that takes documents in bulk and makes its mappings itself."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.peers.presence import ROOT, on_path, required, required_jars
from tests.peers.process import PeerProcess, answers_ok, free_ports

JARS = ROOT / "build" / "jars"
VERSION = "2.19.6"
REQUEST_SECONDS = 60
BULK_DOCUMENTS = 1_000

LOGGING = """
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""
HTTP_MODULE = f"""
name=transport-netty4
description=HTTP and the nodes' own protocol
version={VERSION}
opensearch.version={VERSION}
java.version=11
classname=org.opensearch.transport.Netty4Plugin
"""
HTTP_RIGHTS = """
grant {
  permission java.net.SocketPermission "*", "accept,connect";
  permission java.lang.RuntimePermission "accessDeclaredMembers";
  permission java.lang.RuntimePermission "getClassLoader";
  permission java.lang.reflect.ReflectPermission "suppressAccessChecks";
  permission java.io.FilePermission "/proc/sys/net/core/somaxconn", "read";
  permission java.util.PropertyPermission "*", "read,write";
};
"""
"""What its security manager lets netty do."""


class OpenSearch:
    """One that runs."""

    def __init__(self, process: PeerProcess, *, url: str) -> None:
        self.process, self.url = process, url

    def index(self, name: str, documents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Stores documents by their ids; returns why some were refused, by id."""
        refused = {}
        ids = list(documents)
        for start in range(0, len(ids), BULK_DOCUMENTS):
            lines: list[Mapping[str, Any]] = []
            for one in ids[start : start + BULK_DOCUMENTS]:
                lines += [{"index": {"_id": one}}, documents[one]]
            body = "".join(json.dumps(line) + "\n" for line in lines)
            for item in self._ask("POST", f"/{name}/_bulk", body)["items"]:
                error = item["index"].get("error")
                if error:
                    refused[item["index"]["_id"]] = f"{error['reason']} {error.get('caused_by', '')}"
        self._ask("POST", f"/{name}/_refresh")
        return refused

    def count(self, name: str, query: Mapping[str, Any]) -> int:
        """How many documents a query finds."""
        return int(self._ask("POST", f"/{name}/_count", json.dumps({"query": query}))["count"])

    def fields(self, name: str) -> dict[str, str]:
        """Every field of an index, objects too, with its type, as its limit of fields counts them."""
        (mapping,) = self._ask("GET", f"/{name}/_mapping").values()
        return dict(_fields(mapping["mappings"]))

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            data=body.encode() if body is not None else None,
            headers={"content-type": "application/x-ndjson" if path.endswith("_bulk") else "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
            return json.load(answer)


def _fields(mapping: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for kind in ("properties", "fields"):
        for name, field in mapping.get(kind, {}).items():
            yield f"{prefix}{name}", field.get("type", "object")
            yield from _fields(field, f"{prefix}{name}.")


@contextmanager
def start_opensearch(folder: Path) -> Iterator[OpenSearch]:
    """A running OpenSearch, ended with the context; the test ends here when it was not fetched."""
    cure = "tests/peers/jars/assemble"
    java = required(on_path("java"), name="Java", cure="apt-get install openjdk-17-jre-headless")
    jars = required_jars(JARS / "opensearch", name="the genuine OpenSearch", cure=cure)
    http_jars = required_jars(JARS / "opensearch-http", name="the genuine OpenSearch", cure=cure)
    http_port, transport_port = free_ports(2)
    home = folder / "opensearch"
    module = home / "modules" / "transport-netty4"
    shutil.copytree(http_jars, module)
    (module / "plugin-descriptor.properties").write_text(HTTP_MODULE, encoding="utf-8")
    (module / "plugin-security.policy").write_text(HTTP_RIGHTS, encoding="utf-8")
    config = home / "config"
    config.mkdir()
    (config / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
    settings = {
        "discovery.type": "single-node",
        "network.host": "127.0.0.1",
        "http.port": http_port,
        "transport.port": transport_port,
        "cluster.routing.allocation.disk.threshold_enabled": False,
        "node.store.allow_mmap": False,
    }
    (config / "opensearch.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    argv = [
        # It refuses to run as root. In a user namespace it is somebody else who owns the same files.
        *(["unshare", "--user", "--map-user=1000"] if os.geteuid() == 0 else []),
        str(java),
        "-Xms512m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-Djava.security.manager=allow",
        f"-Dopensearch.path.home={home}",
        f"-Dopensearch.path.conf={config}",
        "-Dopensearch.distribution.type=zip",
        "-Dlog4j2.disable.jmx=true",
        "-cp",
        f"{jars}/*",
        "org.opensearch.bootstrap.OpenSearch",
    ]
    url = f"http://127.0.0.1:{http_port}"
    process = PeerProcess(
        argv, output=folder / "opensearch.log", is_up=lambda: answers_ok(f"{url}/_cluster/health"), start_seconds=120
    )
    process.start()
    try:
        yield OpenSearch(process, url=url)
    finally:
        process.kill()  # what it holds goes with the test's folder
