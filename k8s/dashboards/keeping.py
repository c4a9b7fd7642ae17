"""The row of panels about what waits on disk, and the ledger that accounts for it."""

# ruff: noqa: E501 - a sentence or a query is one line
from __future__ import annotations

from k8s.dashboards.panels import Panel, Query, Row
from k8s.dashboards.queries import (
    BRIDGE,
    SHOWN,
    by,
    recent,
    series,
    worst,
)
from otelbridge.telemetry import names as n

SERVER = n.SERVER

KEEPING = Row(
    title="Keeping",
    panels=(
        Panel(
            title="Queue filled",
            kind="timeseries",
            unit="percentunit",
            thresholds=((0.8, "red"),),
            queries=(
                Query(worst(SHOWN, f"{series('otelbridge.queue.usage')} / {series('otelbridge.queue.limit')}"), BRIDGE),
            ),
            meaning="The share of `queue.max_bytes` in use, of the bridges that use most. A few per cent are normal.",
            otherwise="as under OtelbridgeQueueFilling.",
        ),
        Panel(
            title="Records held",
            kind="timeseries",
            unit="none",
            stacked=True,
            queries=(Query(f"{by(n.STREAM)} ({series('otelbridge.queue.size')})", "{{kubearmor_stream}}"),),
            meaning="Records in the queues of all bridges. Near 0 is normal.",
            otherwise="they wait for the endpoint.",
        ),
        Panel(
            title="Age of the oldest record",
            kind="timeseries",
            unit="s",
            thresholds=((900, "orange"),),
            queries=(Query(worst(SHOWN, series("otelbridge.queue.oldest.age")), BRIDGE),),
            meaning="The longest time that a record has waited. Under a second is normal.",
            otherwise="as under OtelbridgeDeliveryLate; beyond `queue.max_age_seconds` they are dropped.",
        ),
        Panel(
            title="Between the readers and the disk",
            kind="timeseries",
            unit="percentunit",
            queries=(
                Query(
                    worst(SHOWN, f"{series('otelbridge.buffer.size')} / {series('otelbridge.buffer.limit')}"),
                    f"events, {BRIDGE}",
                ),
                Query(
                    worst(SHOWN, f"{series('otelbridge.under_way.usage')} / {series('otelbridge.under_way.limit')}"),
                    f"bytes, {BRIDGE}",
                ),
            ),
            meaning="How full the buffer before the encoder is (`feed.buffer_max_events`), and the memory for what is under way (`bridge.under_way_max_bytes`).",
            otherwise="the encoder does not keep up: give it more CPU, or drop by rules in `gate` what nobody reads.",
        ),
        Panel(
            title="Disks that do not take writes",
            kind="timeseries",
            unit="none",
            thresholds=((1, "red"),),
            queries=(Query(f"sum({series('otelbridge.queue.degraded')})", "bridges"),),
            meaning="Bridges that hold records in memory only. 0 is normal.",
            otherwise="as under OtelbridgeDiskDegraded.",
        ),
        Panel(
            title="Dead letters",
            kind="timeseries",
            unit="none",
            queries=(Query(f"sum({series('otelbridge.queue.dead_letters')})", "kept"),),
            meaning="Requests that the endpoint refused for good, kept for inspection.",
            otherwise="`otelbridge queue dead-letters` lists them, `queue resend` puts them back once the cause is gone.",
        ),
        Panel(
            title="The ledger",
            kind="table",
            unit="none",
            width=16,
            queries=(Query(f"{by(n.STREAM, n.ACCOUNT, n.REASON)} ({series('otelbridge.ledger.records')})"),),
            meaning="Records on each account: received = delivered + rejected + dropped + filtered + summarised + doubled + held.",
            otherwise="see the next panel.",
        ),
        Panel(
            title="Residue of the ledger",
            kind="timeseries",
            unit="none",
            signed=True,
            queries=(Query(f"{by(n.STREAM)} ({series('otelbridge.ledger.residue')})", "{{kubearmor_stream}}"),),
            meaning="Received minus all other accounts. 0 is normal.",
            otherwise="as under OtelbridgeLedgerUnbalanced.",
        ),
        Panel(
            title="Records dropped, by reason",
            kind="timeseries",
            unit="none",
            stacked=True,
            no_value="none",
            queries=(
                Query(
                    recent("otelbridge.event.dropped", n.STREAM, n.DROP_REASON),
                    "{{kubearmor_stream}} {{otelbridge_drop_reason}}",
                ),
            ),
            meaning="None is normal.",
            otherwise="as under OtelbridgeRecordsDropped.",
        ),
    ),
)
