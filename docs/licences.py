"""The licences of the packages that the product is made of, and of what their wheels bundle, as they tell them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import Distribution, distribution
from importlib.metadata import requires as requirements_of
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PRODUCT = "otelbridge"

UNTOLD = {"google-re2": "BSD-3-Clause", "protobuf": "BSD-3-Clause", "waitress": "ZPL-2.1"}
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


WITHOUT_BILL = {
    "cffi": ("libffi", "MIT", b"ffi_call"),
    "charset-normalizer": ("nothing of others: its own code, compiled", "MIT", b"charset_normalizer"),
    "google-re2": ("RE2, abseil, pybind11", "BSD-3-Clause, Apache-2.0", b"pybind11"),
    "grpcio": (
        "BoringSSL, c-ares, abseil, re2, zlib, upb; root certificates (`roots.pem`)",
        "Apache-2.0, BSD-3-Clause, MIT, Zlib; MPL-2.0",
        b"BoringSSL",
    ),
    "isal": ("Intel's ISA-L", "BSD-3-Clause", b"isal_deflate"),
    "protobuf": ("upb, utf8_range", "BSD-3-Clause, MIT", b"upb_"),
    "pyyaml": ("LibYAML", "MIT", b"yaml_parser_initialize"),
}
"""Wheels with compiled files and no bill of materials: what they hold, its licences, a word that is in the files."""

UNTOLD_PARTS = {"openssl": "Apache-2.0"}
"""Of components that stand in a bill without a licence."""


def bundled_table() -> str:
    """One row for each wheel that holds compiled files: from the bill of materials in it, where there is one.

    Raises:
        LookupError: a wheel holds compiled files and tells nothing, or WITHOUT_BILL says what is not in them.
    """
    rows = ["| wheel | holds, beside its own code | licences |", "|---|---|---|"]
    for name in sorted(needed() - {PRODUCT}):
        files = [Path(str(file.locate())) for file in distribution(name).files or ()]
        compiled = [file for file in files if file.suffix == ".so"]
        bills = [json.loads(file.read_bytes()) for file in files if file.parent.name == "sboms"]
        if compiled and bills:
            rows.append(f"| {name} | {_holds(bills)} | {', '.join(_licences(bills))} |")
        elif compiled:
            rows.append(f"| {name} | {' | '.join(_told(name, compiled))} |")
    return "\n".join(rows)


def _holds(bills: Sequence[dict[str, Any]]) -> str:
    """Rust crates as a number, other libraries by name."""
    parts = [part for bill in bills for part in bill["components"]]
    others = [f"{part['name']} {part['version']}" for part in parts if not _is_crate(part)]
    return "; ".join([*others, f"{len(parts) - len(others)} Rust crates"])


def _is_crate(part: dict[str, Any]) -> bool:
    return str(part.get("purl", "")).startswith("pkg:cargo/")


def _licences(bills: Sequence[dict[str, Any]]) -> list[str]:
    found = set()
    for part in (part for bill in bills for part in bill["components"]):
        told = [one.get("expression") or one["license"].get("id") for one in part.get("licenses", ())]
        found |= set(told or [UNTOLD_PARTS[part["name"]]])
    return sorted(found)


def _told(name: str, compiled: Sequence[Path]) -> tuple[str, str]:
    holds, licences, word = WITHOUT_BILL[name]
    if not any(word in file.read_bytes() for file in compiled):
        raise LookupError(f"{word!r} is not in {name}: look what it holds now")
    return holds, licences


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
