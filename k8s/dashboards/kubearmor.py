"""The dashboard "What is KubeArmor seeing?": alerts by what they are about, and when nobody could see."""

# ruff: noqa: E501 - a sentence or a query is one line
from __future__ import annotations

from k8s.dashboards.panels import DATASOURCE_VARIABLE, Dashboard, Panel, Query, Row, variable
from k8s.dashboards.queries import SHOWN, by, grown, rate, series, worst
from otelbridge.telemetry import names as n

ALERTS = "otelbridge.alerts"
OPERATION, ACTION, OUTCOME, POLICY = n.OPERATION, n.ACTION, n.ALERT_OUTCOME, n.POLICY
IN_NAMESPACE = {"k8s_namespace_name": '=~"$namespace"'}
MEANT_TO_BLOCK = '=~"Block|Audit [(]Block[)]"'
"""`Audit (Block)` is what KubeArmor says where it has no enforcer that could."""
FILTERED = {"otelbridge_ledger_account": '="filtered"'}
SUMMARISED = {"otelbridge_ledger_account": '="summarised"'}
SPANS = {"kubearmor_stream": '="spans"'}
LISTED = 50
HOUR_SECONDS = 3600


def alerts(*attributes: str, **where: str) -> str:
    """How many there were in the range."""
    return grown(ALERTS, *attributes, **IN_NAMESPACE, **where)


def alert_rate(*attributes: str) -> str:
    """How many there are per second, of the kinds that have most."""
    return worst(SHOWN, rate(ALERTS, *attributes, **IN_NAMESPACE))


GLANCE = Row(
    title="At a glance",
    panels=(
        Panel(
            title="Alerts",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            no_value="0",
            queries=(Query(alerts()),),
            meaning="In this range, of the chosen namespaces. Each is a record with `kubearmor.stream` `alerts`.",
            otherwise="if there are none for long: does a policy match at all? `otelbridge tail` shows what KubeArmor sends.",
        ),
        Panel(
            title="Denied",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            no_value="0",
            queries=(Query(alerts(kubearmor_outcome='="denied"')),),
            meaning="Alerts about operations that KubeArmor blocked.",
            otherwise="a policy that is too tight, or an attack: the records have process, command line and policy.",
        ),
        Panel(
            title="Allowed, though a policy says Block",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            no_value="0",
            thresholds=((1, "red"),),
            queries=(Query(alerts(kubearmor_outcome='="allowed"', kubearmor_action=MEANT_TO_BLOCK)),),
            meaning="Operations that should have been blocked and were not. 0 is normal.",
            otherwise="the node has no enforcer (`karmor probe` names it), or the process was running before the policy came.",
        ),
        Panel(
            title="Alerts that KubeArmor withheld",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            no_value="0",
            thresholds=((1, "orange"),),
            queries=(Query(grown("otelbridge.throttle.activations", **IN_NAMESPACE)),),
            meaning="How often KubeArmor stopped reporting a container that raised more alerts than its limit. 0 is normal.",
            otherwise="as under OtelbridgeThrottledByKubeArmor.",
        ),
        Panel(
            title="Nodes heard in the last hour",
            kind="stat",
            unit="none",
            width=4,
            height=5,
            no_value="0",
            queries=(
                Query(
                    f"count(time() - {by(n.NODE, function='max')} ({series('otelbridge.source.node.last_seen')}) < {HOUR_SECONDS})"
                ),
            ),
            meaning="Nodes that sent at least one event.",
            otherwise="if fewer than run KubeArmor: the other dashboard lists those that have been silent longest.",
        ),
        Panel(
            title="Seconds that nobody could see",
            kind="stat",
            unit="s",
            width=4,
            height=5,
            no_value="0 s",
            thresholds=((1, "orange"),),
            queries=(Query(f"max({grown('otelbridge.source.gap.time', n.STREAM)})"),),
            meaning="The length of the gaps in this range: alerts of that time are missing here.",
            otherwise="the other dashboard shows their causes.",
        ),
    ),
)

KINDS = Row(
    title="Alerts",
    panels=(
        Panel(
            title="Alerts per second, by namespace",
            kind="timeseries",
            unit="ops",
            width=12,
            stacked=True,
            no_value="none",
            queries=(Query(alert_rate(n.NAMESPACE), "{{k8s_namespace_name}}"),),
            meaning="Alerts without a namespace are the nodes' own.",
            otherwise="if a namespace stands out: filter the log store by it.",
        ),
        Panel(
            title="Alerts per second, by outcome",
            kind="timeseries",
            unit="ops",
            width=12,
            stacked=True,
            no_value="none",
            queries=(Query(alert_rate(OUTCOME), "{{kubearmor_outcome}}"),),
            meaning="What happened to the operation: allowed, denied, or failed for another reason.",
            otherwise='if denied ones increase: as under "Denied" above.',
        ),
        Panel(
            title="Alerts per second, by operation",
            kind="timeseries",
            unit="ops",
            width=12,
            stacked=True,
            no_value="none",
            queries=(Query(alert_rate(OPERATION), "{{kubearmor_operation}}"),),
            meaning="Process, file, network, and the rarer ones.",
            otherwise="a flood of one kind is often one policy that audits what a container does all the time.",
        ),
        Panel(
            title="Alerts per second, by action",
            kind="timeseries",
            unit="ops",
            width=12,
            stacked=True,
            no_value="none",
            queries=(Query(alert_rate(ACTION), "{{kubearmor_action}}"),),
            meaning="What the policy asks for. Whether it happened is the outcome.",
            otherwise="`Audit (Block)`: the policy says Block and cannot be enforced on that node.",
        ),
        Panel(
            title="Kinds of alerts",
            kind="table",
            unit="none",
            width=12,
            height=10,
            no_value="none",
            queries=(Query(worst(LISTED, alerts(n.NAMESPACE, n.WORKLOAD, OPERATION, ACTION, OUTCOME))),),
            meaning="The most frequent in this range, by the pods' controller; rows without a workload are the node's own. Beyond the 2,000 series of a bridge they have `otel_metric_overflow` and no workload.",
            otherwise="look at workloads that should raise no alerts.",
        ),
        Panel(
            title="Policies that matched",
            kind="table",
            unit="none",
            width=12,
            height=10,
            no_value="needs telemetry.alert_policies",
            queries=(Query(worst(LISTED, alerts(POLICY, ACTION, OUTCOME, security_rule_name='!=""'))),),
            meaning="The most frequent in this range; only with the setting `telemetry.alert_policies`, since policies can be many.",
            otherwise="a policy that matches thousands of times an hour describes normal behaviour: make it narrower.",
        ),
    ),
)

FLOW = Row(
    title="What flows, and what does not",
    panels=(
        Panel(
            title="Events per second",
            kind="timeseries",
            unit="ops",
            stacked=True,
            queries=(Query(rate("otelbridge.source.events", n.STREAM), "{{kubearmor_stream}}"),),
            meaning="Everything KubeArmor sends: alerts, logs (what happened without a policy), messages about itself.",
            otherwise="no logs: KubeArmor's visibility is set per namespace.",
        ),
        Panel(
            title="Filtered by the gate",
            kind="table",
            unit="none",
            no_value="no rule has dropped any",
            queries=(Query(f"{by(n.STREAM, n.REASON)} ({series('otelbridge.ledger.records', **FILTERED)})"),),
            meaning="Events dropped by a rule of `gate.rules` since the queue was created; the reason is the rule's name.",
            otherwise="if a rule drops more than it should: `otelbridge explain FILE` says which rule decides.",
        ),
        Panel(
            title="Counted instead of sent",
            kind="table",
            unit="none",
            no_value="no flood, or no `gate.flood`",
            queries=(Query(f"{by(n.STREAM)} ({series('otelbridge.ledger.records', **SUMMARISED)})"),),
            meaning="Events of floods since the queue was created. Of each kind one record `otelbridge.flood` a minute is sent.",
            otherwise="the records name the kinds; `otelbridge queue replay --kind PATTERN` sends the originals.",
        ),
        Panel(
            title="Processes as spans",
            kind="table",
            unit="none",
            no_value="no `mapping.process_traces`",
            queries=(Query(f"{by(n.ACCOUNT, n.REASON)} ({series('otelbridge.ledger.records', **SPANS)})"),),
            meaning="Spans made since the queue was created, and what happened to them.",
            otherwise="if spans are dropped: the trace service is away, or accepts none; the log says which.",
        ),
        Panel(
            title="Processes that are no spans yet",
            kind="timeseries",
            unit="none",
            no_value="no `mapping.process_traces`",
            queries=(Query(f"sum ({series('otelbridge.traces.processes')})", "processes"),),
            meaning="Processes mentioned by an event within `mapping.process_quiet_seconds`; at most 10,000 a bridge.",
            otherwise="at 10,000, spans are sent early, and their processes continue in further spans.",
        ),
        Panel(
            title="Withheld, by namespace",
            kind="table",
            unit="none",
            no_value="none",
            queries=(Query(grown("otelbridge.throttle.activations", n.NAMESPACE, **IN_NAMESPACE)),),
            meaning="How often KubeArmor stopped reporting a container of each namespace in this range.",
            otherwise="as under OtelbridgeThrottledByKubeArmor; the gap records name the containers.",
        ),
    ),
)

KUBEARMOR_DASHBOARD = Dashboard(
    uid="otelbridge-kubearmor",
    title="What is KubeArmor seeing?",
    description="Alerts by workload, outcome, operation and action, without a log store, and the time in which events could not be seen.",
    variables=(
        DATASOURCE_VARIABLE,
        variable("instance", "Bridge", "label_values(otelbridge_queue_limit_bytes, instance)"),
        variable("namespace", "Namespace", "label_values(otelbridge_alerts_total, k8s_namespace_name)"),
    ),
    rows=(GLANCE, KINDS, FLOW),
)
