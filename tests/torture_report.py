"""Where the long campaigns write their figures: torture.json in the directory that pytest was started in."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

REPORT = Path("torture.json")


def record(name: str, figures: dict[str, object], passed: bool) -> None:
    """Merges one campaign's figures into the report; safe beside other processes that do the same."""
    with REPORT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}
        report[name] = {"passed": passed, **figures}
        partial = REPORT.with_suffix(".partial")
        partial.write_text(json.dumps(dict(sorted(report.items())), indent=2) + "\n", encoding="utf-8")
        partial.replace(REPORT)
