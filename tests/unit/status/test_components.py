from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

from otelbridge.mapping.model import MAX_ALERT_SERIES, MappingCounts
from otelbridge.status.components import INSTRUMENTS, OBSERVED
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings
from otelbridge.telemetry.telemetry import Telemetry

ALERTS = INSTRUMENTS["otelbridge.alerts"]
NOWHERE = SignalSettings(exporter="none")


def shown(tally: MappingCounts) -> dict[str, float]:
    """The series of alerts on /metrics, by their labels."""
    telemetry = Telemetry(
        TelemetrySettings(traces=NOWHERE, metrics=NOWHERE), version="1", instance_id="i", stderr=io.StringIO()
    )
    components: Any = SimpleNamespace(mapper=SimpleNamespace(tally=tally), alert_policies=False)
    telemetry.observe(ALERTS, lambda: OBSERVED[ALERTS](components))
    try:
        for _ in range(2):  # the SDK remembers what it has shown
            text = telemetry.prometheus().decode()
    finally:
        telemetry.close(2)
    return {
        labels: float(value)
        for labels, value in re.findall(r"^otelbridge_alerts_total\{(.*)\} (.*)$", text, re.MULTILINE)
    }


def test_alerts_are_shown_by_workload_and_a_nodes_own_without_one() -> None:
    tally = MappingCounts()
    tally.count_alert(("shop", "cart"), ("file", "Block", "denied", ""))
    tally.count_alert(("", ""), ("process", "Audit", "allowed", ""))
    assert shown(tally) == {
        'k8s_namespace_name="shop",kubearmor_action="Block",kubearmor_operation="file",kubearmor_outcome="denied",'
        'kubearmor_workload_name="cart"': 1,
        'k8s_namespace_name="",kubearmor_action="Audit",kubearmor_operation="process",kubearmor_outcome="allowed",'
        'kubearmor_workload_name=""': 1,
    }


def test_what_is_beyond_the_bound_is_shown_as_overflow_and_the_sum_is_right() -> None:
    tally = MappingCounts()
    for number in range(MAX_ALERT_SERIES + 70):
        tally.count_alert(("shop", f"cart-{number}"), ("file", "Block", "denied", ""))
    tally.count_alert(("shop", "cart-9999"), ("process", "Audit", "allowed", ""))
    series = shown(tally)
    overflow = {labels: value for labels, value in series.items() if 'otel_metric_overflow="true"' in labels}
    assert sorted(overflow.values()) == [1, 70]
    assert all('kubearmor_workload_name=""' in labels for labels in overflow)
    assert len(series) == MAX_ALERT_SERIES + 2
    assert sum(series.values()) == MAX_ALERT_SERIES + 71
