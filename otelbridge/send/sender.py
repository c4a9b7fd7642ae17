"""Defines `Sender`: sends one encoded request and says what the endpoint made of it."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from otelbridge.event import Signal
from otelbridge.net.files import TlsFileError
from otelbridge.net.proxy import connect_through, proxy_for
from otelbridge.net.tls_faults import TLS_SEEN, in_words, speaks_tls
from otelbridge.net.tls_files import read_tls_files
from otelbridge.queue.model import Accepted, Hold, Outcome, RetryLater
from otelbridge.send.settings import SendSettings, Target, for_traces, send_target


class Sender(Protocol):
    """A way to an endpoint. Thread-safe: several workers send at once."""

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
    """Another sender, whose failures are looked into for what would cure them.

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
        self.renewed, self.close = sender.renewed, sender.close

    @property
    def endpoint(self) -> str:
        """As the other sender's."""
        return self._sender.endpoint

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """As the other sender's."""
        return self._sender.certificate_expires_unix_seconds

    def send(self, request: bytes, *, records: int) -> Outcome:
        """As the other sender does."""
        outcome = self._sender.send(request, records=records)
        if self._until_accepted and isinstance(outcome, Accepted):
            self._accepted = True
            self.send = self._sender.send  # type: ignore[method-assign]  # nothing stands between from now on
        if self._accepted or not isinstance(outcome, RetryLater | Hold):
            return outcome
        return self._advise(outcome)


NO_SUCH_SERVICE = frozenset({"UNIMPLEMENTED", "404", "405", "501"})
TRACES_CURE = "set send.traces_endpoint to an endpoint that takes OTLP traces, or mapping.process_traces to false"


def _about_traces(outcome: RetryLater | Hold) -> Outcome:
    """What to do about an endpoint that takes records only."""
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
    broken_off = outcome.code in BROKEN_OFF or BROKEN_OFF_IN_WORDS.search(outcome.why)
    found = _wrong_with_the_connection(settings) if broken_off else None
    if found is None:
        return outcome
    wrong, cure = found
    return Hold(code=outcome.code, why=wrong if outcome.why in wrong else f"{wrong} ({outcome.why})", cure=cure)


def _wrong_with_the_connection(settings: SendSettings) -> tuple[str, str] | None:
    """What is wrong, and its cure; None where nothing is, or no connection can even be made."""
    target = send_target(settings)
    dialled = partial(_dialled, target, settings)
    if not target.tls:
        return in_words(TLS_SEEN, "send") if speaks_tls(dialled) else None
    from otelbridge.net.handshake import HandshakeError, greet  # noqa: PLC0415 - with cryptography

    alpn = "h2" if settings.protocol == "grpc" else ""
    try:
        files = read_tls_files(settings, "send")
        greet(dialled, files, name=settings.server_name or target.host, section="send", alpn=alpn)
    except HandshakeError as error:
        return str(error), error.cure
    except (OSError, TlsFileError):
        pass  # the outcome says as much
    return None


def _dialled(target: Target, settings: SendSettings) -> socket.socket:
    proxy = proxy_for(target.host, target.port, settings.proxy, tls=target.tls)
    if proxy is None:
        return socket.create_connection((target.host, target.port), LOOK_SECONDS)
    return connect_through(proxy, target.host, target.port, lambda *at: socket.create_connection(at, LOOK_SECONDS))


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
