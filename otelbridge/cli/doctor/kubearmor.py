"""Checks one KubeArmor: DNS, TCP, TLS, whether it answers, lets us subscribe and sends an event."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import grpc

from otelbridge import __version__
from otelbridge.cli.doctor.report import (
    STEP_SECONDS,
    Examination,
    Finding,
    Mark,
    Step,
    StepError,
    examine_route,
    sentence,
)
from otelbridge.event import UPSTREAM_STREAMS, Stream
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
from otelbridge.net.address import parse_address
from otelbridge.net.tls_files import read_usable

SETTLE_SECONDS = 1.0
"""A subscription that lives so long was accepted: both servers refuse at once. Less, where `--wait` is less."""
NONCE = 20_26
JOIN_SECONDS = 2.0

STEPS = {
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
    examine_route(route_to(address, settings), examination, STEPS, silent=("http2",))
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
