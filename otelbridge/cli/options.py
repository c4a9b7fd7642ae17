"""The options that several commands have in common: those that name settings, and the form of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otelbridge.cli.output import Output
from otelbridge.settings.environment import CONFIG_VARIABLE
from otelbridge.settings.load import SET_FLAG

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help=f"Settings file (YAML); or the variable {CONFIG_VARIABLE}."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        SET_FLAG, metavar="KEY=VALUE", help="Set any setting, such as feed.retry.max_seconds=20. May be repeated."
    ),
]
KubeArmorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--kubearmor",
        "-k",
        metavar="HOST:PORT",
        help="Relay or node to subscribe to (default localhost:32767). May be repeated.",
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", "-e", metavar="URL", help="OTLP endpoint (default http://localhost:4317)."),
]
ProtocolOption = Annotated[
    str | None,
    typer.Option("--protocol", metavar="NAME", help="grpc, http/protobuf or console."),
]
QueueDirectoryOption = Annotated[
    str | None,
    typer.Option("--queue-directory", metavar="DIR", help="Folder of the queue (default /var/lib/otelbridge)."),
]
StatusPortOption = Annotated[
    str | None,
    typer.Option("--status-port", metavar="PORT", help="Port of probes, metrics and page (default 32799)."),
]
LogLevelOption = Annotated[
    str | None,
    typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error."),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Text for people, or JSON for programs.")]
