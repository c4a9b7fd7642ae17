"""Checks the OTLP endpoint: DNS, TCP, TLS, whether it answers, accepts our credentials and takes a record."""

from __future__ import annotations

import time
from http import HTTPStatus

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO

from otelbridge import __version__
from otelbridge.cli.doctor.report import Examination, Finding, Mark, Step, StepError, examine_route, sentence
from otelbridge.mapping.wire import SCHEMA_URL, SCOPE_NAME
from otelbridge.queue.model import Accepted, Hold, Outcome, Refused, RetryLater, TooLarge
from otelbridge.send.access import route_to_endpoint
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings, send_target

STEPS = {
    "resolve": Step.ENDPOINT_DNS,
    "connect": Step.ENDPOINT_TCP,
    "tls": Step.ENDPOINT_TLS,
    "plaintext": Step.ENDPOINT_TLS,
}
HTTP_CODES = frozenset(str(int(status)) for status in HTTPStatus)
CREDENTIAL_CODES = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "401", "403", "407"})
TEST_EVENT = "otelbridge.doctor"
TEST_BODY = "otelbridge doctor: a test record, nothing has happened."


def examine_endpoint(settings: SendSettings, *, send_test_record: bool) -> list[Finding]:
    """Checks the endpoint, up to the first step that fails."""
    if settings.protocol == "console":
        examination = Examination("console")
        with examination.step(Step.ENDPOINT_ANSWERS) as step:
            step.finding = "Events go to stdout; there is no endpoint."
        return examination.findings
    examination = Examination(send_target(settings).url)
    examine_route(route_to_endpoint(settings), examination, STEPS, silent=("plaintext",))
    if send_test_record and not examination.broken_off():
        _test_record(settings, examination)
    return examination.findings


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
