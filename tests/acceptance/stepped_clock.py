"""Runs `otelbridge` with a wall clock that a file sets forward or back: `python stepped_clock.py FILE run ...`.

The machine's own clock is everybody's, so it is not touched: only what Python calls the time in this process is.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

NANOS = 1_000_000_000


def step_by(file: Path) -> None:
    """Replaces the wall clock that otelbridge reads; the monotonic clock stays, as it does when a real clock is set.

    `time.time` stays too: grpc makes absolute deadlines with it, for a core whose clock we do not reach.
    """
    true_time_ns = time.time_ns
    time.time_ns = lambda: true_time_ns() + int(file.read_text() or 0) * NANOS


if __name__ == "__main__":
    step_by(Path(sys.argv.pop(1)))
    from otelbridge.cli.main import main

    main()
