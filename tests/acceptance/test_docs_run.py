"""The commands of docs/try.md and README.md, run as they stand on a network of their own with the usual ports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.peers.netns import network_pair
from tests.waiting import eventually

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "samples"
QUEUE_OF_THE_GUIDE = "/tmp/otelbridge"
SOON_SECONDS = 90


def fences(page: str) -> list[list[str]]:
    """The commands of each shell block of a page, comments left out."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return [[line.split("  #")[0].strip() for line in block.splitlines()] for block in blocks]


class Terminals:
    """Runs lines of shell on one network, in one folder, with `otelbridge` on PATH."""

    def __init__(self, prefix: tuple[str, ...], folder: Path) -> None:
        self._prefix = prefix
        self._folder = folder
        self._environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self._opened = 0

    @contextmanager
    def running(self, line: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """A command that goes on, and the file that it writes its stdout to; interrupted at the end."""
        self._opened += 1
        out = self._folder / f"terminal-{self._opened}.out"
        with out.open("wb") as to:
            child = subprocess.Popen(self._argv(line), cwd=self._folder, env=self._environment, stdout=to)
        try:
            yield child, out
        finally:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def run(self, line: str) -> tuple[int, str]:
        """A command that ends: its exit code and what it wrote to stdout."""
        done = subprocess.run(
            self._argv(line), cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, timeout=120, check=False
        )
        return done.returncode, done.stdout.decode()

    def shows(self, line: str) -> bool:
        """Whether a command that goes on writes something; False where it ends before, as when nobody listens yet."""
        with self.running(line) as (process, out):
            eventually(lambda: out.stat().st_size or process.poll() is not None, within_seconds=SOON_SECONDS, why=line)
            return out.stat().st_size > 0

    def _argv(self, line: str) -> list[str]:
        return [*self._prefix, "sh", "-c", f"exec {line.replace(QUEUE_OF_THE_GUIDE, str(self._folder / 'queue'))}"]


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    with network_pair() as network:
        yield Terminals(network.on_server, tmp_path)


def test_the_pieces_of_the_guide_work_together_and_survive_a_kill(terminals: Terminals) -> None:
    endpoint, kubearmor, bridge = fences("docs/try.md")[0]
    from_kubearmor, from_bridge, ledger, doctor = fences("docs/try.md")[1]
    with ExitStack() as open_terminals:
        for service in (endpoint, kubearmor):
            open_terminals.enter_context(terminals.running(service))
        for turn in ("first", "after kill -9"):
            with terminals.running(bridge) as (process, _):
                eventually(lambda: terminals.run(ledger)[0] == 0, within_seconds=SOON_SECONDS, why=f"{turn}: {ledger}")
                for line in (from_kubearmor, from_bridge):
                    eventually(partial(terminals.shows, line), within_seconds=SOON_SECONDS, why=line)
                # The simulated KubeArmor is away for 5 s of each 30, as the guide asked for.
                eventually(lambda: terminals.run(doctor)[0] == 0, within_seconds=SOON_SECONDS, why=doctor)
                if turn == "first":
                    process.kill()
                    process.wait()
        code, said = terminals.run("otelbridge ledger --queue-directory /tmp/otelbridge")
        assert (code, "No record is missing." in said) == (0, True), said


def test_the_guide_explains_and_plays_a_file_of_ones_own(terminals: Terminals, tmp_path: Path) -> None:
    explain, as_sent, play = fences("docs/try.md")[2]
    events = [json.loads(line) for line in (SAMPLES / "alerts.json").read_text(encoding="utf-8").splitlines()[:3]]
    (tmp_path / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    code, story = terminals.run(explain)
    assert (code, events[0]["PolicyName"] in story) == (0, True), story
    code, sent = terminals.run(as_sent)
    assert code == 0
    assert "resourceLogs" in sent
    (from_kubearmor, *_) = fences("docs/try.md")[1]
    with terminals.running(play):
        eventually(
            lambda: terminals.shows(from_kubearmor), within_seconds=SOON_SECONDS, why=f"{play}; {from_kubearmor}"
        )


def test_the_readmes_first_command_shows_the_demo(terminals: Terminals) -> None:
    (demo, *_) = fences("README.md")[0]
    asked = subprocess.run(
        ["make", "--no-print-directory", "-n", *demo.split()[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    command = asked.stdout.splitlines()[-1]
    assert command.split()[0].endswith("otelbridge"), command
    code, said = terminals.run(f"{ROOT}/{command} --act-seconds 0.5")
    assert code == 0, said
