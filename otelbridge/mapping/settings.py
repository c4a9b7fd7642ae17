"""Settings of the mapping."""

from __future__ import annotations

from typing import Literal

from otelbridge.mapping.severity import LEVELS, MAX_NUMBER, MIN_NUMBER, Situation
from otelbridge.setting import section, setting


def _severity_table(table: dict[str, dict[str, int]]) -> None:
    for situation, row in table.items():
        if situation not in list(Situation):
            raise ValueError(f"{situation!r} is not a situation; use one of {', '.join(Situation)}")
        for level, number in row.items():
            if level not in LEVELS:
                raise ValueError(f"{situation}.{level}: not one of KubeArmor's severities; use 1 to 10, or none")
            if not MIN_NUMBER <= number <= MAX_NUMBER:
                raise ValueError(
                    f"{situation}.{level}: {number} is not an OTLP severity number; "
                    f"use {MIN_NUMBER} (TRACE) to {MAX_NUMBER} (FATAL4); 9 is INFO, 13 WARN, 17 ERROR"
                )


@section
class MappingSettings:
    """The shape of the records."""

    cluster_name: str = setting(
        default="", description="Name of the cluster, where KubeArmor only knows it as `default`."
    )
    resource_granularity: Literal["container", "pod", "node"] = setting(
        default="container",
        description="How much of the workload is on the resource: `container`, `pod` (without the container), or `node` only; the rest is on the record.",
    )
    resource_attributes: dict[str, str] = setting(
        default_factory=dict, description="Added to every resource, such as `deployment.environment.name`."
    )
    service_name: str = setting(
        default="workload",
        min_length=1,
        description="`service.name` of the records: `workload` takes each workload's own, and `kubearmor` for a node's "
        "own events; any other text is used for all.",
    )
    kubernetes: bool = setting(
        default=True,
        description="KubeArmor's HostName is the name of a Kubernetes node, and becomes `k8s.node.name` too.",
    )
    body: Literal["text", "json", "map"] = setting(
        default="text",
        description="`text`: one readable line; `json`: the event as JSON text; `map`: the event as a map, as KubeArmor's otel-adapter sends it.",
    )
    keep_original: bool = setting(
        default=False,
        description="Also keep the whole event as JSON in `log.record.original`. Loki refuses a record with more than 64 KiB of attributes, by default.",
    )
    keep_raw: bool = setting(
        default=True, description="Keep Resource and Data as KubeArmor wrote them beside what is parsed out of them."
    )
    parse_labels: bool = setting(
        default=False,
        description="Pod labels as `k8s.pod.label.<key>` on the resource, dots in the key as `_`, beside `kubearmor.labels`. Each key is a field: Loki takes 128 a record, an OpenSearch index 1,000, by default.",
    )
    label_keys: tuple[str, ...] = setting(
        default=(), description="With `mapping.parse_labels`: only these keys; empty means all."
    )
    max_value_bytes: int = setting(
        default=8192,
        ge=256,
        le=65536,
        description="Longest attribute value; the rest is cut off and `kubearmor.truncated` names the attribute.",
    )
    max_body_bytes: int = setting(default=1024, ge=128, le=65536, description="Longest text body.")
    severity: dict[str, dict[str, int]] = setting(
        default_factory=dict,
        check=_severity_table,
        description="Overrides of the severity table: situation, then KubeArmor severity (`1` to `10` or `none`) to OTLP severity number (1 to 24).",
    )
    event_name_attribute: bool = setting(
        default=False,
        description="Also write the deprecated attribute `event.name`, for back-ends that ignore the field.",
    )
    mitre_techniques: bool = setting(
        default=True, description="MITRE technique ids found in the tags as `kubearmor.mitre.technique.ids`."
    )
    process_traces: bool = setting(
        default=False,
        description="Also make a span of each process that events mention, and give the records its ids; spans go to `send.traces_endpoint`.",
    )
    process_quiet_seconds: float = setting(
        default=10,
        ge=1,
        le=60,
        description="A process becomes a span once no event has mentioned it for this long.",
    )
    native: bool = setting(
        default=True,
        description="Encode common events with compiled code, where it is installed; the records are the same, at a quarter of the cost.",
    )
