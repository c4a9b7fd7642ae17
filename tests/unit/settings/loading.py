"""Shorthands of the settings' tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from otelbridge.settings.load import Loaded, load
from otelbridge.settings.tree import Problem, SettingsError


def loaded(
    text: str = "",
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str | Sequence[str]] | None = None,
    *,
    folder: Path | None = None,
) -> Loaded:
    """Loads with a file of that text, if any."""
    file = None
    if text:
        assert folder is not None
        file = folder / "bridge.yaml"
        file.write_text(text, encoding="utf-8")
    return load(file=file, environment=environment or {}, flags=flags)


def problems(
    text: str = "",
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str | Sequence[str]] | None = None,
    *,
    folder: Path | None = None,
) -> dict[str, Problem]:
    """The problems of loading, by path; the first one where there are several."""
    with pytest.raises(SettingsError) as caught:
        loaded(text, environment, flags, folder=folder)
    return {problem.path: problem for problem in reversed(caught.value.problems)}
