"""The licences of the packages that the product is made of, as their own metadata tells them."""

from __future__ import annotations

from importlib.metadata import Distribution, distribution
from importlib.metadata import requires as requirements_of
from itertools import chain

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PRODUCT = "otelbridge"

UNTOLD = {"protobuf": "BSD-3-Clause", "waitress": "ZPL-2.1"}
"""Of packages whose metadata names none, or none by its SPDX name; from the licence files in them."""

SPDX = frozenset({"MIT", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "MPL-2.0", "ISC"})
"""What the older field `License` may say, which is free text."""

_CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "License :: OSI Approved :: Python Software Foundation License": "PSF-2.0",
}


def needed() -> frozenset[str]:
    """The names of the product and of all that it needs at run time on this machine."""
    return frozenset(name for name, _ in _needed(PRODUCT, "", frozenset()))


def licence(found: Distribution) -> str:
    """An SPDX expression.

    Raises:
        LookupError: its metadata tells none that this module knows.
    """
    name = canonicalize_name(found.name)

    def field(key: str) -> list[str]:
        return found.metadata.get_all(key) or []

    classified = (_CLASSIFIERS[one] for one in field("Classifier") if one in _CLASSIFIERS)
    written = (text for text in field("License") if text in SPDX)
    told = next(chain(field("License-Expression"), filter(None, [UNTOLD.get(name)]), classified, written), None)
    if told is None:
        raise LookupError(f"{name} does not tell its licence: look into its files and add it to UNTOLD")
    return told


def licences_table() -> str:
    """One row for each package but our own."""
    packages = [distribution(name) for name in sorted(needed() - {PRODUCT})]
    rows = (f"| {canonicalize_name(one.name)} | {one.version} | {licence(one)} |" for one in packages)
    return "\n".join(("| package | version | licence |", "|---|---|---|", *rows))


def _needed(name: str, extra: str, seen: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Each package with the extra that is asked for."""
    if (name, extra) in seen:
        return seen
    seen |= {(name, extra)}
    for line in requirements_of(name) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for wanted in {"", *requirement.extras}:
                seen = _needed(canonicalize_name(requirement.name), wanted, seen)
    return seen
