"""A reader's own overlay in a namespace of another name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.deploy.rendering import BUILT, ROOT, documents, overlays, rendered, renderer
from tests.peers.presence import required

NAME = "security"


@pytest.mark.parametrize("base", ["cluster", *(f"overlays/{name}" for name in overlays())])
def test_everything_goes_there(tmp_path: Path, base: str) -> None:
    if renderer() is None:
        required(BUILT, name="kubectl or kustomize", cure="go install sigs.k8s.io/kustomize/kustomize/v5@v5.5.0")
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s", ignore=shutil.ignore_patterns("__pycache__"))
    mine = tmp_path / "mine"
    mine.mkdir()
    kustomization = f"namespace: {NAME}\nresources: [../k8s/{base}]\n"
    (mine / "kustomization.yaml").write_text(kustomization, encoding="utf-8")
    for one in documents(rendered(mine)):
        if one["kind"] == "Namespace":
            assert one["metadata"]["name"] == NAME
        elif one["kind"] != "PriorityClass":
            assert one["metadata"]["namespace"] == NAME
