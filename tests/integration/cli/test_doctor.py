from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from typer.testing import CliRunner

from otelbridge.cli.application import application
from otelbridge.event import Stream
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import Http, Partial, Status
from otelbridge.simulator.listening import ServerTls
from otelbridge.simulator.upstream import Ending, Manners, Relay
from tests.peers.policing_relay import PolicingRelay


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """PEM files of one authority, and of others."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    @property
    def server(self) -> ServerTls:
        return ServerTls(cert_file=self.path("server.crt"), key_file=self.path("server.key"))

    @property
    def server_with_client_ca(self) -> ServerTls:
        return ServerTls(
            cert_file=self.path("server.crt"), key_file=self.path("server.key"), client_ca_file=self.path("ca.crt")
        )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    stranger.cert_pem.write_to_path(folder / "stranger.crt")
    past = datetime.now(UTC) - timedelta(days=1)
    for name, issued in (
        ("server", authority.issue_cert("127.0.0.1", "localhost")),
        ("other", authority.issue_cert("kubearmor.kubearmor")),
        ("expired", authority.issue_cert("127.0.0.1", not_after=past)),
        ("client", authority.issue_cert("client")),
    ):
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    return Certificates(folder=folder)


@pytest.fixture
def endpoint() -> Iterator[OtlpEndpoint]:
    with OtlpEndpoint() as running:
        yield running


def examine(*sets: str, upstream: str, endpoint: str, queue: Path) -> tuple[int, list[dict[str, Any]]]:
    """Runs the doctor; returns its exit code and the findings."""
    arguments = ["doctor", "--output", "json", "--wait", "0.3", "--kubearmor", upstream, "--endpoint", endpoint]
    arguments += ["--queue-directory", str(queue)]
    for one in sets:
        arguments += ["--set", one]
    result = CliRunner().invoke(application(), arguments, env={}, catch_exceptions=False)
    document = json.loads(result.stdout)
    assert document["exit_code"] == result.exit_code
    return result.exit_code, document["findings"]


def failed(findings: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Step and everything said of each failed step."""
    return [(one["step"], f"{one['finding']} {one['cure']}") for one in findings if one["mark"] == "failed"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_where_nothing_is_wrong_every_step_is_taken_and_the_exit_code_is_0(
    tmp_path: Path, endpoint: OtlpEndpoint
) -> None:
    with Relay() as relay:
        code, findings = examine(upstream=relay.endpoint, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    assert (code, failed(findings)) == (0, [])
    assert [one["step"] for one in findings] == [
        "settings", "queue", "KubeArmor: DNS", "KubeArmor: TCP", "KubeArmor: answers", "KubeArmor: subscription",
        "KubeArmor: first event", "endpoint: DNS", "endpoint: TCP", "endpoint: answers", "endpoint: credentials",
        "endpoint: test record",
    ]  # fmt: skip
    (record,) = endpoint.wait_for_records(1, 5)
    assert record.record.event_name == "otelbridge.doctor"
    said = {one["step"]: one["finding"] for one in findings}
    port = relay.endpoint.rpartition(":")[2]
    assert said["KubeArmor: DNS"] == "127.0.0.1 is an address: there is no name to look up."
    assert said["KubeArmor: TCP"] == f"Connected to 127.0.0.1 port {port}."
    assert relay.endpoint in said["settings"]
    assert endpoint.grpc_endpoint in said["settings"]


def test_a_name_is_shown_with_the_addresses_behind_it(tmp_path: Path, endpoint: OtlpEndpoint) -> None:
    with Relay() as relay:
        port = relay.endpoint.rpartition(":")[2]
        _, findings = examine(upstream=f"localhost:{port}", endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    (dns,) = [one["finding"] for one in findings if one["step"] == "KubeArmor: DNS"]
    assert dns.startswith("localhost is ")
    assert "127.0.0.1" in dns


def test_two_roads_to_one_server_are_a_warning(tmp_path: Path, endpoint: OtlpEndpoint) -> None:
    with Relay() as relay, Relay() as another:
        names = f"{relay.endpoint},localhost:{relay.endpoint.rpartition(':')[2]}"
        code, findings = examine("feed.roads=true", upstream=names, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
        (same,) = [one for one in findings if one["subject"] == names.replace(",", ", ")]
        assert code == 0
        assert same["mark"] == "warning"
        assert "one server, 127.0.0.1: what it drops, both roads lack" in same["finding"]
        assert "roads to the same events" in findings[0]["finding"]
        apart = f"{relay.endpoint},{another.endpoint}"
        _, findings = examine("feed.roads=true", upstream=apart, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
        assert not [one for one in findings if one["subject"] == apart.replace(",", ", ")]


def test_a_quiet_kubearmor_is_a_warning_and_an_event_is_named(tmp_path: Path, endpoint: OtlpEndpoint) -> None:
    with Relay() as relay:
        _, findings = examine(upstream=relay.endpoint, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    (quiet,) = [one for one in findings if one["step"] == "KubeArmor: first event"]
    assert quiet["mark"] == "warning"
    assert "kubearmor-visibility" in quiet["cure"]


BROKEN_UPSTREAMS = {
    "plaintext to TLS": ("server", (), "KubeArmor: answers", "Set feed.tls.enabled to true"),
    "wrong CA": ("server", ("feed.tls.ca_file={}/stranger.crt",), "KubeArmor: TLS", "Set feed.tls.ca_file to the CA"),
    "wrong name": ("other", ("feed.tls.ca_file={}/ca.crt",), "KubeArmor: TLS", "It is for kubearmor.kubearmor"),
    "expired": ("expired", ("feed.tls.ca_file={}/ca.crt",), "KubeArmor: TLS", "Renew the server's certificate"),
}


@pytest.mark.parametrize("case", BROKEN_UPSTREAMS)
def test_each_fault_of_kubearmors_tls_is_found_at_its_step(
    case: str, tmp_path: Path, certificates: Certificates, endpoint: OtlpEndpoint
) -> None:
    name, sets, step, cure = BROKEN_UPSTREAMS[case]
    tls = ServerTls(cert_file=certificates.path(f"{name}.crt"), key_file=certificates.path(f"{name}.key"))
    given = [one.format(certificates.folder) for one in sets]
    if sets:
        given.append("feed.tls.enabled=true")
    with Relay(tls=tls) as relay:
        code, findings = examine(*given, upstream=relay.endpoint, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    ((found_step, said),) = failed(findings)
    assert (found_step, code) == (step, {"KubeArmor: TLS": 13, "KubeArmor: answers": 14}[step])
    assert cure in said


def test_tls_to_a_plaintext_port_is_found(tmp_path: Path, endpoint: OtlpEndpoint) -> None:
    with Relay() as relay:
        code, findings = examine(
            "feed.tls.enabled=true", upstream=relay.endpoint, endpoint=endpoint.grpc_endpoint, queue=tmp_path
        )
    ((step, said),) = failed(findings)
    assert (code, step) == (13, "KubeArmor: TLS")
    assert "Set feed.tls.enabled to false if it is meant to, or dial the port" in said


def test_a_missing_client_certificate_is_found(
    tmp_path: Path, certificates: Certificates, endpoint: OtlpEndpoint
) -> None:
    sets = ("feed.tls.enabled=true", f"feed.tls.ca_file={certificates.path('ca.crt')}")
    pair = (
        f"feed.tls.cert_file={certificates.path('client.crt')}",
        f"feed.tls.key_file={certificates.path('client.key')}",
    )
    with Relay(tls=certificates.server_with_client_ca) as relay:
        code, findings = examine(*sets, upstream=relay.endpoint, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
        cured, _ = examine(*sets, *pair, upstream=relay.endpoint, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    ((step, said),) = failed(findings)
    assert step in ("KubeArmor: TLS", "KubeArmor: answers")
    assert code in (13, 14)
    assert "feed.tls.cert_file" in said
    assert cured == 0


def test_a_wrong_port_is_found(tmp_path: Path, endpoint: OtlpEndpoint) -> None:
    code, findings = examine(upstream=f"127.0.0.1:{free_port()}", endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    ((step, said),) = failed(findings)
    assert (code, step) == (12, "KubeArmor: TCP")
    assert "32767" in said


def test_a_name_that_does_not_resolve_is_found(tmp_path: Path, endpoint: OtlpEndpoint) -> None:
    code, findings = examine(upstream="kubearmor.invalid", endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    ((step, said),) = failed(findings)
    assert (code, step) == (11, "KubeArmor: DNS")
    assert "kubearmor.<namespace>" in said


@pytest.mark.parametrize(
    ("ending", "cure"),
    [
        (Ending(code=grpc.StatusCode.UNIMPLEMENTED), "leave it out: feed.streams=alerts, messages"),
        (Ending(), "refuses our filter"),
    ],
    ids=["without WatchLogs", "wrong filter"],
)
def test_a_stream_that_kubearmor_will_not_give_is_found(
    ending: Ending, cure: str, tmp_path: Path, endpoint: OtlpEndpoint
) -> None:
    with Relay(manners=Manners(openings={Stream.LOGS: ending})) as relay:
        code, findings = examine(upstream=relay.endpoint, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    ((step, said),) = failed(findings)
    assert (code, step) == (15, "KubeArmor: subscription")
    assert cure in said


def test_an_endpoint_that_does_not_know_us_is_found(tmp_path: Path) -> None:
    with Relay() as relay, OtlpEndpoint(token="secret") as strict:
        over_grpc, findings = examine(upstream=relay.endpoint, endpoint=strict.grpc_endpoint, queue=tmp_path)
        over_http, _ = examine(
            "send.protocol=http/protobuf",
            upstream=relay.endpoint,
            endpoint=f"{strict.http_endpoint}/v1/logs",
            queue=tmp_path,
        )
    ((step, said),) = failed(findings)
    assert (over_grpc, over_http, step) == (25, 25, "endpoint: credentials")
    assert "send.token_file" in said


def test_something_else_that_speaks_grpc_is_not_taken_for_an_old_kubearmor(
    tmp_path: Path, endpoint: OtlpEndpoint
) -> None:
    upstream = endpoint.grpc_endpoint.removeprefix("http://")
    code, findings = examine(upstream=upstream, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    ((step, said),) = failed(findings)
    assert (code, step) == (15, "KubeArmor: subscription")
    assert "it is not KubeArmor" in said
    assert "32767" in said


def test_of_a_web_page_the_text_is_shown(tmp_path: Path) -> None:
    page = b"<html><head><style>p {color: red}</style><title>Not Found</title></head><body><hr>nginx</body></html>"
    answer = Http(status=404, body=page, headers={"content-type": "text/html"})
    with Relay() as relay, OtlpEndpoint(answers=[answer]) as strict:
        _, findings = examine(
            "send.protocol=http/protobuf",
            upstream=relay.endpoint,
            endpoint=f"{strict.http_endpoint}/v1/logs",
            queue=tmp_path,
        )
    ((_, said),) = failed(findings)
    assert said.startswith("It answers 404 Not Found: Not Found nginx. Check the path")


def test_what_an_endpoints_url_holds_of_secrets_is_not_shown(tmp_path: Path) -> None:
    with Relay() as relay, OtlpEndpoint(answers=[Http(status=404)]) as strict:
        url = f"{strict.http_endpoint}/v1/logs?key=s3cret"
        _, findings = examine("send.protocol=http/protobuf", upstream=relay.endpoint, endpoint=url, queue=tmp_path)
    assert "/v1/logs?key=(secret)" in findings[0]["finding"]
    assert "s3cret" not in str(findings)


def test_a_wrong_path_is_found(tmp_path: Path) -> None:
    with Relay() as relay, OtlpEndpoint(answers=[Http(status=404)]) as strict:
        code, findings = examine(
            "send.protocol=http/protobuf",
            upstream=relay.endpoint,
            endpoint=f"{strict.http_endpoint}/v1/log",
            queue=tmp_path,
        )
    ((step, said),) = failed(findings)
    assert (code, step) == (24, "endpoint: answers")
    assert "/v1/logs" in said


@pytest.mark.parametrize(
    "answer",
    [Partial(rejected=1, message="quota"), Status(code=grpc.StatusCode.INVALID_ARGUMENT, details="quota")],
    ids=["partial success", "invalid argument"],
)
def test_an_endpoint_that_refuses_records_is_found(answer: Partial | Status, tmp_path: Path) -> None:
    with Relay() as relay, OtlpEndpoint(answers=[answer]) as strict:
        code, findings = examine(upstream=relay.endpoint, endpoint=strict.grpc_endpoint, queue=tmp_path)
    ((step, said),) = failed(findings)
    assert (code, step) == (26, "endpoint: test record")
    assert "quota" in said


def test_an_endpoint_of_another_ca_is_found(tmp_path: Path, certificates: Certificates) -> None:
    tls = ServerTls(cert_file=certificates.path("server.crt"), key_file=certificates.path("server.key"))
    with Relay() as relay, OtlpEndpoint(tls=tls) as strict:
        code, findings = examine(upstream=relay.endpoint, endpoint=strict.grpc_endpoint, queue=tmp_path)
        cured, _ = examine(
            f"send.ca_file={certificates.path('ca.crt')}",
            upstream=relay.endpoint,
            endpoint=strict.grpc_endpoint,
            queue=tmp_path,
        )
    ((step, said),) = failed(findings)
    assert (code, step, cured) == (23, "endpoint: TLS", 0)
    assert "Set send.ca_file" in said


def test_an_expired_client_certificate_for_the_endpoint_is_found(tmp_path: Path, certificates: Certificates) -> None:
    tls = ServerTls(
        cert_file=certificates.path("server.crt"),
        key_file=certificates.path("server.key"),
        client_ca_file=certificates.path("ca.crt"),
    )
    with Relay() as relay, OtlpEndpoint(tls=tls) as strict:
        code, findings = examine(
            *(
                f"send.{name}_file={certificates.path(file)}"
                for name, file in (("ca", "ca.crt"), ("cert", "expired.crt"), ("key", "expired.key"))
            ),
            upstream=relay.endpoint,
            endpoint=strict.grpc_endpoint,
            queue=tmp_path,
        )
    ((step, said),) = failed(findings)
    assert (code, step) == (23, "endpoint: TLS")
    assert f"send.cert_file ({certificates.path('expired.crt')}): the certificate expired on " in said
    assert findings[0]["mark"] == "warning"


def test_a_queue_folder_that_cannot_be_written_is_found(tmp_path: Path, endpoint: OtlpEndpoint) -> None:
    with Relay() as relay:  # /proc takes no files, not even from root
        code, findings = examine(
            upstream=relay.endpoint, endpoint=endpoint.grpc_endpoint, queue=Path("/proc/otelbridge")
        )
    ((step, said),) = failed(findings)
    assert (code, step) == (10, "queue")
    assert "queue.directory" in said


def test_wrong_settings_end_the_examination_with_2(tmp_path: Path) -> None:
    code, findings = examine("feed.retry.max_second=1", upstream="a b", endpoint="http://c", queue=tmp_path)
    assert code == 2
    assert len(failed(findings)) == 3


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_plaintext_to_an_endpoint_that_speaks_tls_is_named_with_its_cure(
    protocol: str, tmp_path: Path, certificates: Certificates
) -> None:
    tls = ServerTls(cert_file=certificates.path("server.crt"), key_file=certificates.path("server.key"))
    with Relay() as relay, OtlpEndpoint(tls=tls) as endpoint:
        url = endpoint.grpc_endpoint if protocol == "grpc" else f"{endpoint.http_endpoint}/v1/logs"
        code, findings = examine(
            f"send.protocol={protocol}",
            upstream=relay.endpoint,
            endpoint=url.replace("https://", "http://"),
            queue=tmp_path,
        )
    ((step, said),) = failed(findings)
    assert (code, step) == (23, "endpoint: TLS")
    assert "begin with https://" in said


@pytest.mark.parametrize("status", [b"302", b"429", b"503"])
def test_a_proxy_that_answers_in_kubearmors_place_is_not_taken_for_kubearmor(
    status: bytes, tmp_path: Path, endpoint: OtlpEndpoint
) -> None:
    with PolicingRelay() as proxy:
        proxy.answer_with_a_web_page(status)
        code, findings = examine(upstream=proxy.endpoint, endpoint=endpoint.grpc_endpoint, queue=tmp_path)
    ((step, said),) = failed(findings)
    assert (code, step) == (14, "KubeArmor: answers")
    assert status.decode() in said
    assert "A proxy answers in KubeArmor's place" in said
    assert "memory" not in said
