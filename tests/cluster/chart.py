"""The chart as helm renders it, and where that differs from what kustomize makes of the overlay of the same name."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.deploy.rendering import ROOT, Document, documents
from tests.peers.cluster import program

CHART = ROOT / "k8s" / "chart"
NAMESPACE = "otelbridge"
RENDER_SECONDS = 60

Key = tuple[str, str]
"""Kind and name of an object."""


def template(*arguments: str, release: str = "otelbridge") -> subprocess.CompletedProcess[str]:
    """What `helm template` says with these arguments; nothing is asked of a cluster."""
    return subprocess.run(
        [program("helm"), "template", release, CHART, "--namespace", NAMESPACE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=RENDER_SECONDS,
    )


def charted(overlay: str) -> list[Document]:
    """The objects that the chart makes with the values that stand for an overlay."""
    values = CHART / "ci" / f"{overlay}-values.yaml"
    release = yaml.safe_load(values.read_text(encoding="utf-8"))["mode"]
    done = template("--values", str(values), release=release)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return documents(done.stdout)


def comparable(found: list[Document]) -> dict[Key, dict[str, Any]]:
    """Each object as its fields' paths and values; settings parsed, without the hash in a name of kustomize's."""
    objects: dict[Key, dict[str, Any]] = {}
    for document in found:
        text = re.sub(r"(?<=name: otelbridge)-[0-9a-z]{10}$", "", yaml.safe_dump(document), flags=re.MULTILINE)
        plain = yaml.safe_load(text)
        settings = plain.get("data", {}).get("otelbridge.yaml")
        if settings is not None:
            plain["data"]["otelbridge.yaml"] = yaml.safe_load(settings)
        for container in plain.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            container["env"] = {variable["name"]: variable for variable in container["env"]}
            container["volumeMounts"] = {mount["name"]: mount for mount in container["volumeMounts"]}
        pod = plain.get("spec", {}).get("template", {}).get("spec", {})
        if "volumes" in pod:
            pod["volumes"] = {volume["name"]: volume for volume in pod["volumes"]}
        objects[plain["kind"], plain["metadata"]["name"]] = dict(_fields(plain))
    return objects


def differences(chart: Mapping[Key, Mapping[str, Any]], kustomize: Mapping[Key, Mapping[str, Any]]) -> Iterator[str]:
    """One line for each field that is not the same, as `Kind/name path: kustomize's -> the chart's`."""
    for key in sorted(chart.keys() | kustomize.keys()):
        ours, theirs = chart.get(key, {}), kustomize.get(key, {})
        for path in sorted(ours.keys() | theirs.keys()):
            if ours.get(path) != theirs.get(path):
                yield f"{'/'.join(key)} {path}: {theirs.get(path)} -> {ours.get(path)}"


def _fields(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _fields(value, f"{path}[{key}]" if "." in key or "/" in key else f"{path}.{key}")
    elif isinstance(node, list) and node:
        for index, value in enumerate(node):
            yield from _fields(value, f"{path}[{index}]")
    else:
        yield path, node
