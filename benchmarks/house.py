"""Measures the house: files and lines of the product, and the files and functions that one alert enters on its walk.

    python -m benchmarks.house [--json]

Counts what is in the tree that it is run in, so that two checkouts can be compared. What an alert enters is what the
threads of its walk (readers, encoder, workers) enter from when it is published until it is delivered, without what
they enter while idle. What is compiled is entered unseen.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from otelbridge.bridge import Bridge
from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.settings.load import load
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "otelbridge"
WALK_THREADS = ("read", "encoder", "send-")
SETTLE_SECONDS = 1.5
"""Longer than the linger."""
IDLE_SECONDS = 6.0
"""Longer than anything sleeps that looks for work by itself."""


class Entered:
    """The functions of the product that the walk's threads enter while recording."""

    def __init__(self) -> None:
        self.recording = False
        self.functions: set[tuple[str, str]] = set()

    def profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        """For `threading.setprofile`."""
        if not self.recording or event != "call":
            return
        code = frame.f_code
        if code.co_filename.startswith(str(PACKAGE)) and threading.current_thread().name.startswith(WALK_THREADS):
            self.functions.add((str(Path(code.co_filename).relative_to(PACKAGE)), code.co_qualname))


def tree() -> dict[str, int]:
    """Files and lines of the product, generated code left out; lines of its tests."""
    product = [path for path in _tracked("otelbridge") if "/pb/" not in str(path)]
    return {
        "product_files": len(product),
        "product_lines": sum(map(_lines, product)),
        "test_files": len(_tracked("tests")),
        "test_lines": sum(map(_lines, _tracked("tests"))),
    }


def walk() -> dict[str, Any]:
    """What one alert enters: the first of its pod, and one that repeats it."""
    entered = Entered()
    threading.setprofile(entered.profile)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, Relay() as relay, OtlpEndpoint() as endpoint:
        sets = [
            f"queue.directory={folder}",
            "status.port=0",
            "telemetry.disabled=true",
            "feed.streams=alerts",
            f"send.endpoint={endpoint.grpc_endpoint}",
        ]
        flags = {"--set": sets, "--kubearmor": [relay.endpoint]}
        bridge = Bridge(load(file=None, environment={}, flags=flags))
        try:
            bridge.start()
            relay.wait_for_subscribers(streams=[Stream.ALERTS])
            idle = _functions(entered, lambda: None, IDLE_SECONDS)
            for pod in ("a-1", "b-2"):
                alert = pb.Alert(
                    PodName=pod, NamespaceName="shop", PolicyName="no-shell", Operation="Process", Action="Block",
                    Resource="/bin/sh", ProcessName="/bin/sh", Result="Permission denied",
                    UpdatedTime="2026-01-02T03:04:05.123456Z",  # as KubeArmor writes it
                )  # fmt: skip
                for which in ("first of its pod", "repeated"):
                    functions = _functions(entered, lambda alert=alert: relay.publish(Stream.ALERTS, alert)) - idle
                    found[which] = {
                        "files": len({file for file, _ in functions}),
                        "functions": len(functions),
                        "entered": sorted({file for file, _ in functions}),
                        "functions_entered": sorted(f"{file}:{name}" for file, name in functions),
                    }
        finally:
            threading.setprofile(None)
            bridge.close()
    return found


def _functions(entered: Entered, act: Any, seconds: float = SETTLE_SECONDS) -> set[tuple[str, str]]:
    entered.functions = set()
    entered.recording = True
    act()
    threading.Event().wait(seconds)  # nothing else happens meanwhile
    entered.recording = False
    return entered.functions


def _tracked(folder: str) -> list[Path]:
    listed = subprocess.check_output(["git", "ls-files", folder], cwd=ROOT, text=True).split()
    return [ROOT / name for name in listed if name.endswith((".py", ".pyx", ".pxd"))]


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    """Prints the figures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    counts, entered_by = tree(), walk()
    if given.json:
        json.dump({**counts, "walk": entered_by}, sys.stdout, indent=2)
        print()
        return
    for name, value in counts.items():
        print(f"{name}: {value:,}")
    for which, entered in entered_by.items():
        print(f"one alert, {which}: {entered['files']} files, {entered['functions']} functions")
        print("   ", " ".join(entered["entered"]))


if __name__ == "__main__":
    main()
