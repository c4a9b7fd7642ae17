"""`otelbridge run`: the bridge itself, until SIGTERM or SIGINT drains it; a second signal stops it at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from otelbridge.bridge import Bridge
from otelbridge.cli.output import Exit, fail
from otelbridge.cli.process import spare_what_stays, stop_on_signals
from otelbridge.cli.settings_options import (
    ConfigOption,
    EndpointOption,
    KubeArmorOption,
    LogLevelOption,
    ProtocolOption,
    QueueDirectoryOption,
    SetOption,
    StatusPortOption,
    load_given,
    load_or_exit,
)
from otelbridge.net.files import read_bounded
from otelbridge.queue.model import QueueInUse, QueueUnusable
from otelbridge.settings.load import Loaded
from otelbridge.settings.problems import SettingsError
from otelbridge.telemetry.supervisor import SupervisedThread

EXAMPLES = (
    "otelbridge run --kubearmor kubearmor.kubearmor:32767 --endpoint http://collector:4317",
    "otelbridge run --config bridge.yaml --set feed.streams=alerts",
)
LAST_WORDS = "Stopped without draining; what is on disk will be delivered after the next start."


LOOK_SECONDS = 2.0
"""Between two looks at the settings file, where it is watched."""
SETTLE_SECONDS = 0.2
"""The file is read when it was the same for so long."""
IDLE_SECONDS = 60.0


class Reloading:
    """Reads the settings again, on SIGHUP or when the file changes; what cannot be used changes nothing.

    Args:
        read: reads them, or raises `SettingsError`.
        bridge: takes them over.
        asked: set by SIGHUP.
        file: the settings file, if there is one.
        watched: whether a change of it is enough.
    """

    def __init__(
        self, read: Callable[[], Loaded], bridge: Bridge, *, asked: threading.Event, file: Path | None, watched: bool
    ) -> None:
        self._read, self._bridge, self._asked, self._file = read, bridge, asked, file
        self._look_seconds = LOOK_SECONDS if file and watched else None
        self._used = self._content()

    def turn(self) -> bool:
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
            self._bridge.reload(self._read())
        except SettingsError as error:
            self._bridge.refuse_reload([str(problem) for problem in error.problems])
        except ValueError as error:
            self._bridge.refuse_reload([str(error)])


def run(
    *,
    config: ConfigOption = None,
    sets: SetOption = None,
    kubearmor: KubeArmorOption = None,
    endpoint: EndpointOption = None,
    protocol: ProtocolOption = None,
    queue_directory: QueueDirectoryOption = None,
    status_port: StatusPortOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run the bridge until it is told to stop.

    SIGTERM or Ctrl-C drains it first: what it holds is delivered, what cannot be waits on disk. A second signal stops
    it at once. SIGHUP reads the settings again: gate, mapping, send and telemetry take effect, the log says what waits
    for a restart, and settings that cannot be used change nothing.
    """
    flags: dict[str, Any] = {
        "kubearmor": kubearmor,
        "endpoint": endpoint,
        "protocol": protocol,
        "queue_directory": queue_directory,
        "status_port": status_port,
        "log_level": log_level,
    }
    loaded = load_or_exit(config, sets, **flags)
    stop = threading.Event()
    asked = threading.Event()
    stop_on_signals(stop, LAST_WORDS, hang_up=asked.set)
    try:
        bridge = Bridge(loaded)
        spare_what_stays()
        reloading = Reloading(
            lambda: load_given(config, sets, **flags),
            bridge,
            asked=asked,
            file=loaded.file,
            watched=loaded.settings.bridge.reload_on_change,
        )
        SupervisedThread("reload", reloading.turn, tell=bridge.tell).start()
        code = bridge.run(stop)
    except ValueError as error:
        fail(f"The settings cannot be used: {error}", Exit.WRONG_USAGE)
    except (QueueInUse, QueueUnusable) as error:
        fail(f"The bridge cannot run: {error}", Exit.UNREACHABLE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"The bridge cannot run: {where}{error.strerror or error}", Exit.UNREACHABLE)
    raise typer.Exit(code)
