"""Chart and kustomize make the same objects; each difference stands here with its reason."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.cluster.chart import charted, comparable, differences, template
from tests.deploy.rendering import ROOT, documents, overlays, rendered

pytestmark = pytest.mark.cluster

LABEL = r"\.metadata\.labels\[.*\]"
EXPLAINED = {
    rf".*{LABEL}: kustomize -> Helm": "app.kubernetes.io/managed-by says who it was",
    r".*\.metadata\.labels\[helm\.sh/chart\]: None -> otelbridge-.*": "helm's convention",
    r"(DaemonSet|StatefulSet)/.*\.annotations\[checksum/config\]: None -> [0-9a-f]{64}": "rolls the pods when the "
    "settings change; kustomize has a hash in the settings' name for that",
    r"ConfigMap/otelbridge-either-node-or-relay \.immutable: True -> None": "a release may change its mode; another "
    "one is refused by helm, since the object is not its own",
    r"ServiceAccount/.*\[app\.kubernetes\.io/(component|instance|version)\]: None -> .*": "kustomize's account is "
    "shared by all overlays",
    r"(NetworkPolicy|PodMonitor|PrometheusRule|ConfigMap/otelbridge-dashboard-\w+)/?.*"
    r"\[app\.kubernetes\.io/(component|instance|version)\]: None -> .*": "kustomize's components know no overlay",
    r"(NetworkPolicy/otelbridge \.spec\.podSelector|PodMonitor/otelbridge \.spec\.selector)\.matchLabels"
    r"\[app\.kubernetes\.io/instance\]: None -> node": "the same: only this release's pods",
}


@pytest.mark.parametrize("overlay", overlays())
def test_they_make_the_same_objects_but_for_what_is_explained(overlay: str) -> None:
    account = yaml.safe_load(rendered(ROOT / "k8s" / "cluster").split("---\n")[1])
    assert account["kind"] == "ServiceAccount"
    kustomized = [account, *documents(rendered(ROOT / "k8s" / "overlays" / overlay))]
    ours, theirs = comparable(charted(overlay)), comparable(kustomized)
    assert ours.keys() == theirs.keys()
    unexplained = [
        line for line in differences(ours, theirs) if not any(re.fullmatch(known, line) for known in EXPLAINED)
    ]
    assert unexplained == []


def test_no_explanation_is_left_over() -> None:
    lines: list[str] = []
    account = yaml.safe_load(rendered(ROOT / "k8s" / "cluster").split("---\n")[1])
    for overlay in overlays():
        kustomized = [account, *documents(rendered(ROOT / "k8s" / "overlays" / overlay))]
        lines += differences(comparable(charted(overlay)), comparable(kustomized))
    for known in EXPLAINED:
        assert any(re.fullmatch(known, line) for line in lines), f"nothing differs so any more: {known}"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("imgae.repository=x", "additional properties 'imgae' not allowed"),
        ("mode=nodes", "value must be one of 'node', 'relay'"),
        ("config.send.endpont=http://x:4317", "additional properties 'endpont' not allowed"),
        ("persistence.size=lots", "'lots' does not match pattern"),
    ],
)
def test_a_typo_is_refused_with_a_sentence(setting: str, sentence: str) -> None:
    done = template("--set", "image.repository=r/otelbridge,config.send.endpoint=http://c:4317", "--set", setting)
    assert done.returncode != 0
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("config.send.endpoint=http://c:4317", "nobody has published an image. Build one from the Dockerfile"),
        ("image.repository=r/otelbridge", "config.send.endpoint is not set: it is where your Collector takes OTLP"),
    ],
)
def test_what_nobody_can_guess_is_asked_for(given: str, sentence: str) -> None:
    done = template("--set", given)
    assert done.returncode != 0
    assert sentence in done.stderr
