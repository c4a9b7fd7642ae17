"""How long the machine itself was away: a process that does nothing but wake up in time, and notes how late it was.

What a bridge is blamed for is judged beside this: on a machine that stops everybody for 80 ms no reader reads.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

BEAT_SECONDS = 0.002
BEATING = f"""
import select, sys, time
latest = 0.0
while True:
    began = time.monotonic()
    ended, _, _ = select.select([sys.stdin], [], [], {BEAT_SECONDS})
    if ended:
        break
    latest = max(latest, time.monotonic() - began - {BEAT_SECONDS})
print(latest)
"""


class Metronome:
    """Beats while the context lasts; afterwards says the longest delay of a beat."""

    latest_seconds = 0.0

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            [sys.executable, "-c", BEATING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        said, _ = self._child.communicate()  # closes its stdin
        self.latest_seconds = round(float(said or 0), 4)
