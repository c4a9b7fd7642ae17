"""Defines `Sender`: sends one encoded request and says what the endpoint made of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from otelbridge.event import Signal
from otelbridge.net.preflight import Route, preflight
from otelbridge.net.proxy import proxy_for
from otelbridge.queue.model import Accepted, Hold, Outcome, RetryLater
from otelbridge.send.settings import SendSettings, for_traces, send_target


class Sender(Protocol):
    """Sends to an endpoint. Thread-safe: several workers send at once."""

    @property
    def endpoint(self) -> str:
        """Where it goes, for people: no secrets in it."""
        ...

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """When the first of the certificate files in use expires; None where there are none."""
        ...

    def send(self, request: bytes, *, records: int) -> Outcome:
        """Sends an encoded request and waits for the answer, at most until its deadline.

        Never raises for what can happen to a connection or an endpoint: that is an outcome.

        Args:
            request: packed, or as it is.
            records: how many it holds.

        Raises:
            DamagedRequest: it is not what was packed.
        """
        ...

    def renewed(self) -> bool:
        """Whether token, headers or certificates in files are others than the last request went with."""
        ...

    def close(self) -> None:
        """Breaks what is under way (its outcome is RetryLater) and frees the connections."""
        ...


class AdvisedSender:
    """Wraps a sender: looks for the cause of its failures, to advise a cure.

    Args:
        sender: the other one.
        advise: the outcome, or a better one.
        until_accepted: once the endpoint has taken something, nothing is looked into any more.
    """

    def __init__(
        self, sender: Sender, advise: Callable[[RetryLater | Hold], Outcome], *, until_accepted: bool = False
    ) -> None:
        self._sender, self._advise, self._until_accepted = sender, advise, until_accepted
        self._accepted = False
        self.endpoint, self.renewed, self.close = sender.endpoint, sender.renewed, sender.close

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """As the other sender's."""
        return self._sender.certificate_expires_unix_seconds

    def send(self, request: bytes, *, records: int) -> Outcome:
        """As the other sender does."""
        outcome = self._sender.send(request, records=records)
        if self._until_accepted and isinstance(outcome, Accepted):
            self._accepted = True
        return self._advise(outcome) if isinstance(outcome, RetryLater | Hold) and not self._accepted else outcome


NO_SUCH_SERVICE = frozenset({"UNIMPLEMENTED", "404", "405", "501"})
TRACES_CURE = "set send.traces_endpoint to an endpoint that takes OTLP traces, or mapping.process_traces to false"


def _about_traces(outcome: RetryLater | Hold) -> Outcome:
    """Adds the cure for an endpoint that takes records only."""
    if isinstance(outcome, Hold) and outcome.code in NO_SUCH_SERVICE:
        return replace(outcome, cure=TRACES_CURE)
    return outcome


LOOK_SECONDS = 2.0
BROKEN_OFF = frozenset({"tls", "RemoteDisconnected", "ConnectionResetError", "BrokenPipeError"})
"""Codes of connections over HTTP that were made, and ended without an answer."""
BROKEN_OFF_IN_WORDS = re.compile(
    r"failed to connect to all addresses(?!.*(connection refused|timed out|unreachable|no route))", re.IGNORECASE
)
"""C-core's words for the same."""


def _about_the_connection(settings: SendSettings, outcome: RetryLater | Hold) -> Outcome:
    """Looks closer at a connection that broke off.

    A server that is spoken to in plaintext where it wants TLS, or misses a client certificate, mostly says nothing.
    """
    if outcome.code not in BROKEN_OFF and not BROKEN_OFF_IN_WORDS.search(outcome.why):
        return outcome
    found = preflight(route_to_endpoint(settings), timeout_seconds=LOOK_SECONDS)
    if not found.configuration:
        return outcome
    wrong = found.error
    return Hold(code=outcome.code, why=wrong if outcome.why in wrong else f"{wrong} ({outcome.why})", cure=found.cure)


def route_to_endpoint(settings: SendSettings) -> Route:
    """The way to the endpoint, for a preflight.

    Plaintext requests of HTTP are given to a proxy as they are: there is no tunnel, and nothing to look at behind it.
    """
    target = send_target(settings)
    proxy = proxy_for(target.host, target.port, settings.proxy, tls=target.tls)
    tunnel = target.tls or settings.protocol == "grpc"
    last = ("tls",) if target.tls else ("plaintext",) if tunnel or proxy is None else ()
    return Route(
        host=target.host,
        port=target.port,
        tls=settings if target.tls else None,
        name=settings.server_name or target.host,
        section="send",
        proxy=proxy,
        tunnel=tunnel,
        alpn="h2" if settings.protocol == "grpc" else "",
        steps=("resolve", "connect", *last),
        name_cure="check the host in send.endpoint; within a cluster it is service.namespace",
        port_cure="check host and port in send.endpoint (4317 for gRPC, 4318 for HTTP), that the endpoint runs, and "
        "that no NetworkPolicy is in the way",
        log_cure="look at the endpoint's own log",
    )


def open_traces_sender(settings: SendSettings, *, version: str) -> Sender:
    """A sender for spans.

    Args:
        settings: of the records' sender.
        version: the bridge's own, for the User-Agent.

    Raises:
        SendSettingsError: as `open_sender`, or the settings do not tell where spans go.
    """
    return AdvisedSender(open_sender(for_traces(settings), version=version, signal=Signal.TRACES), _about_traces)


STDOUT = 1


def open_sender(settings: SendSettings, *, version: str, signal: Signal = Signal.LOGS) -> Sender:
    """A sender for the protocol of the settings; it connects when it first sends.

    Args:
        settings: where to, and how.
        version: the bridge's own, for the User-Agent.
        signal: what the requests are of.

    Raises:
        SendSettingsError: a URL, file or header that cannot work. Names the setting, its value and the cure.
    """
    advise = partial(_about_the_connection, settings)
    # Each is imported where it is used: urllib3, or protobuf's JSON, is memory that only those should pay who use it.
    match settings.protocol:
        case "grpc":
            from otelbridge.send.grpc_sender import GrpcSender  # noqa: PLC0415

            return AdvisedSender(GrpcSender(settings, version=version, signal=signal), advise, until_accepted=True)
        case "http/protobuf":
            from otelbridge.send.http_sender import HttpSender  # noqa: PLC0415

            return AdvisedSender(HttpSender(settings, version=version), advise, until_accepted=True)
        case "console":
            from otelbridge.send.console_sender import ConsoleSender  # noqa: PLC0415

            return ConsoleSender(STDOUT, timeout_seconds=settings.timeout_seconds, signal=signal)
