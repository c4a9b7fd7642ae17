"""The row of panels about the endpoint: does it take the records, and how fast?"""

# ruff: noqa: E501 - a sentence or a query is one line
from __future__ import annotations

from k8s.dashboards.panels import Panel, Query, Row
from k8s.dashboards.queries import (
    BRIDGE,
    SHOWN,
    STATE_COLOURS,
    UPSTREAM,
    by,
    numbered,
    quantile,
    rate,
    recent,
    series,
    worst,
)
from otelbridge.send.circuit_breaker import EndpointState
from otelbridge.telemetry import names as n

SERVER = n.SERVER

DELIVERY_STATES = {number: (name, STATE_COLOURS[name]) for number, name in enumerate(EndpointState, 1)}

DELIVERING = Row(
    title="Delivering",
    panels=(
        Panel(
            title="States of the endpoint",
            kind="state-timeline",
            unit="none",
            width=16,
            states=DELIVERY_STATES,
            queries=(
                Query(
                    numbered("otelbridge.delivery.state", "otelbridge_state", list(EndpointState), "instance", *SERVER),
                    f"{BRIDGE} {UPSTREAM}",
                ),
            ),
            meaning="Delivering is normal. Delayed: the bridge tries again later. Held: an operator has to change something.",
            otherwise="as under OtelbridgeDeliveryHeld.",
        ),
        Panel(
            title="Records delivered per second",
            kind="timeseries",
            unit="ops",
            stacked=True,
            queries=(Query(rate("otelbridge.delivery.records", n.STREAM), "{{kubearmor_stream}}"),),
            meaning="By stream, over all bridges; follows the events received.",
            otherwise="as under OtelbridgeQueueFilling.",
        ),
        Panel(
            title="Answers of the endpoint",
            kind="timeseries",
            unit="reqps",
            stacked=True,
            queries=(
                Query(
                    rate("otelbridge.delivery.requests", n.OUTCOME, n.ERROR_TYPE),
                    "{{otelbridge_delivery_outcome}} {{error_type}}",
                ),
            ),
            meaning="By outcome; accepted is normal.",
            otherwise="`docs/delivery.md` says what the bridge does with each answer.",
        ),
        Panel(
            title="Time of an accepted request",
            kind="timeseries",
            unit="s",
            queries=(
                Query(quantile("otelbridge.delivery.duration", share=0.5), "half of them"),
                Query(quantile("otelbridge.delivery.duration", share=0.95), "95 %"),
            ),
            meaning="A few milliseconds to a Collector nearby.",
            otherwise="near `send.timeout_seconds`, requests that were accepted are sent again: give the Collector more resources.",
        ),
        Panel(
            title="From receipt to acceptance by the endpoint",
            kind="timeseries",
            unit="s",
            queries=(
                Query(quantile("otelbridge.delivery.event.lag", n.STREAM, share=0.5), "{{kubearmor_stream}}, half"),
                Query(quantile("otelbridge.delivery.event.lag", n.STREAM, share=0.99), "{{kubearmor_stream}}, 99 %"),
            ),
            meaning="How much later events arrive because of the bridge and the endpoint. Under a second is normal.",
            otherwise="the endpoint is slow or away, or a backlog is being delivered: as under OtelbridgeAlertsLate.",
        ),
        Panel(
            title="Delay asked for",
            kind="timeseries",
            unit="s",
            queries=(
                Query(
                    worst(SHOWN, f"{by('instance', function='max')} ({series('otelbridge.delivery.delay')})"), BRIDGE
                ),
            ),
            meaning="The delay in the endpoint's last answer; 0 while it accepts records.",
            otherwise="the Collector's memory limiter or the back-end's rate limit is at work.",
        ),
        Panel(
            title="Bytes sent per second",
            kind="timeseries",
            unit="Bps",
            queries=(Query(rate("otelbridge.delivery.io"), "before compression"),),
            meaning="Of accepted requests, before compression.",
            otherwise="if it jumps without more events: commands with very long arguments are being run.",
        ),
        Panel(
            title="Records refused",
            kind="timeseries",
            unit="none",
            stacked=True,
            no_value="none",
            queries=(Query(recent("otelbridge.delivery.rejected", n.STREAM), "{{kubearmor_stream}}"),),
            meaning="Refused in a partial success, or for good. 0 is normal.",
            otherwise="as under OtelbridgeRecordsRefused.",
        ),
    ),
)
