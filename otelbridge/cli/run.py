"""`otelbridge run`: the bridge itself, until SIGTERM or SIGINT drains it; a second signal stops it at once."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from otelbridge.cli.output import Exit, fail
from otelbridge.cli.settings_options import (
    ConfigOption,
    EndpointOption,
    KubeArmorOption,
    LogLevelOption,
    ProtocolOption,
    QueueDirectoryOption,
    SetOption,
    StatusPortOption,
    load_or_exit,
)
from otelbridge.cli.signals import stop_on_signals

M_ARENA_MAX = -8
"""Of mallopt(3)."""
HEAPS = 2

YOUNG_OBJECTS, YOUNG_ROUNDS = 700, 10
"""Python's defaults: what starts a round over the youngest, and how many of them one over the middle generation."""
MIDDLE_ROUNDS = 1_000
"""For one full round. At 10,000 events/s that is one in some minutes, which finds hardly anything to look at."""


def limit_heaps() -> None:
    """Gives all threads that start from now on few heaps in common; of the C libraries glibc alone can do that."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, HEAPS)


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection while modules are imported: they leave 100 objects of 70,000 behind, and it took 50 ms."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def spare_what_stays() -> None:
    """Takes all that lives now out of the garbage collector's sight, and makes its full rounds rare."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_ROUNDS, MIDDLE_ROUNDS)


EXAMPLES = (
    "otelbridge run --kubearmor kubearmor.kubearmor:32767 --endpoint http://collector:4317",
    "otelbridge run --config bridge.yaml --set feed.streams=alerts",
)
LAST_WORDS = "Stopped without draining; what is on disk will be delivered after the next start."


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
    it at once.
    """
    loaded = load_or_exit(
        config,
        sets,
        kubearmor=kubearmor,
        endpoint=endpoint,
        protocol=protocol,
        queue_directory=queue_directory,
        status_port=status_port,
        log_level=log_level,
    )
    stop = threading.Event()
    stop_on_signals(stop, LAST_WORDS)
    limit_heaps()
    with no_collection():  # everything heavy is imported here: only who runs the bridge pays for it
        from otelbridge.bridge import Bridge  # noqa: PLC0415
        from otelbridge.queue.model import QueueInUse, QueueUnusable  # noqa: PLC0415

    try:
        bridge = Bridge(loaded)
        spare_what_stays()
        code = bridge.run(stop)
    except ValueError as error:
        fail(f"The settings cannot be used: {error}", Exit.WRONG_USAGE)
    except (QueueInUse, QueueUnusable, OSError) as error:
        fail(f"The bridge cannot run: {error}", Exit.UNREACHABLE)
    raise typer.Exit(code)
