from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.simulator.endpoint import OtlpEndpoint, attributes
from tests.deploy.rendering import ROOT
from tests.integration.peers.export import export_grpc
from tests.peers.collector import start_pipeline, validate

PIPELINES = ROOT / "k8s" / "collector"
AGENT, GATEWAY, FROM_KAFKA = (PIPELINES / f"{name}.yaml" for name in ("agent", "gateway", "from-kafka"))
DESTINATIONS = sorted(PIPELINES.glob("to-*.yaml"))
ENVIRONMENT = {
    "KUBE_NODE_NAME": "node-1",
    "OTEL_GATEWAY": "otel-gateway.observability.svc:4317",
    "LOKI_ENDPOINT": "http://loki-gateway.loki.svc/otlp",
    "ELASTIC_ENDPOINT": "https://elastic.example:443",
    "ELASTIC_API_KEY": "key",
    "CLICKHOUSE_ENDPOINT": "tcp://clickhouse.clickhouse.svc:9000",
    "VICTORIALOGS_ENDPOINT": "http://victorialogs.victorialogs.svc:9428/insert/opentelemetry",
    "KAFKA_BROKERS": "kafka-0.kafka.svc:9092,kafka-1.kafka.svc:9092",
    "TRACES_ENDPOINT": "jaeger-collector.tracing.svc:4317",
    "PROMETHEUS_ENDPOINT": "http://prometheus.monitoring.svc:9090/api/v1/otlp",
}
POD_UID = "7b1f6c1e-6d3c-4f0e-9d2b-0d9f3a1c5e11"


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


@pytest.mark.collector
@pytest.mark.parametrize(
    "configs",
    [(AGENT,), (FROM_KAFKA,), *((GATEWAY, to) for to in DESTINATIONS), (GATEWAY, *DESTINATIONS)],
    ids=lambda configs: "+".join(path.stem for path in configs),
)
def test_the_genuine_collector_accepts_the_pipeline(configs: tuple[Path, ...], tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, "QUEUE_DIRECTORY": str(tmp_path / "queue")}
    done = validate(*configs, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.collector
def test_the_genuine_collector_would_refuse_a_wrong_pipeline(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("processors: {k8s_attributes: {pod_associations: []}}", encoding="utf-8")
    done = validate(AGENT, wrong, env={**ENVIRONMENT, "QUEUE_DIRECTORY": str(tmp_path)})
    assert done.returncode != 0
    assert "pod_associations" in done.stderr


@pytest.mark.parametrize("path", [AGENT, GATEWAY], ids=lambda path: path.stem)
def test_pods_are_never_found_by_the_connection(path: Path) -> None:
    associations = read(path)["processors"]["k8s_attributes"]["pod_association"]
    assert {source["from"] for one in associations for source in one["sources"]} == {"resource_attribute"}


def test_agent_and_gateway_describe_pods_alike() -> None:
    agent, gateway = (read(path)["processors"]["k8s_attributes"] for path in (AGENT, GATEWAY))
    agent.pop("filter")
    assert agent == gateway


@pytest.mark.parametrize("path", [AGENT, *DESTINATIONS], ids=lambda path: path.stem)
def test_what_was_answered_for_is_on_disk(path: Path) -> None:
    config = read(path)
    for name, pipeline in config["service"]["pipelines"].items():
        assert not [processor for processor in pipeline["processors"] if processor.startswith("batch")], name
        if name.startswith("logs"):
            for exporter in pipeline["exporters"]:
                assert config["exporters"][exporter]["sending_queue"]["storage"] == "file_storage", exporter
                assert config["exporters"][exporter]["retry_on_failure"]["max_elapsed_time"] == "0s", exporter


@pytest.mark.parametrize("path", [*DESTINATIONS, FROM_KAFKA], ids=lambda path: path.stem)
def test_a_file_names_the_variables_that_it_needs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    comment = "".join(line for line in text.splitlines() if line.startswith("#"))
    for name in re.findall(r"\$\{env:(\w+)", text):
        assert name in comment, f"{name} is not explained"


def test_the_readme_lists_every_file() -> None:
    readme = (PIPELINES / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([\w-]+\.yaml)`", readme, re.MULTILINE))
    assert listed == {path.name for path in PIPELINES.glob("*.yaml")}


def test_the_rights_of_the_collector_pass_the_schema() -> None:
    for document in yaml.safe_load_all((PIPELINES / "rbac.yaml").read_text(encoding="utf-8")):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def pod(name: str, *, address: str, uid: str, replica_set: str = "") -> dict[str, Any]:
    """A pod as the API shows it; its application is called as it is."""
    labels = {"app.kubernetes.io/name": name}
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": uid, "labels": labels}
    if replica_set:
        labels["pod-template-hash"] = replica_set.rpartition("-")[2]
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": replica_set, "uid": "rs-1", "controller": True}
        metadata["ownerReferences"] = [owner]
    status = {"podIP": address, "phase": "Running", "startTime": "2026-07-25T17:00:00Z"}
    return {"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": status}


@pytest.fixture
def behind() -> Iterator[OtlpEndpoint]:
    with OtlpEndpoint(http_port=None) as endpoint:
        yield endpoint


@pytest.fixture
def agent(tmp_path: Path, behind: OtlpEndpoint) -> Iterator[str]:
    """The OTLP/gRPC endpoint of a Collector that runs agent.yaml."""
    pods = [
        pod("cart-5d8f-x2k", address="10.1.0.9", uid=POD_UID, replica_set="cart-5d8f"),
        # The pod that all records come from: what describing them by connection would find.
        pod("otelbridge", address="127.0.0.1", uid="the-bridge"),
    ]
    environment = {"KUBE_NODE_NAME": "node-1", "OTEL_GATEWAY": behind.grpc_endpoint.removeprefix("http://")}
    with start_pipeline(tmp_path, AGENT, env=environment, pods=pods) as pipeline:
        yield pipeline.grpc_endpoint


def events_of(*resources: dict[str, str]) -> ExportLogsServiceRequest:
    """One record for each resource."""
    request = ExportLogsServiceRequest()
    for resource in resources:
        per_resource = request.resource_logs.add()
        for key, value in resource.items():
            per_resource.resource.attributes.add(key=key).value.string_value = value
        per_resource.scope_logs.add().log_records.add().event_name = "kubearmor.alert"
    return request


@pytest.mark.collector
def test_an_event_leaves_the_agent_with_what_kubernetes_knows_about_its_pod(agent: str, behind: OtlpEndpoint) -> None:
    told = {
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "cart-5d8f-x2k",
        "k8s.node.name": "as-kubearmor-says",
        "service.name": "kubearmor",
    }
    export_grpc(agent, events_of(told))
    (found,) = behind.wait_for_records(1, within=20)
    resource = attributes(found.resource.attributes)
    assert resource.items() >= told.items(), "what KubeArmor said is kept"
    assert resource["k8s.pod.uid"] == POD_UID
    assert resource["k8s.deployment.name"] == "cart"
    assert resource["app"] == "cart-5d8f-x2k"
    assert found.record.event_name == "kubearmor.alert"


@pytest.mark.collector
def test_an_event_of_the_host_is_not_described_as_the_bridges_pod(agent: str, behind: OtlpEndpoint) -> None:
    told = {"host.name": "node-1", "k8s.node.name": "node-1", "service.name": "kubearmor"}
    export_grpc(agent, events_of(told))
    (found,) = behind.wait_for_records(1, within=20)
    assert attributes(found.resource.attributes) == told
