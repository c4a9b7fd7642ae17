"""`otelbridge run`: the bridge itself, until SIGTERM or SIGINT drains it; a second signal stops it at once."""

from __future__ import annotations

import typer

from otelbridge.cli.application import (
    ConfigOption,
    EndpointOption,
    KubeArmorOption,
    LogLevelOption,
    ProtocolOption,
    QueueDirectoryOption,
    SetOption,
    StatusPortOption,
)
from otelbridge.cli.service import serve

EXAMPLES = (
    "otelbridge run --kubearmor kubearmor.kubearmor:32767 --endpoint http://collector:4317",
    "otelbridge run --config bridge.yaml --set feed.streams=alerts",
)


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
    raise typer.Exit(
        serve(
            config=config,
            sets=sets,
            kubearmor=kubearmor,
            endpoint=endpoint,
            protocol=protocol,
            queue_directory=queue_directory,
            status_port=status_port,
            log_level=log_level,
        )
    )
