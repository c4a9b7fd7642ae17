"""Renders the kustomize overlays under k8s/; as a program, writes the examples under k8s/rendered."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ROOT / "k8s" / "overlays"
RENDERED = ROOT / "k8s" / "rendered"
BUILT = ROOT / "build" / "bin" / "kustomize"
RENDER_SECONDS = 60

Document = dict[str, Any]


def overlays() -> list[str]:
    """The names of the overlays."""
    return sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml"))


def renderer() -> list[str] | None:
    """The command that renders a folder: kubectl, or kustomize by itself; None where neither is here."""
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize"]
    if kustomize := shutil.which("kustomize") or (str(BUILT) if BUILT.exists() else None):
        return [kustomize, "build"]
    return None


def rendered(folder: Path) -> str:
    """A kustomization as one YAML text.

    Raises:
        RuntimeError: there is nothing to render with, or it refuses; with its own words.
    """
    command = renderer()
    if command is None:
        raise RuntimeError("neither kubectl nor kustomize is here")
    done = subprocess.run([*command, folder], capture_output=True, text=True, check=False, timeout=RENDER_SECONDS)
    if done.returncode != 0 or done.stderr:
        raise RuntimeError(f"{' '.join(command)} {folder}: {done.stderr}")
    return done.stdout


def documents(text: str) -> list[Document]:
    """The objects of a rendered text."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def main() -> None:
    """Writes one example for each overlay."""
    RENDERED.mkdir(exist_ok=True)
    for name in overlays():
        (RENDERED / f"{name}.yaml").write_text(rendered(OVERLAYS / name), encoding="utf-8")


if __name__ == "__main__":
    main()
