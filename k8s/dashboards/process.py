"""The row of panels about the bridge as a process, and what is unusual about events."""

# ruff: noqa: E501 - a sentence or a query is one line
from __future__ import annotations

from k8s.dashboards.panels import Panel, Query, Row
from k8s.dashboards.queries import (
    BRIDGE,
    SHOWN,
    rate,
    recent,
    series,
    worst,
)
from otelbridge.telemetry import names as n

SERVER = n.SERVER

PROCESS = Row(
    title="The process",
    panels=(
        Panel(
            title="CPU",
            kind="timeseries",
            unit="percentunit",
            queries=(Query(worst(SHOWN, rate("process.cpu.time", "instance")), BRIDGE),),
            meaning="CPU of the bridges that use most, as a share of one core; idle is under 1 %.",
            otherwise="compare with the events per second and the figures in benchmarks/README.md.",
        ),
        Panel(
            title="Memory",
            kind="timeseries",
            unit="bytes",
            queries=(Query(worst(SHOWN, series("process.memory.usage")), BRIDGE),),
            meaning="Resident memory; under 100 MiB is normal, whatever the backlog; a flood takes more.",
            otherwise="at the limit of the pod the bridge is killed: what is on disk survives, events during the restart are not seen.",
        ),
        Panel(
            title="Threads and open files",
            kind="timeseries",
            unit="none",
            queries=(
                Query(f"max({series('process.thread.count')})", "most threads"),
                Query(f"max({series('process.unix.file_descriptor.count')})", "most open files"),
            ),
            meaning="Of the bridge that has most. A steady number is normal.",
            otherwise="if it grows over days, that is a leak: please report it.",
        ),
        Panel(
            title="Faults of the bridge",
            kind="timeseries",
            unit="none",
            stacked=True,
            no_value="none",
            queries=(
                Query(recent("otelbridge.thread.restarts", n.THREAD, n.ERROR_TYPE), "{{thread_name}} {{error_type}}"),
            ),
            meaning="Unexpected errors in threads; the thread put its work back and went on. 0 is normal.",
            otherwise="please report it, with the traceback from the log. Three in a row fail /livez.",
        ),
        Panel(
            title="Events mended",
            kind="timeseries",
            unit="none",
            stacked=True,
            queries=(
                Query(recent("otelbridge.event.sanitized", n.SANITIZE_REASON), "{{otelbridge_sanitize_reason}}"),
                Query(recent("otelbridge.event.redacted"), "redacted"),
            ),
            meaning="Events in which text was not UTF-8, was cut, or was redacted. The record says so too.",
            otherwise="if many are cut: raise `mapping.max_value_bytes`.",
        ),
        Panel(
            title="Events that did not parse",
            kind="timeseries",
            unit="none",
            stacked=True,
            no_value="none",
            queries=(
                Query(
                    recent("otelbridge.event.mapping.errors", n.STREAM, n.ERROR_TYPE),
                    "{{kubearmor_stream}} {{error_type}}",
                ),
            ),
            meaning="They are delivered all the same: decoded leniently, or as bytes.",
            otherwise="KubeArmor is much newer than the bridge, or something else sends to it.",
        ),
        Panel(
            title="Own events dropped",
            kind="timeseries",
            unit="none",
            queries=(Query(recent("otelbridge.telemetry.dropped"), "dropped"),),
            meaning="Log lines and counts about the bridge itself that came too fast. 0 is normal; KubeArmor's events are never among them.",
            otherwise="something fails again and again: look at the other panels.",
        ),
    ),
)
