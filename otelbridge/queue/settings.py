"""Settings of the durable queue."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from otelbridge import clamp
from otelbridge.setting import section, setting

MIB = 1024 * 1024
YEAR_SECONDS = 365 * 24 * 3600


def nanos(seconds: float) -> int:
    """A setting in nanoseconds; a century stands for all that is longer."""
    return int(clamp.seconds(seconds, most=100 * YEAR_SECONDS) * 1e9)


@section
class QueueSettings:
    """Where records wait, how many, and for how long."""

    directory: Path = setting(
        default=Path("/var/lib/otelbridge"), description="Folder of the queue file; one bridge at a time."
    )
    max_bytes: int = setting(
        default=512 * MIB, ge=4 * MIB, le=1024 * 1024 * MIB, description="Most bytes held on disk."
    )
    max_age_seconds: float = setting(
        default=24 * 3600, ge=1, le=10 * YEAR_SECONDS, description="Records older than this are dropped, and counted."
    )
    overflow: Literal["drop_oldest", "drop_newest", "logs_first"] = setting(
        default="logs_first",
        description="What is dropped when the queue is full: `drop_oldest`, `drop_newest`, or `logs_first` (logs before messages before alerts, each oldest first).",
    )
    synchronous: Literal["normal", "full"] = setting(
        default="normal",
        description="`normal` may lose the last second in a power cut; `full` loses no record, at the cost of one disk sync per batch.",
    )
    order: Literal["in_order", "fresh_first"] = setting(
        default="in_order",
        description="After an outage: `in_order` sends the oldest first, `fresh_first` new records before the backlog.",
    )
    memory_max_bytes: int = setting(
        default=32 * MIB,
        ge=MIB,
        le=4096 * MIB,
        description="Most bytes that wait in memory while the disk does not accept writes.",
    )
    dead_letter_max_bytes: int = setting(
        default=16 * MIB,
        ge=0,
        le=1024 * 1024 * MIB,
        description="Most bytes of dead letters kept; the oldest go first.",
    )
    retain_seconds: float = setting(
        default=0,
        ge=0,
        le=10 * YEAR_SECONDS,
        description="Flight recorder: delivered batches are kept this long for `queue replay`.",
    )
    retain_max_bytes: int = setting(
        default=64 * MIB, ge=0, le=1024 * 1024 * MIB, description="Most bytes that the flight recorder keeps."
    )
