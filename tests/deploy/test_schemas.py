from __future__ import annotations

import kubernetes_validate
import pytest
from kubernetes_validate.utils import all_versions

from tests.deploy.rendering import RENDERED, Document, documents, overlays

CUSTOM = "monitoring.coreos.com/"
"""Resource types that a cluster has from an operator; Kubernetes' own schemas do not know them."""

NEWEST = [
    f"1.{minor}" for minor in sorted({int(version.split(".")[1]) for version in all_versions()}, reverse=True)[:3]
]


@pytest.mark.parametrize("minor", NEWEST)
@pytest.mark.parametrize("overlay", overlays())
def test_every_object_passes_the_strict_schema_of_the_newest_kubernetes_minors(overlay: str, minor: str) -> None:
    own = [document for document in example(overlay) if not document["apiVersion"].startswith(CUSTOM)]
    assert own
    for document in own:
        kubernetes_validate.validate(document, minor, strict=True)


def test_the_check_would_find_a_field_that_does_not_exist() -> None:
    (daemon_set,) = [document for document in example("node") if document["kind"] == "DaemonSet"]
    daemon_set["spec"]["template"]["spec"]["containers"][0]["livenessProbes"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(daemon_set, NEWEST[0], strict=True)


def example(overlay: str) -> list[Document]:
    return documents((RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8"))
