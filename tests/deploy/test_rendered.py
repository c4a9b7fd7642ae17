from __future__ import annotations

import pytest

from tests.deploy.rendering import BUILT, OVERLAYS, RENDERED, overlays, rendered, renderer
from tests.peers.presence import required

pytestmark = pytest.mark.parametrize("overlay", overlays())


def test_the_committed_example_is_what_the_overlay_renders(overlay: str) -> None:
    if renderer() is None:
        required(BUILT, name="kubectl or kustomize", cure="go install sigs.k8s.io/kustomize/kustomize/v5@v5.5.0")
    example = (RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8")
    assert rendered(OVERLAYS / overlay) == example, "stale: make k8s"


def test_there_is_an_example_for_the_overlay_and_none_without_one(overlay: str) -> None:
    assert (RENDERED / f"{overlay}.yaml").exists()
    assert {path.stem for path in RENDERED.glob("*.yaml")} == set(overlays())
