"""The row of panels about the subscriptions: are they watching, and for how long were they not?"""

# ruff: noqa: E501 - a sentence or a query is one line
from __future__ import annotations

from k8s.dashboards.panels import Panel, Query, Row
from k8s.dashboards.queries import (
    BRIDGE,
    STATE_COLOURS,
    UPSTREAM,
    by,
    grown,
    numbered,
    rate,
    recent,
    series,
)
from otelbridge.feed.model import SubscriptionState
from otelbridge.telemetry import names as n

SERVER = n.SERVER

SUBSCRIPTION_STATES = {number: (name, STATE_COLOURS[name]) for number, name in enumerate(SubscriptionState, 1)}

WATCHING = Row(
    title="Watching KubeArmor",
    panels=(
        Panel(
            title="States of the subscriptions",
            kind="state-timeline",
            unit="none",
            width=16,
            states=SUBSCRIPTION_STATES,
            queries=(
                Query(
                    numbered(
                        "otelbridge.source.state", "otelbridge_state", list(SubscriptionState), "instance", *SERVER
                    ),
                    f"{BRIDGE} {UPSTREAM}",
                ),
            ),
            meaning="The state of each subscription. Watching is normal, and connecting for a moment after a loss.",
            otherwise="holding (red) needs an operator: the status page and `otelbridge doctor` name the cause.",
        ),
        Panel(
            title="Events received per second",
            kind="timeseries",
            unit="ops",
            stacked=True,
            queries=(Query(rate("otelbridge.source.events", n.STREAM), "{{kubearmor_stream}}"),),
            meaning="By stream, over all bridges.",
            otherwise="if a busy cluster shows none: are the streams open, is visibility set in KubeArmor, does a policy match?",
        ),
        Panel(
            title="Streams that are open",
            kind="timeseries",
            unit="none",
            queries=(Query(f"{by(n.STREAM)} ({series('otelbridge.source.stream.active')})", "{{kubearmor_stream}}"),),
            meaning="Of each stream as many as there are bridges, or as the bridge at the relay has upstreams.",
            otherwise="a KubeArmor without one of the streams refuses it: leave it out of `feed.streams`.",
        ),
        Panel(
            title="Nodes behind each upstream",
            kind="timeseries",
            unit="none",
            queries=(
                Query(f"{by('instance', *SERVER)} ({series('otelbridge.source.nodes')})", f"{BRIDGE} {UPSTREAM} heard"),
                Query(
                    f"{by('instance', *SERVER)} ({series('otelbridge.source.silent_nodes')})",
                    f"{BRIDGE} {UPSTREAM} silent",
                ),
            ),
            meaning="How many nodes have sent events, and how many of them have been silent for longer than usual.",
            otherwise="as under OtelbridgeNodeSilent.",
        ),
        Panel(
            title="Is silence good news?",
            kind="timeseries",
            unit="none",
            no_value="`telemetry.coverage` is off",
            queries=(
                Query(
                    f"{by(n.COVERAGE_KIND, n.COVERAGE_ANSWER)} ({series('otelbridge.coverage.subjects')})",
                    "{{otelbridge_coverage_kind}} {{otelbridge_coverage_answer}}",
                ),
            ),
            meaning="Nodes, namespaces and policies by the answer of `otelbridge coverage`: each compared with its own usual interval.",
            otherwise="as under OtelbridgeSilentLongerThanUsual.",
        ),
        Panel(
            title="Lost by a road",
            kind="timeseries",
            unit="none",
            no_value="`feed.roads` is off",
            queries=(
                Query(recent("otelbridge.source.compared", *SERVER), f"{UPSTREAM} compared"),
                Query(recent("otelbridge.source.missed", *SERVER), f"{UPSTREAM} missed"),
                Query(recent("otelbridge.source.unknown", *SERVER), f"{UPSTREAM} unknown"),
            ),
            meaning="Of the events that another road delivered (compared), those that this road did not (missed). Around a gap of this road they are unknown.",
            otherwise="as under OtelbridgeRoadLoses.",
        ),
        Panel(
            title="Watched without an event",
            kind="timeseries",
            unit="s",
            queries=(
                Query(
                    f"{by('instance', *SERVER)} ({series('otelbridge.source.unheard.time')})", f"{BRIDGE} {UPSTREAM}"
                ),
            ),
            meaning="How long a connection has been watched without an event from any node; 0 once there was one.",
            otherwise="the cluster is quiet, or the relay has no node: `otelbridge doctor` checks.",
        ),
        Panel(
            title="Streams that ended",
            kind="timeseries",
            unit="none",
            stacked=True,
            no_value="none",
            queries=(
                Query(
                    recent("otelbridge.source.stream.ends", n.STREAM, n.STATUS_CODE),
                    "{{kubearmor_stream}} {{rpc_response_status_code}}",
                ),
            ),
            meaning="Streams that the bridge did not end itself, by gRPC status. A few at a restart of KubeArmor are normal.",
            otherwise="as under OtelbridgeSubscriptionFlapping.",
        ),
        Panel(
            title="Attempts to subscribe",
            kind="timeseries",
            unit="none",
            stacked=True,
            queries=(
                Query(
                    recent("otelbridge.source.connection.attempts", n.ERROR_TYPE, n.ERROR_CLASS),
                    "{{error_type}} {{otelbridge_error_class}}",
                ),
            ),
            meaning="By outcome; successful ones have no status.",
            otherwise="`configuration` and `permanent` need an operator; `transient` passes by itself.",
        ),
        Panel(
            title="Time not seen, by cause",
            kind="timeseries",
            unit="s",
            stacked=True,
            no_value="none",
            queries=(
                Query(
                    recent("otelbridge.source.gap.time", n.GAP_CAUSE),
                    "{{otelbridge_gap_cause}}",
                ),
            ),
            meaning="Gaps, counted when they end, over all streams.",
            otherwise="`throttled` is KubeArmor's own limit, `overflow` a bridge short of CPU, `restart` a restart of the bridge; the others lie between bridge and KubeArmor.",
        ),
        Panel(
            title="Blind stretches",
            kind="table",
            unit="none",
            no_value="none",
            queries=(Query(grown("otelbridge.source.gaps", n.STREAM, n.GAP_CAUSE)),),
            meaning="The number of gaps in this range, by stream and cause.",
            otherwise="each is a record `otelbridge.gap` with start, end and detail.",
        ),
    ),
)
