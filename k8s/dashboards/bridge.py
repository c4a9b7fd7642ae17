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
            meaning="How many bridges Prometheus has metrics of: one per node, or one at the relay.",
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
            meaning="The longest time for which a subscription has not been watching KubeArmor. 0 is normal.",
            otherwise="as under OtelbridgeBlind; events of that time are lost.",
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
            meaning="The length of all gaps, over all bridges, of the stream that has most of them. Each gap is a record `otelbridge.gap` in the log store.",
            otherwise="see the causes below, and the records.",
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
            meaning="Records that bridges could not keep. 0 is normal.",
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
            meaning="Records that the endpoint refused for good. 0 is normal.",
            otherwise="as under OtelbridgeRecordsRefused; `otelbridge queue dead-letters` shows the endpoint's answer.",
        ),
        Panel(
            title="Records missing without a reason",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            queries=(Query(f"max(abs({series('otelbridge.ledger.residue')}))"),),
            thresholds=((1, "red"),),
            meaning="Received minus all other accounts, of the ledger that differs most. Always 0.",
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
