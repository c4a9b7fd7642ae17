"""`otelbridge run`: the bridge itself, until SIGTERM or SIGINT drains it; a second signal stops it at once."""

from __future__ import annotations

import threading

import typer

from otelbridge.bridge import Bridge
from otelbridge.cli.memory import spare_what_stays
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
from otelbridge.queue.model import QueueInUse, QueueUnusable

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
    try:
        bridge = Bridge(loaded)
        spare_what_stays()
        code = bridge.run(stop)
    except ValueError as error:
        fail(f"The settings cannot be used: {error}", Exit.WRONG_USAGE)
    except (QueueInUse, QueueUnusable, OSError) as error:
        fail(f"The bridge cannot run: {error}", Exit.UNREACHABLE)
    raise typer.Exit(code)
