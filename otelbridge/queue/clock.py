"""The queue's time, by which records age: it runs on when the machine's clock is set, and across restarts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from otelbridge import clamp

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # another one after each start of the machine
ELAPSED_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
STEP_NANOS = 1_000_000_000  # less than this is the clock being slewed, or a thread that waited between two readings
LONGEST_WAIT_NANOS = 3_600_000_000_000  # between receipt and put are milliseconds; more is a clock that was set
EARLIEST_UNIX_NANO = 1_577_836_800_000_000_000  # 2020: a clock that says less was not set yet
LATEST_UNIX_NANO = clamp.MAX_UNIX_NANO - 3_155_760_000_000_000_000  # leaves a century to the end of the range


class Reading(NamedTuple):
    """Both clocks of the machine at one instant."""

    unix_nano: int
    """As set by whoever sets it."""
    elapsed_nano: int
    """Since the machine started, suspended or not."""


def boot_id() -> str:
    """Which run of the machine this is; empty where the kernel does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def elapsed_nanos() -> int:
    """Nanoseconds since the machine started, suspended or not."""
    return time.clock_gettime_ns(ELAPSED_CLOCK)


class QueueClock:
    """Unix time as long as nobody sets the clock; after that, Unix time less what it was set by. Not thread-safe."""

    def __init__(self, unix_nano: Callable[[], int], elapsed_nano: Callable[[], int], boot: str) -> None:
        self.boot = boot
        self._unix_nano = unix_nano
        self._elapsed_nano = elapsed_nano
        unix, elapsed = self.last = self._read()
        self.offset_nano = unix - min(max(unix, 0), LATEST_UNIX_NANO)
        """What the machine's clock has been set forward by since; and what keeps an absurd clock in range."""
        self._step = (elapsed, 0)
        """When the clock was last set, and by how much."""

    def _read(self) -> Reading:
        return Reading(self._unix_nano(), self._elapsed_nano())

    def resume(self, last: Reading, offset_nano: int, boot: str) -> None:
        """Goes on from an earlier life's last reading: nothing gets older than the time that is known to have passed.

        Args:
            last: its last reading.
            offset_nano: its offset.
            boot: the machine's run under which it was taken.
        """
        self.offset_nano = offset_nano
        unix, elapsed = self.last = self._read()
        if boot and boot == self.boot and elapsed >= last.elapsed_nano:
            expected = last.unix_nano + elapsed - last.elapsed_nano
        elif EARLIEST_UNIX_NANO <= last.unix_nano <= unix <= LATEST_UNIX_NANO:
            expected = unix
        else:
            expected = last.unix_nano
        self._set_by(unix - expected, elapsed)

    def now(self) -> int:
        """The queue's time, in nanoseconds."""
        unix, elapsed = self._read()
        self._set_by(unix - self.last.unix_nano - (elapsed - self.last.elapsed_nano), elapsed)
        self.last = Reading(unix, elapsed)
        return unix - self.offset_nano

    def _set_by(self, step: int, elapsed: int) -> None:
        if abs(step) >= STEP_NANOS:
            self.offset_nano += step
            self._step = (elapsed, step)

    def time_of(self, received_unix_nano: int) -> int:
        """The queue's time of something that was received just now, or shortly before the clock was set."""
        now = self.now()
        unix, elapsed = self.last
        age = unix - received_unix_nano
        set_at, step = self._step
        if age > elapsed - set_at:
            age -= step
        return now - age if 0 <= age <= LONGEST_WAIT_NANOS else now

    def unix_nano_of(self, queue_time: int) -> int:
        """By the machine's clock as it is set now; for whoever looks."""
        self.now()
        return clamp.unix_nano(queue_time + self.offset_nano)
