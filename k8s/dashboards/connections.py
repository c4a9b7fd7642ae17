"""The row of panels about the way to KubeArmor: connections, health checks, nodes, certificates."""

# ruff: noqa: E501 - a sentence or a query is one line
from __future__ import annotations

from k8s.dashboards.panels import Panel, Query, Row
from k8s.dashboards.queries import (
    SHOWN,
    UPSTREAM,
    by,
    quantile,
    quantile_ever,
    recent,
    series,
    worst,
)
from otelbridge.telemetry import names as n

SERVER = n.SERVER

CONNECTIONS = Row(
    title="The way to KubeArmor",
    panels=(
        Panel(
            title="Noticing and coming back",
            kind="timeseries",
            unit="s",
            no_value="no loss",
            thresholds=((21, "orange"),),
            queries=(
                Query(quantile_ever("otelbridge.source.detection.time", share=0.95), "noticed, 95 %"),
                Query(quantile_ever("otelbridge.source.recovery.time", share=0.95), "back, 95 %"),
            ),
            meaning="Time from the last sign of life to noticing the loss (21 s at most), and from there to watching again, since the bridges started.",
            otherwise="if losses are noticed late: was `feed.keepalive` made longer? If coming back takes long: see the attempts.",
        ),
        Panel(
            title="Lifetimes of connections",
            kind="timeseries",
            unit="s",
            no_value="none ended",
            queries=(
                Query(
                    quantile_ever("otelbridge.source.connection.duration", n.STATUS_CODE, share=0.5),
                    "{{rpc_response_status_code}}",
                ),
            ),
            meaning="The median over connections that have ended since the bridges started; days are normal.",
            otherwise="if all end after the same few minutes, a proxy or firewall ends idle connections.",
        ),
        Panel(
            title="Health checks",
            kind="timeseries",
            unit="s",
            queries=(
                Query(
                    quantile("otelbridge.source.heartbeat.duration", n.HEARTBEAT_METHOD, share=0.95),
                    "{{otelbridge_heartbeat_method}}, 95 %",
                ),
            ),
            meaning="How long KubeArmor takes to answer one; milliseconds are normal.",
            otherwise="seconds: the relay or the node is short of CPU.",
        ),
        Panel(
            title="Health checks without an answer",
            kind="timeseries",
            unit="none",
            no_value="none",
            queries=(Query(worst(SHOWN, recent("otelbridge.source.heartbeat.misses", *SERVER)), UPSTREAM),),
            meaning="After one the connection is suspect; the next one ends it.",
            otherwise="KubeArmor hangs although its HTTP/2 connection is alive: restart it.",
        ),
        Panel(
            title="Time since the last event",
            kind="timeseries",
            unit="s",
            queries=(
                Query(
                    worst(SHOWN, f"{by(n.STREAM, *SERVER, function='min')} ({series('otelbridge.source.event.age')})"),
                    f"{{{{kubearmor_stream}}}} {UPSTREAM}",
                ),
            ),
            meaning="Of each stream that has had an event. Alerts may be rare; logs are not.",
            otherwise="if the stream is watched, the cluster is quiet, or visibility was switched off in KubeArmor.",
        ),
        Panel(
            title="From an event's own time to its receipt",
            kind="timeseries",
            unit="s",
            queries=(
                Query(quantile("otelbridge.source.event.lag", n.STREAM, share=0.99), "{{kubearmor_stream}}, 99 %"),
            ),
            meaning="99 % arrive within this. Under a second is normal.",
            otherwise="minutes: events waited in KubeArmor or the relay, which drop when they are full.",
        ),
        Panel(
            title="Nodes that have been silent longest",
            kind="table",
            unit="s",
            queries=(
                Query(
                    worst(
                        SHOWN, f"time() - {by(n.NODE, function='max')} ({series('otelbridge.source.node.last_seen')})"
                    )
                ),
            ),
            meaning="Time since the last event of each node that has sent one.",
            otherwise="as under OtelbridgeNodeSilent.",
        ),
        Panel(
            title="Certificates expire in",
            kind="table",
            unit="s",
            no_value="no TLS",
            queries=(
                Query(
                    f"bottomk({SHOWN}, {by(*SERVER, n.CERTIFICATE_USE, function='min')} ({series('otelbridge.certificate.expiry')}) - time())"
                ),
            ),
            meaning="On the way to KubeArmor and to the endpoint, those that expire first.",
            otherwise="as under OtelbridgeCertificateExpiring.",
        ),
    ),
)
