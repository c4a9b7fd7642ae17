"""Who did it: executables, terminal, working directory and hashes in, attributes out."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from otelbridge.mapping.rule import PRESET_PREFIX
from otelbridge.mapping.values import Values
from otelbridge.mapping.wire import Attribute

HASHES = {
    "ProcessHash": "kubearmor.process.hash",
    "ParentHash": "kubearmor.process.parent.hash",
    "ResourceHash": "kubearmor.resource.hash",
}
DEFAULT_ALGORITHM = "sha256"
_ALGORITHM = re.compile(r"[a-z0-9_]{1,32}")
_HEX = re.compile(r"[0-9a-fA-F]+")


def process_attributes(values: Values, enforcer: str) -> Iterator[Attribute]:
    """The attributes of a process, but for its numbers."""
    path, tty = values.text("ProcessName"), values.text("TTY")
    yield "process.executable.path", path
    yield "process.executable.name", path.rpartition("/")[2]
    yield "process.working_directory", _directory(values.text("Cwd"), enforcer)
    if tty:
        yield "kubearmor.tty", tty
        yield "process.interactive", True
    yield from _hashes(values)


def _directory(cwd: str, enforcer: str) -> str:
    if cwd == "/" and (enforcer == "BPFLSM" or enforcer.startswith(PRESET_PREFIX)):
        return ""  # those never pass the directory: `/` is a filler there
    return cwd.rstrip("/") or cwd[:1]


def _hashes(values: Values) -> Iterator[Attribute]:
    named = values.text("HashAlgo")
    algorithm = named.lower() or DEFAULT_ALGORITHM
    if not _ALGORITHM.fullmatch(algorithm):
        yield "kubearmor.hash.algorithm", named
        algorithm = "other"
    hashes = [(f"{key}.{algorithm}", _hash(values.text(field))) for field, key in HASHES.items()]
    yield from hashes
    if algorithm != "other" and not any(text for _, text in hashes):
        yield "kubearmor.hash.algorithm", named


def _hash(text: str) -> str:
    """Lower-case hex; an early build sent base64. Empty for all zero, which is how KubeArmor says `unknown`."""
    if not text.strip("0"):
        return ""
    if _HEX.fullmatch(text):
        return text.lower()
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return text
    return raw.hex() if any(raw) else ""
