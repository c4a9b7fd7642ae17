"""What k8s/cluster gives to every overlay."""

from __future__ import annotations

from typing import Any

import yaml

from tests.deploy.rendering import ROOT


def in_cluster_folder(name: str) -> Any:
    return yaml.safe_load((ROOT / "k8s" / "cluster" / f"{name}.yaml").read_text(encoding="utf-8"))


def test_the_namespace_allows_restricted_pods_only_and_warns_of_others() -> None:
    labels = in_cluster_folder("namespace")["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_the_accounts_token_is_not_mounted() -> None:
    assert in_cluster_folder("serviceaccount")["automountServiceAccountToken"] is False


def test_the_priority_is_nobodys_default() -> None:
    assert in_cluster_folder("priorityclass")["globalDefault"] is False
