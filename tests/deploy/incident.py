"""A bridge, what it lives between, two that look on (Prometheus scraping, Prometheus told by OTLP), and incidents."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import trustme

from otelbridge.event import Stream
from otelbridge.mapping.severity import THROTTLING_OPERATION
from otelbridge.pb.kubearmor_pb2 import Alert, Podowner
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import Ok, Partial
from otelbridge.simulator.listening import ServerTls
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher
from tests.peers.bridge import BridgeProcess, Json, running_bridge
from tests.peers.prometheus import PrometheusServer, start_prometheus
from tests.waiting import eventually

NODE, NODE_LABEL = "k8s.node.name", "k8s_node_name"
SEEN_SECONDS = 30
LATE_SECONDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A relay, a bridge, an endpoint, and those who look on."""

    relay: Relay
    bridge: BridgeProcess
    endpoint: OtlpEndpoint
    prometheus: Mapping[str, PrometheusServer]
    """`scraping` the bridge, and `receiving` its metrics by OTLP."""
    authority: trustme.CA
    folder: Path
    settings: Mapping[str, Json]
    """The bridge's."""


Poke = Callable[[], object]


@contextmanager
def stage(folder: Path, *, rules: Sequence[Path] = (), **settings: Json) -> Iterator[Scene]:
    """A scene that runs, over mutual TLS, with waits cut short.

    Args:
        folder: for all files.
        rules: files of alerting rules.
        settings: sections of the bridge's settings, over those that every scene has.
    """
    authority = trustme.CA()
    write_identity(authority, folder, days=365)
    files = {"ca_file": folder / "ca.crt", "cert_file": folder / "tls.crt", "key_file": folder / "tls.key"}
    tls = ServerTls(cert_file=files["cert_file"], key_file=files["key_file"], client_ca_file=files["ca_file"])
    with Relay(tls=tls) as relay, OtlpEndpoint(http_port=None, keep=False) as endpoint:
        sections: dict[str, Json] = {
            "feed": {
                "endpoints": [relay.endpoint],
                "tls": {"enabled": True, **{name: str(path) for name, path in files.items()}},
                "retry": {"initial_seconds": 0.5, "max_seconds": 1},
            },
            "queue": {"max_bytes": 4 * 1024 * 1024},
            "send": {
                "endpoint": endpoint.grpc_endpoint,
                "hold_initial_seconds": 0.5,
                "hold_max_seconds": 1,
                "replay_rate_factor": 0,
            },
        }
        with start_prometheus(folder / "receiving", rules=rules) as receiving:
            sections["telemetry"] = {
                "disabled": False,
                "traces": {"exporter": "none"},
                "metrics": {"protocol": "http/protobuf", "endpoint": receiving.otlp_endpoint},
                "metrics_interval_seconds": 1,
            }
            for name, section in settings.items():
                sections[name] = {**sections.get(name, {}), **section}
            with running_bridge(folder, **sections) as bridge:
                target = f"127.0.0.1:{bridge.status_port}"
                with start_prometheus(folder / "scraping", scrape=[target], rules=rules) as scraping:
                    yield Scene(
                        relay=relay,
                        bridge=bridge,
                        endpoint=endpoint,
                        prometheus={"scraping": scraping, "receiving": receiving},
                        authority=authority,
                        folder=folder,
                        settings=sections,
                    )


def write_identity(authority: trustme.CA, folder: Path, *, days: int) -> None:
    """A certificate for both ends, and its CA."""
    identity = authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=days))
    identity.private_key_pem.write_to_path(folder / "tls.key")
    identity.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    authority.cert_pem.write_to_path(folder / "ca.crt")


def nothing() -> None:
    """Most incidents go on by themselves."""


@contextmanager
def no_bridge(scene: Scene) -> Iterator[Poke]:
    scene.bridge.process.stop()
    yield nothing
    scene.bridge.process.start()


@contextmanager
def no_relay(scene: Scene) -> Iterator[Poke]:
    scene.relay.stop()
    yield nothing
    scene.relay.start()


@contextmanager
def ending_streams(scene: Scene) -> Iterator[Poke]:
    yield lambda: scene.relay.end_streams(grpc.StatusCode.UNAVAILABLE, "for the test")


@contextmanager
def silent_node(scene: Scene) -> Iterator[Poke]:
    say(scene, node="silent")
    yield lambda: say(scene, node="heard")
    say(scene, node="silent")


@contextmanager
def throttled_container(scene: Scene) -> Iterator[Poke]:
    alert = Alert(HostName="node", NamespaceName="shop", PodName="cart", Operation=THROTTLING_OPERATION)
    alert.MaxAlertsPerSec, alert.DroppingAlertsInterval = 10, 30
    scene.relay.publish(Stream.ALERTS, alert)
    yield nothing


@contextmanager
def expiring_certificate(scene: Scene) -> Iterator[Poke]:
    renew(scene, days=10)
    yield nothing
    renew(scene, days=365)


@contextmanager
def refused_credentials(scene: Scene) -> Iterator[Poke]:
    scene.endpoint.token = "wanted"
    say(scene)
    yield nothing
    scene.endpoint.token = ""


@contextmanager
def full_queue(scene: Scene) -> Iterator[Poke]:
    scene.endpoint.token = "wanted"
    yield lambda: Publisher(scene.relay, per_second=2000).publish(500)
    scene.endpoint.token = ""


@contextmanager
def picky_endpoint(scene: Scene) -> Iterator[Poke]:
    scene.endpoint.answers = lambda _: Partial(rejected=1, message="for the test")
    say(scene)
    yield nothing
    scene.endpoint.answers = lambda _: Ok()


@contextmanager
def full_disk(scene: Scene) -> Iterator[Poke]:
    # As a full disk does, it fails every write that would make a file longer.
    before = resource.prlimit(scene.bridge.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    yield lambda: say(scene)
    resource.prlimit(scene.bridge.process.pid, resource.RLIMIT_FSIZE, before)
    say(scene)


@contextmanager
def late_alert(scene: Scene) -> Iterator[Poke]:
    """An alert is accepted seconds after it was received; one before it was accepted at once."""
    say(scene)
    seen_by_all(scene, 'otelbridge_delivery_event_lag_seconds_count{kubearmor_stream="alerts"}')
    scene.endpoint.token = "wanted"
    say(scene)
    seen_by_all(scene, f"otelbridge_queue_oldest_age_seconds > {LATE_SECONDS}")
    scene.endpoint.token = ""
    yield nothing


@contextmanager
def block_that_does_not(scene: Scene) -> Iterator[Poke]:
    say(scene, NamespaceName="not-blocked", Action="Block", Operation="Process")
    yield nothing


@contextmanager
def first_denial(scene: Scene) -> Iterator[Poke]:
    owner = Podowner(Ref="Deployment", Name="never-denied", Namespace="shop")
    say(scene, NamespaceName="shop", PodName="p", Owner=owner, Action="Block", Result="Permission denied")
    yield nothing


@contextmanager
def burst(scene: Scene) -> Iterator[Poke]:
    def more() -> None:
        for _ in range(20):
            say(scene, NamespaceName="noisy")

    yield more


@contextmanager
def lost_node(scene: Scene) -> Iterator[Poke]:
    """Another node's bridge comes, is seen by both who look on, and goes."""
    own = f"127.0.0.1:{scene.bridge.status_port}"
    settings = {**scene.settings, "telemetry": {**scene.settings["telemetry"], "resource_attributes": {NODE: "lost"}}}
    with running_bridge(scene.folder / "lost", **settings) as bridge:
        scene.prometheus["scraping"].scrape(own, f"127.0.0.1:{bridge.status_port}")
        seen_by_all(scene, f'target_info{{{NODE_LABEL}="lost"}}')
        bridge.stop()
        yield nothing
    scene.prometheus["scraping"].scrape(own)


def seen_by_all(scene: Scene, query: str) -> None:
    """Returns once all who look on find something."""
    for prometheus in scene.prometheus.values():
        eventually(lambda one=prometheus: one.query(query), within_seconds=SEEN_SECONDS, why=query)  # type: ignore[misc]


INCIDENTS: dict[str, Callable[[Scene], AbstractContextManager[Poke]]] = {
    "OtelbridgeAbsent": no_bridge,
    "OtelbridgeBlind": no_relay,
    "OtelbridgeSubscriptionFlapping": ending_streams,
    "OtelbridgeNodeSilent": silent_node,
    "OtelbridgeThrottledByKubeArmor": throttled_container,
    "OtelbridgeCertificateExpiring": expiring_certificate,
    "OtelbridgeQueueFilling": full_queue,
    "OtelbridgeDeliveryLate": refused_credentials,
    "OtelbridgeAlertsLate": late_alert,
    "OtelbridgeDeliveryHeld": refused_credentials,
    "OtelbridgeRecordsRefused": picky_endpoint,
    "OtelbridgeRecordsDropped": full_queue,
    "OtelbridgeDiskDegraded": full_disk,
    "KubeArmorNotBlocked": block_that_does_not,
    "KubeArmorNewDenials": first_denial,
    "KubeArmorAlertBurst": burst,
    "OtelbridgeNodeGone": lost_node,
}


def say(scene: Scene, *, node: str = "node", **fields: str | Podowner) -> None:
    """One alert of a node, an audit of a file unless the fields say something else."""
    now = datetime.now(UTC)
    usual = {"HostName": node, "Type": "MatchedPolicy", "Action": "Audit", "Result": "Passed", "Operation": "File"}
    alert = Alert(**{**usual, **fields})  # type: ignore[arg-type]
    alert.Timestamp, alert.UpdatedTime = int(now.timestamp()), now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    scene.relay.publish(Stream.ALERTS, alert)


def renew(scene: Scene, *, days: int) -> None:
    """Other certificates, which both ends read when they connect anew."""
    write_identity(scene.authority, scene.folder, days=days)
    scene.relay.stop()
    scene.relay.start()
