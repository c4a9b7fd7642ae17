"""The steps by which `doctor` examines KubeArmor and the OTLP endpoint, and what it finds at each.

KubeArmor: DNS, TCP, TLS, whether it answers, lets us subscribe and sends an event. The endpoint: DNS, TCP, TLS, whether
it answers, accepts our credentials and takes a record.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO

from otelbridge import __version__
from otelbridge.cli.output import Exit
from otelbridge.event import NANOSECONDS, UPSTREAM_STREAMS, Stream
from otelbridge.feed.channel import (
    WatchCall,
    open_channel,
    release,
    route_to,
    start_health_check,
    start_nonce_check,
    start_watch,
)
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.status_codes import NO_ROOM, has_no_room
from otelbridge.mapping.decode import decode
from otelbridge.mapping.wire import SCHEMA_URL, SCOPE_NAME
from otelbridge.net.address import is_ip, parse_address
from otelbridge.net.handshake import server_certificate
from otelbridge.net.preflight import Route, dial, preflight
from otelbridge.net.secrets import without_credentials
from otelbridge.net.tls_files import read_usable
from otelbridge.queue.model import Accepted, Hold, Outcome, Refused, RetryLater, TooLarge
from otelbridge.send.access import route_to_endpoint
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings, send_target

STEP_SECONDS = 5.0
"""For each step to a server."""


class Step(StrEnum):
    """The steps, in the order in which they are taken."""

    SETTINGS = "settings"
    QUEUE = "queue"
    KUBEARMOR_DNS = "KubeArmor: DNS"
    KUBEARMOR_TCP = "KubeArmor: TCP"
    KUBEARMOR_TLS = "KubeArmor: TLS"
    KUBEARMOR_ANSWERS = "KubeArmor: answers"
    SUBSCRIPTION = "KubeArmor: subscription"
    FIRST_EVENT = "KubeArmor: first event"
    ENDPOINT_DNS = "endpoint: DNS"
    ENDPOINT_TCP = "endpoint: TCP"
    ENDPOINT_TLS = "endpoint: TLS"
    ENDPOINT_ANSWERS = "endpoint: answers"
    CREDENTIALS = "endpoint: credentials"
    TEST_RECORD = "endpoint: test record"


EXIT_CODES = dict(zip(Step, (int(Exit.WRONG_USAGE), *range(10, 17), *range(21, 27)), strict=True))
"""The first failed step decides; a script can tell them apart."""


class Mark(StrEnum):
    """How a step ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a step found."""

    step: Step
    subject: str
    """What was looked at: an address, a folder."""
    mark: Mark
    seconds: float
    finding: str
    """One sentence."""
    cure: str = ""


class StepError(Exception):
    """A step failed: what was found, and the cure."""

    def __init__(self, finding: str, cure: str) -> None:
        self.finding = finding
        self.cure = cure
        super().__init__(f"{finding} {cure}")


@dataclass(slots=True)
class Taken:
    """The finding of a step, filled in while it runs."""

    finding: str = ""
    cure: str = ""
    mark: Mark = Mark.OK


class Examination:
    """Collects the findings about one subject, step by step."""

    def __init__(self, subject: str) -> None:
        self.findings: list[Finding] = []
        self._subject = subject

    @contextmanager
    def step(self, step: Step) -> Iterator[Taken]:
        """Runs a step; a `StepError` raised in it becomes its finding."""
        taken, began = Taken(), time.monotonic()
        try:
            yield taken
        except StepError as error:
            taken = Taken(error.finding, error.cure, Mark.FAILED)
        self.add(step, taken.mark, seconds=time.monotonic() - began, finding=taken.finding, cure=taken.cure)

    def add(self, step: Step, mark: Mark, *, seconds: float, finding: str, cure: str = "") -> None:
        """Adds a finding; secrets in its URLs are hidden."""
        subject, finding, cure = map(without_credentials, (self._subject, finding, cure))
        self.findings.append(
            Finding(step=step, subject=subject, mark=mark, seconds=seconds, finding=finding, cure=cure)
        )

    def broken_off(self) -> bool:
        """Whether a step failed: the later ones depend on it."""
        return any(finding.mark is Mark.FAILED for finding in self.findings)


def examine_route(
    route: Route, examination: Examination, steps: Mapping[str, Step], *, silent: Collection[str]
) -> None:
    """Runs the preflight to a server, and adds a finding for each of its steps.

    `steps` says which of doctor's steps each of the route's is; those in `silent` are reported only if they fail.
    """
    found = preflight(route, timeout_seconds=STEP_SECONDS)
    host, proxy, through = route.host, route.proxy, f" through the proxy {route.proxy}" if route.proxy else ""
    said = {
        "resolve": f"{host} is {', '.join(found.addresses)}.",
        "connect": f"Connected to {host if proxy else found.connected_to} port {route.port}{through}.",
    }
    if proxy is not None:
        said["resolve"] = f"The proxy {proxy} looks {host} up."
    elif is_ip(host):
        said["resolve"] = f"{host} is an address: there is no name to look up."
    if route.tls is not None and found.connected_to:
        said["tls"] = server_certificate(lambda: dial(route, found.connected_to, STEP_SECONDS), name=route.name)
    for taken in found.steps:
        if taken.name in silent and not taken.error:
            continue
        finding = said.get(taken.name) or "As it should."
        if taken.error:
            finding = f"{sentence(taken.error)} {said.get('tls', '') if taken.name == 'tls' else ''}".strip()
        examination.add(
            steps[taken.name],
            Mark.FAILED if taken.error else Mark.OK,
            seconds=(taken.ended_unix_nano - taken.started_unix_nano) / NANOSECONDS,
            finding=finding,
            cure=sentence(found.cure) if taken.error else "",
        )


def exit_code(findings: list[Finding]) -> int:
    """0, or that of the first failed step."""
    return next((EXIT_CODES[finding.step] for finding in findings if finding.mark is Mark.FAILED), int(Exit.DONE))


def sentence(words: str) -> str:
    """Words as a sentence: with a full stop, and a capital unless a setting's name begins it."""
    first = words.partition(" ")[0]
    return f"{words if '.' in first else words[:1].upper() + words[1:]}".rstrip(".") + "." if words else ""


SETTLE_SECONDS = 1.0
"""A subscription that lives so long was accepted: both servers refuse at once. Less, where `--wait` is less."""
NONCE = 20_26
JOIN_SECONDS = 2.0

KUBEARMOR_STEPS = {
    "resolve": Step.KUBEARMOR_DNS,
    "connect": Step.KUBEARMOR_TCP,
    "tls": Step.KUBEARMOR_TLS,
    "http2": Step.KUBEARMOR_ANSWERS,
}
ITS_LOG = (
    "Look at its own log: kubectl logs -n <namespace> deployment/kubearmor-relay, or the kubearmor pod of the node."
)
STARVED = "A relay that is starved of memory answers like this."
HTTP_STATUS = "http2 header with status"
"""In gRPC's words: it was answered as a browser is."""
FROM_A_PROXY = (
    "A proxy answers in KubeArmor's place: see that KubeArmor runs behind it, and that it passes gRPC on, without a "
    "login, a redirect or a limit."
)


class _Heard(NamedTuple):
    """An event of a subscription, or its end."""

    stream: Stream
    body: bytes | None
    code: str = ""
    details: str = ""


def examine_kubearmor(upstream: str, settings: FeedSettings, *, event_seconds: float) -> list[Finding]:
    """Checks one upstream, up to the first step that fails."""
    address = parse_address(upstream)
    examination = Examination(upstream)
    # Whether it speaks HTTP/2 is said only where it does not: KubeArmor's own answer says more.
    examine_route(route_to(address, settings), examination, KUBEARMOR_STEPS, silent=("http2",))
    if examination.broken_off():
        return examination.findings
    channel = open_channel(
        address,
        settings,
        version=__version__,
        keepalive_seconds=settings.keepalive.time_seconds,
        certificates=read_usable(settings.tls, "feed.tls") if settings.tls.enabled else None,
    )
    try:
        with examination.step(Step.KUBEARMOR_ANSWERS) as step:
            step.finding, step.mark = _health(channel)
        if not examination.broken_off():
            _subscriptions(channel, settings, examination, event_seconds)
    finally:
        channel.close()
    return examination.findings


def _health(channel: grpc.Channel) -> tuple[str, Mark]:
    try:
        reply = start_nonce_check(channel, NONCE, STEP_SECONDS).result()
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            no_room = has_no_room(error.code(), error.details() or "")
            raise StepError(
                f"HealthCheck failed: {error.code().name}: {error.details()}.",
                sentence(NO_ROOM) if no_room else _cure(error.details(), STARVED),
            ) from None
    else:
        if reply.Retval != NONCE:
            return "Its HealthCheck returns a wrong nonce; the bridge will not rely on it.", Mark.WARNING
        return "It answers health checks.", Mark.OK
    try:
        start_health_check(channel, STEP_SECONDS).result()
    except grpc.RpcError:
        return (
            "It has neither KubeArmor's HealthCheck nor grpc.health.v1; the bridge relies on HTTP/2 pings.",
            Mark.WARNING,
        )
    return "It answers health checks (grpc.health.v1).", Mark.OK


def _subscriptions(
    channel: grpc.Channel, settings: FeedSettings, examination: Examination, event_seconds: float
) -> None:
    wanted = [stream for stream in UPSTREAM_STREAMS if stream in settings.streams]
    heard: queue.SimpleQueue[_Heard] = queue.SimpleQueue()
    calls = {stream: start_watch(channel, stream) for stream in wanted}
    threads = [
        threading.Thread(target=_listen, args=(stream, call, heard), name=f"doctor-{stream}", daemon=True)
        for stream, call in calls.items()
    ]
    for thread in threads:
        thread.start()
    try:
        began = time.monotonic()
        with examination.step(Step.SUBSCRIPTION) as step:
            events, ends = _until(heard, began + min(SETTLE_SECONDS, event_seconds), enough=len(wanted))
            if ends:
                raise StepError(*_refusal(ends, wanted))
            step.finding = f"Subscribed to {', '.join(wanted)}."
            if not _room_for_health_checks(channel):
                step.finding += " But health checks get no stream beside them: a server that hangs is noticed late."
                step.mark, step.cure = Mark.WARNING, sentence(NO_ROOM)
        if examination.broken_off():
            return
        with examination.step(Step.FIRST_EVENT) as step:
            if not events:
                events, _ = _until(heard, began + event_seconds, enough=1)
            step.finding = _first(events, event_seconds)
            if not events:
                step.mark = Mark.WARNING
                step.cure = (
                    "None, on a quiet cluster. To be sure: does the relay's log name its nodes? One that has lost them "
                    "looks the same. Alerts need a policy that matches; logs need the namespace's annotation "
                    "kubearmor-visibility=process,file,network."
                )
    finally:
        channel.close()  # ends the calls
        for thread in threads:
            thread.join(JOIN_SECONDS)


def _listen(stream: Stream, call: WatchCall, heard: queue.SimpleQueue[_Heard]) -> None:
    try:
        for body in call:
            heard.put(_Heard(stream, body))
    except grpc.RpcError as error:
        heard.put(_Heard(stream, None, error.code().name, error.details() or ""))
    else:
        heard.put(_Heard(stream, None, "OK"))
    release(call)


def _room_for_health_checks(channel: grpc.Channel) -> bool:
    """Whether one can be sent while the subscriptions are open; how it is answered is said elsewhere."""
    try:
        start_nonce_check(channel, NONCE, STEP_SECONDS).result()
    except grpc.RpcError as error:
        return not has_no_room(error.code(), error.details() or "")
    return True


def _until(heard: queue.SimpleQueue[_Heard], deadline: float, *, enough: int) -> tuple[list[_Heard], list[_Heard]]:
    """Events and ends that come until the deadline, or until there are enough."""
    events: list[_Heard] = []
    ends: list[_Heard] = []
    while len({one.stream for one in events}) + len(ends) < enough and (left := deadline - time.monotonic()) > 0:
        try:
            one = heard.get(timeout=left)
        except queue.Empty:
            break
        (ends if one.body is None else events).append(one)
    return events, ends


def _refusal(ends: list[_Heard], wanted: Sequence[Stream]) -> tuple[str, str]:
    names = ", ".join(sorted({end.stream for end in ends}))
    if all(has_no_room(grpc.StatusCode[end.code], end.details) for end in ends):
        return f"There is no room for {names}.", sentence(NO_ROOM)
    codes = {end.code for end in ends}
    rest = ", ".join(stream for stream in wanted if stream not in {end.stream for end in ends})
    without = f"leave it out: feed.streams={rest}" if rest else "use one that has at least one of the streams"
    if codes == {"OK"}:
        return (
            f"The server ends {names} at once, and without an error: so it refuses our filter.",
            f"This KubeArmor knows other filters than policy, system and all: update KubeArmor, or {without}.",
        )
    if codes == {"UNIMPLEMENTED"} and not rest:
        return (
            "It speaks gRPC, but has none of the streams: it is not KubeArmor.",
            "Check host and port in feed.endpoints: KubeArmor and its relay listen on 32767.",
        )
    if codes == {"UNIMPLEMENTED"}:
        return f"The server does not have {names}.", f"Update KubeArmor, or {without}."
    said = "; ".join(f"{end.stream}: {end.code}: {end.details}" for end in ends)
    return f"The subscription was refused: {said}.", _cure(said)


def _cure(said: str | None, more: str = "") -> str:
    return FROM_A_PROXY if HTTP_STATUS in (said or "") else f"{ITS_LOG} {more}".strip()


def _first(events: list[_Heard], event_seconds: float) -> str:
    if not events:
        return f"No event within {event_seconds:g} s."
    first = events[0]
    message = decode(first.stream, first.body or b"").message
    node = f" from node {message.HostName}" if message.HostName else ""
    return f"The first event of {first.stream} came{node}."


ENDPOINT_STEPS = {
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
    examine_route(route_to_endpoint(settings), examination, ENDPOINT_STEPS, silent=("plaintext",))
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
    outcome: Outcome | None = None
    with closing(sender):
        for step, judge in (
            (Step.ENDPOINT_ANSWERS, _answers),
            (Step.CREDENTIALS, _knows_us),
            (Step.TEST_RECORD, _takes_it),
        ):
            with examination.step(step) as taken:
                outcome = outcome or sender.send(_request(), records=1)
                taken.finding = judge(outcome)
            if examination.broken_off():
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
