"""The bridge as a service: reads the flags of `run`, runs until SIGTERM or SIGINT drains it, reloads on SIGHUP.

Nothing here imports typer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from otelbridge.bridge import Bridge
from otelbridge.cli.loading import load_given, load_or_exit
from otelbridge.cli.output import Exit, fail
from otelbridge.cli.process import let_reads_sleep, spare_what_stays, stop_on_signals
from otelbridge.net.files import read_bounded
from otelbridge.queue.model import QueueInUse, QueueUnusable
from otelbridge.settings.load import Loaded
from otelbridge.settings.tree import SettingsError
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread

LAST_WORDS = "Stopped without draining; what is on disk will be delivered after the next start."

SEVERAL = {"--set": "sets", "--kubearmor": "kubearmor"}
ONE = {
    "--config": "config",
    "--endpoint": "endpoint",
    "--protocol": "protocol",
    "--queue-directory": "queue_directory",
    "--status-port": "status_port",
    "--log-level": "log_level",
}
"""The options of `run`, and the arguments of `serve` that they are."""
SHORT = {"-c": "--config", "-k": "--kubearmor", "-e": "--endpoint"}


def flags_in(words: Sequence[str]) -> dict[str, Any] | None:
    """The arguments of `serve` in a command line; None where it is not plain (help, a mistake): typer answers that."""
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        flag, equals, value = (SHORT[word], "", "") if word in SHORT else word.partition("=")
        value = value if equals else next(rest, "")
        if not value:
            return None
        if flag in SEVERAL:
            found.setdefault(SEVERAL[flag], []).append(value)
        elif flag in ONE:
            found[ONE[flag]] = value
        else:
            return None
    return found


LOOK_SECONDS = 2.0
"""Between two looks at the settings file, where it is watched."""
SETTLE_SECONDS = 0.2
"""The file is read when it was the same for so long."""
IDLE_SECONDS = 60.0


class SettingsReloader:
    """Reads the settings again when `asked` is set, or a watched file changes; what cannot be used changes nothing."""

    def __init__(
        self, read: Callable[[], Loaded], bridge: Bridge, *, asked: threading.Event, file: Path | None, watched: bool
    ) -> None:
        self._read, self._bridge, self._asked, self._file = read, bridge, asked, file
        self._look_seconds = LOOK_SECONDS if file and watched else None
        self._used = self._in_force = self._content()
        pulse = Pulse("reload", may_block=True)
        self._thread = SupervisedThread("reload", self._turn, tell=bridge.tell, give_back=asked.set, pulse=pulse)
        bridge.pulses.append(pulse)

    def start(self) -> None:
        """Starts the thread, which listens until the process ends."""
        self._thread.start()

    def _turn(self) -> bool:
        """Waits for a reason to read the settings, for a while, and reads them."""
        asked = self._asked.wait(self._look_seconds or IDLE_SECONDS)
        self._asked.clear()
        if asked or (self._look_seconds and self._content() != self._used):
            self._used = self._written()
            self._read_again()
        return True

    def _written(self) -> bytes:
        """What is in the file, once nobody writes it any more: half a file may be good settings too."""
        seen = self._content()
        while (now := self._later()) != seen:
            seen = now
        return seen

    def _later(self) -> bytes:
        time.sleep(SETTLE_SECONDS)
        return self._content()

    def _content(self) -> bytes:
        """What is in the file; empty while it is being replaced, or where there is none."""
        try:
            return read_bounded(self._file) if self._file else b""
        except OSError:
            return b""

    def _read_again(self) -> None:
        try:
            loaded = self._read()
            if self._in_force.strip() and not self._used.strip():  # as a full disk leaves it: nobody lifts all rules so
                self._bridge.refuse_reload([f"{self._file} is empty. Write the settings anew, or a comment for none."])
                return
            self._bridge.reload(loaded)
            self._in_force = self._used
        except SettingsError as error:
            self._bridge.refuse_reload([str(problem) for problem in error.problems])
        except ValueError as error:
            self._bridge.refuse_reload([str(error)])


def serve(*, config: str | Path | None = None, sets: Sequence[str] | None = None, **flags: Any) -> int:
    """Runs the bridge until it is told to stop.

    Returns:
        The exit code.
    """
    config = Path(config) if config else None
    loaded = load_or_exit(config, sets, **flags)
    stop = threading.Event()
    asked = threading.Event()
    signals = stop_on_signals(stop, LAST_WORDS, hang_up=asked.set)
    try:
        bridge = Bridge(loaded)
        bridge.pulses.append(signals)
        spare_what_stays()
        let_reads_sleep()
        reloading = SettingsReloader(
            lambda: load_given(config, sets, **flags),
            bridge,
            asked=asked,
            file=loaded.file,
            watched=loaded.settings.bridge.reload_on_change,
        )
        reloading.start()
        code = bridge.run(stop)
    except ValueError as error:
        fail(f"The settings cannot be used: {error}", Exit.WRONG_USAGE)
    except (QueueInUse, QueueUnusable) as error:
        fail(f"The bridge cannot run: {error}", Exit.UNREACHABLE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"The bridge cannot run: {where}{error.strerror or error}", Exit.UNREACHABLE)
    return code
