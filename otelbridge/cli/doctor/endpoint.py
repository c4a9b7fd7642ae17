"""Checks the OTLP endpoint: DNS, TCP, TLS, whether it answers, accepts our credentials and takes a record."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from http import HTTPStatus

from cryptography import x509
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO

from otelbridge import __version__
from otelbridge.cli.doctor.report import Examination, Finding, Mark, Step, StepError, sentence
from otelbridge.mapping.wire import SCHEMA_URL, SCOPE_NAME
from otelbridge.net.address import resolve_by_system
from otelbridge.net.files import TlsFileError
from otelbridge.net.handshake import HandshakeError, certificate_in_words, greet, server_certificate
from otelbridge.net.proxy import Proxy, connect_through, proxy_for
from otelbridge.net.tls_faults import TLS_SEEN, in_words, speaks_tls
from otelbridge.net.tls_files import read_tls_files
from otelbridge.queue.model import Accepted, Hold, Outcome, Refused, RetryLater, TooLarge
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings, Target, send_target

STEP_SECONDS = 5.0
HTTP_CODES = frozenset(str(int(status)) for status in HTTPStatus)
CREDENTIAL_CODES = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "401", "403", "407"})
PROXY_LOGIN = "HTTP/1.1 407"
PUT_LOGIN = "Put user and password of the proxy into its URL (send.proxy, HTTP_PROXY, HTTPS_PROXY)"
CORRECT_PROXY = "Correct send.proxy (HTTP_PROXY, HTTPS_PROXY)"
TEST_EVENT = "otelbridge.doctor"
TEST_BODY = "otelbridge doctor: a test record, nothing has happened."


def examine_endpoint(settings: SendSettings, *, send_test_record: bool) -> list[Finding]:
    """Takes the steps to the endpoint, as far as they go."""
    if settings.protocol == "console":
        examination = Examination("console")
        with examination.step(Step.ENDPOINT_ANSWERS) as step:
            step.finding = "Events go to stdout; there is no endpoint."
        return examination.findings
    target = send_target(settings)
    examination = Examination(target.url)
    _way(target, settings, examination)
    if send_test_record and not examination.broken_off():
        _test_record(settings, examination)
    return examination.findings


def _way(target: Target, settings: SendSettings, examination: Examination) -> None:
    addresses: list[str] = []
    proxy = proxy_for(target.host, target.port, settings.proxy, tls=target.tls)
    tunnel = target.tls or settings.protocol == "grpc"

    def connect() -> socket.socket:
        return _connected(target, addresses, proxy, tunnel=tunnel)

    with examination.step(Step.ENDPOINT_DNS) as step:
        addresses = [] if proxy else _resolved(target)
        step.finding = (
            f"The proxy {proxy} looks {target.host} up."
            if proxy
            else f"{target.host} is an address: there is no name to look up."
            if addresses == [target.host]
            else f"{target.host} is {', '.join(addresses)}."
        )
    if examination.broken_off():
        return
    plain: socket.socket | None = None
    try:
        with examination.step(Step.ENDPOINT_TCP) as step:
            plain = connect()
            through = f" through the proxy {proxy}" if proxy else ""
            step.finding = (
                f"Connected to {plain.getpeername()[0] if not proxy else target.host} port {target.port}{through}."
            )
        if plain is not None and not target.tls and (tunnel or proxy is None) and speaks_tls(connect):
            with examination.step(Step.ENDPOINT_TLS):
                wrong, cure = in_words(TLS_SEEN, "send")
                raise StepError(sentence(f"{wrong}, and send.endpoint asks for plaintext"), sentence(cure))
        if plain is not None and target.tls:
            with examination.step(Step.ENDPOINT_TLS) as step:
                dialled = [plain]
                step.finding = _shaken(lambda: dialled.pop() if dialled else connect(), target, settings)
    finally:
        if plain is not None:
            plain.close()


def _resolved(target: Target) -> list[str]:
    try:
        return list(resolve_by_system(target.host, target.port))
    except OSError as error:
        raise StepError(
            f"The name {target.host} does not resolve: {error.strerror or error}.",
            "Check the host in send.endpoint; within a cluster it is service.namespace.",
        ) from None


def _connected(target: Target, addresses: list[str], proxy: Proxy | None, *, tunnel: bool) -> socket.socket:
    """A connection to the target; or to the proxy, where it is given the requests themselves instead of a tunnel."""
    if proxy is not None:
        try:
            if not tunnel:
                return socket.create_connection((proxy.host, proxy.port), STEP_SECONDS)
            return connect_through(
                proxy, target.host, target.port, lambda *at: socket.create_connection(at, STEP_SECONDS)
            )
        except OSError as error:
            wants_login = PROXY_LOGIN in str(error)
            raise StepError(
                f"No connection through the proxy {proxy}: {error.strerror or error}.",
                f"{PUT_LOGIN if wants_login else CORRECT_PROXY}, or name {target.host} in NO_PROXY.",
            ) from None
    failures = []
    for address in addresses:
        try:
            return socket.create_connection((address, target.port), STEP_SECONDS)
        except OSError as error:
            failures.append(f"{address} port {target.port}: {error.strerror or error}")
    raise StepError(
        f"No connection: {'; '.join(failures)}.",
        "Check host and port in send.endpoint (4317 for gRPC, 4318 for HTTP), that the endpoint runs, and that no "
        "NetworkPolicy is in the way.",
    )


def _shaken(connect: Callable[[], socket.socket], target: Target, settings: SendSettings) -> str:
    """Makes the handshake; what the server shows, in a sentence."""
    name = settings.server_name or target.host
    try:
        files = read_tls_files(settings, "send")
        if old := files.out_of_date():
            raise StepError(sentence(old), "Renew the file; the bridge reads it again by itself.")
        alpn = "h2" if settings.protocol == "grpc" else ""
        encoded = greet(connect, files, name=name, section="send", alpn=alpn)
    except TlsFileError as error:
        raise StepError(sentence(f"{error.place}: {error.wrong}"), sentence(error.cure)) from None
    except HandshakeError as error:
        shown = server_certificate(connect, name=name)
        raise StepError(f"TLS failed: {error}. {shown}".rstrip(), sentence(error.cure)) from None
    except OSError as error:
        raise StepError(f"TLS failed: {error.strerror or error}.", "Look at the endpoint's own log.") from None
    return certificate_in_words(x509.load_der_x509_certificate(encoded)) if encoded else "As it should."


def _test_record(settings: SendSettings, examination: Examination) -> None:
    try:
        sender = open_sender(settings, version=__version__)
    except ValueError as error:
        examination.add(
            Step.CREDENTIALS, Mark.FAILED, seconds=0.0, finding=str(error), cure="Correct the setting or the file."
        )
        return
    began = time.monotonic()
    try:
        outcome = sender.send(_request(), records=1)
    finally:
        sender.close()
    seconds = time.monotonic() - began
    for step, judge, took in (
        (Step.ENDPOINT_ANSWERS, _answers, seconds),
        (Step.CREDENTIALS, _knows_us, 0.0),
        (Step.TEST_RECORD, _takes_it, 0.0),
    ):
        try:
            examination.add(step, Mark.OK, seconds=took, finding=judge(outcome))
        except StepError as error:
            examination.add(step, Mark.FAILED, seconds=took, finding=error.finding, cure=error.cure)
            return


def _said(code: str, why: str) -> str:
    """An answer: `404 Not Found: no such page`, `UNAVAILABLE: overloaded`; without repetition."""
    name = f"{code} {HTTPStatus(int(code)).phrase}" if code in HTTP_CODES else code
    return name if why in ("", code, name) else f"{name}: {why.removeprefix(name).strip()}"


def _answers(outcome: Outcome) -> str:
    match outcome:
        case RetryLater(code=code, why=why):
            raise StepError(
                f"It does not take records now: {_said(code, why)}.",
                "It may pass: the bridge keeps records on disk and tries again. Look at the endpoint's log and load.",
            )
        case Hold(code=code, why=why, cure=cure) if code not in CREDENTIAL_CODES:
            raise StepError(f"It answers {_said(code, why)}.", sentence(cure))
        case _:
            return "It answers a request for logs."


def _knows_us(outcome: Outcome) -> str:
    match outcome:
        case Hold(code=code, why=why, cure=cure):
            raise StepError(f"It refuses our credentials: {_said(code, why)}.", sentence(cure))
        case _:
            return "It asks for no other credentials."


def _takes_it(outcome: Outcome) -> str:
    match outcome:
        case Accepted(rejected=0):
            return f"A test record (event name {TEST_EVENT}) was accepted."
        case Refused(why=why, cure=cure) if cure:
            raise StepError(f"It refuses the test record: {why}.", sentence(cure))
        case Accepted(message=why) | Refused(why=why) | TooLarge(why=why):
            raise StepError(
                f"It refuses the test record: {why or 'without a reason'}.",
                "Look at the endpoint's log: a schema, a quota or a processor there does not take logs as they come.",
            )
        case _:
            return ""


def _request() -> bytes:
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    attribute = logs.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", "otelbridge"
    of_scope = logs.scope_logs.add()
    of_scope.scope.name, of_scope.scope.version = SCOPE_NAME, __version__
    logs.schema_url = of_scope.schema_url = SCHEMA_URL
    record = of_scope.log_records.add()
    record.time_unix_nano = record.observed_time_unix_nano = time.time_ns()
    record.severity_number, record.severity_text = SEVERITY_NUMBER_INFO, "INFO"
    record.event_name, record.body.string_value = TEST_EVENT, TEST_BODY
    return request.SerializeToString()
