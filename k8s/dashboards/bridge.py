"""The dashboard "Is the bridge all right?": the answer in six figures, then the components in walking order."""

# ruff: noqa: E501 - a sentence or a query is one line
from __future__ import annotations

from k8s.dashboards.connections import CONNECTIONS
from k8s.dashboards.delivering import DELIVERING
from k8s.dashboards.keeping import KEEPING
from k8s.dashboards.panels import DATASOURCE_VARIABLE, Dashboard, Panel, Query, Row, variable
from k8s.dashboards.process import PROCESS
from k8s.dashboards.queries import grown, series
from k8s.dashboards.watching import WATCHING
from otelbridge.telemetry import names as n

ANSWER = Row(
    title="The answer",
    panels=(
        Panel(
            title="Bridges that answer",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            queries=(Query(f"count({series('otelbridge.queue.limit')})"),),
            meaning="How many bridges Prometheus has figures of: one per node, or one at the relay.",
            otherwise="as under OtelbridgeAbsent; compare with `kubectl -n otelbridge get pods`.",
            no_value="none",
        ),
        Panel(
            title="Longest blind right now",
            kind="stat",
            unit="s",
            width=4,
            height=5,
            queries=(Query(f"max({series('otelbridge.source.blind.time')})"),),
            thresholds=((1, "orange"), (120, "red")),
            meaning="How long the subscription that is worst off has not been watching KubeArmor. 0 is normal.",
            otherwise="as under OtelbridgeBlind; what KubeArmor says meanwhile is lost.",
        ),
        Panel(
            title="Time not seen in this range",
            kind="stat",
            unit="s",
            width=4,
            height=5,
            queries=(Query(f"max({grown('otelbridge.source.gap.time', n.STREAM)})"),),
            thresholds=((1, "orange"),),
            no_value="0 s",
            meaning="Blind stretches of the stream that has most of them, added up over all bridges. Each is a record `otelbridge.gap` in the log store.",
            otherwise="look at their causes below, and for the records.",
        ),
        Panel(
            title="Records dropped in this range",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            queries=(Query(grown("otelbridge.event.dropped")),),
            thresholds=((1, "red"),),
            no_value="0",
            meaning="What bridges could not keep. 0 is normal.",
            otherwise="as under OtelbridgeRecordsDropped.",
        ),
        Panel(
            title="Records refused in this range",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            queries=(Query(grown("otelbridge.delivery.rejected")),),
            thresholds=((1, "orange"),),
            no_value="0",
            meaning="What the endpoint said it would never take. 0 is normal.",
            otherwise="as under OtelbridgeRecordsRefused; `otelbridge queue dead-letters` has the endpoint's words.",
        ),
        Panel(
            title="Records missing without a reason",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            queries=(Query(f"max(abs({series('otelbridge.ledger.residue')}))"),),
            thresholds=((1, "red"),),
            meaning="Received minus everything accounted for, of the ledger that is worst off. Always 0.",
            otherwise="as under OtelbridgeLedgerUnbalanced: a fault of the bridge.",
        ),
    ),
)

BRIDGE_DASHBOARD = Dashboard(
    uid="otelbridge-bridge",
    title="Is the bridge all right?",
    description="Whether the bridges see KubeArmor, keep what they saw, and deliver it.",
    variables=(
        DATASOURCE_VARIABLE,
        variable("instance", "Bridge", "label_values(otelbridge_queue_limit_bytes, instance)"),
    ),
    rows=(ANSWER, WATCHING, CONNECTIONS, DELIVERING, KEEPING, PROCESS),
)
