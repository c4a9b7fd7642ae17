"""Keeps the bridge's `service.instance.id` beside its queue, so that a restart does not begin new series."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

INSTANCE_FILE = "instance-id"
MAX_BYTES = 64


def stable_instance_id(directory: Path) -> str:
    """The id kept in the queue's folder, made where there is none; one for this life only where none can be kept.

    Args:
        directory: the queue's folder; made where it is missing.
    """
    new = str(uuid.uuid4())
    path = directory / INSTANCE_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return new  # the queue says why its folder cannot be used
    try:
        kept = os.read(descriptor, MAX_BYTES)
        try:
            return str(uuid.UUID(kept.decode("ascii").strip()))
        except ValueError:  # empty, cut off by a crash, or somebody else's
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{new}\n".encode(), 0)
            return new
    except OSError:
        return new
    finally:
        os.close(descriptor)
