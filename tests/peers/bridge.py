"""The bridge as users run it: a process of its own with a settings file, watched through its status port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.peers.process import PeerProcess, answers_ok, free_ports
from tests.waiting import eventually

Json = dict[str, Any]

COMMAND = Path(sys.executable).parent / "otelbridge"
FRESH = ("env", str(COMMAND))
"""A process that begins with nothing, where its start or its memory is the subject; others are forked (warm.py)."""


class BridgeProcess:
    """`otelbridge run` with its queue in a folder of the test.

    Args:
        folder: for settings, queue and output.
        settings: sections over the ones that every test needs.
        command: what runs in place of the installed `otelbridge`.
        env: added to the test's own environment.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Json],
        *,
        command: Sequence[str] = (str(COMMAND),),
        env: Mapping[str, str] | None = None,
    ) -> None:
        (self.status_port,) = free_ports(1)
        self.queue_directory = folder / "queue"
        sections: dict[str, Json] = {
            "bridge": {"drain_seconds": 10},
            "queue": {"directory": str(self.queue_directory)},
            "status": {"port": self.status_port},
            "telemetry": {"disabled": True},
        }
        for name, section in settings.items():
            sections[name] = {**sections.get(name, {}), **section}
        file = folder / "bridge.yaml"
        file.write_text(yaml.safe_dump(sections), encoding="utf-8")
        self.process = PeerProcess(
            [*command, "run", "--config", str(file)],
            output=folder / "bridge.log",
            is_up=lambda: answers_ok(self.url("/startupz")),
            # With the fault handler, SIGABRT shows where each thread stands.
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **(env or {})},
            warm=tuple(command) == (str(COMMAND),),
        )

    def url(self, path: str) -> str:
        """Of its status server."""
        return f"http://127.0.0.1:{self.status_port}{path}"

    def status(self) -> Json:
        """The document that /status shows."""
        with urllib.request.urlopen(self.url("/status"), timeout=5) as answer:
            document: Json = json.load(answer)
            return document

    def metrics(self) -> str:
        """What /metrics says."""
        with urllib.request.urlopen(self.url("/metrics"), timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def balance(self, stream: str) -> dict[str, int]:
        """One stream's accounts: received, delivered, ..., held, residue."""
        totals: dict[str, int] = self.status()["ledger"]["streams"][stream]
        return totals

    def held(self) -> int:
        """Records in its hands, on disk and in memory, gap records too."""
        return sum(self.status()["queue"]["streams"].values())

    def balances(self) -> bool:
        """Whether the residue is 0 on every stream."""
        return bool(self.status()["ledger"]["balanced"])

    def wait_until_delivered(self, *, within_seconds: float = 30) -> None:
        """Returns once nothing is held any more; the ledger must balance then."""
        eventually(lambda: self.held() == 0, within_seconds=within_seconds, why="everything held is delivered")
        assert self.balances(), self.status()["ledger"]

    def has_failed_to_connect(self) -> bool:
        """Whether an attempt after the first has failed, and the next one is waited for."""
        subscription = self.status()["subscriptions"][0]
        return bool(subscription["attempts"] > 1 and subscription["state"] == "waiting")

    def wait_until_watching(self, *, within_seconds: float = 15) -> None:
        """Returns once every subscription watches."""
        eventually(
            lambda: all(one["state"] == "watching" for one in self.status()["subscriptions"]),
            within_seconds=within_seconds,
            why="every subscription watches",
        )

    def wait(self, within_seconds: float) -> int:
        """Waits until it ends, and returns its exit code.

        Raises:
            AssertionError: it runs on; with where each of its threads stands.
        """
        try:
            return self.process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            self.process.send(signal.SIGABRT)
            self.process.wait(within_seconds)
            raise AssertionError(f"it runs on after {within_seconds} s:\n{self.process.output()}") from None

    def stop(self) -> int | None:
        """SIGTERM; returns the exit code."""
        return self.process.stop()


@contextmanager
def running_bridge(
    folder: Path,
    command: Sequence[str] = (str(COMMAND),),
    /,
    *,
    env: Mapping[str, str] | None = None,
    **settings: Json,
) -> Iterator[BridgeProcess]:
    """A bridge that is up, ended with the context; what it printed is shown when the test fails.

    Args:
        folder: for settings, queue and output.
        command: what runs in place of the installed `otelbridge`.
        env: added to the test's own environment.
        settings: sections over the ones that every test needs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bridge = BridgeProcess(folder, settings, env=env, command=command)
    try:
        bridge.process.start()
        yield bridge
    except BaseException as error:
        error.add_note(f"The bridge printed:\n{bridge.process.output()}")
        raise
    finally:
        bridge.process.kill()
