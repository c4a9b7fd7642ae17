"""Says how an endpoint is reached (headers, certificates, proxy), and why it is not, without showing secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from otelbridge.event import Signal
from otelbridge.net.preflight import Route, preflight
from otelbridge.net.proxy import proxy_for
from otelbridge.net.tls_files import ReloadedTlsFiles
from otelbridge.queue.model import Accepted, Hold, Outcome, RetryLater
from otelbridge.send.credentials import Credentials
from otelbridge.send.settings import SendSettings, send_target

UNAUTHENTICATED = frozenset({"401", "UNAUTHENTICATED"})
NOT_BY_TLS = frozenset({"timeout", "CANCELLED", "DEADLINE_EXCEEDED", "ConnectionRefusedError", "gaierror"})
"""Failures of a connection that come before its handshake, or behind it."""
REFUSED = "Connection refused"
PROXY_MAY_ANSWER = "or name the endpoint in NO_PROXY"
LOOK_SECONDS = 2.0
BROKEN_OFF = frozenset({"tls", "RemoteDisconnected", "ConnectionResetError", "BrokenPipeError"})
"""Codes of connections over HTTP that were made, and ended without an answer."""
BROKEN_OFF_IN_WORDS = re.compile(
    r"failed to connect to all addresses(?!.*(connection refused|timed out|unreachable|no route))", re.IGNORECASE
)
"""C-core's words for the same."""
NO_SUCH_SERVICE = frozenset({"UNIMPLEMENTED", "404", "405", "501"})
TRACES_CURE = "set send.traces_endpoint to an endpoint that takes OTLP traces, or mapping.process_traces to false"
"""Of an endpoint that takes log records only."""


class Access:
    """What a sender needs to reach its endpoint.

    Raises:
        SendSettingsError: a file cannot be read, a header is malformed, or credentials would go over plaintext.
    """

    def __init__(self, settings: SendSettings, clock: Callable[[], float], signal: Signal) -> None:
        self.target = target = send_target(settings)
        self.proxy = proxy_for(target.host, target.port, settings.proxy, tls=target.tls)
        self._credentials = Credentials(settings, target, clock=clock)
        self.certificates = ReloadedTlsFiles(settings, "send", clock=clock) if target.tls else None
        self._settings, self._signal = settings, signal
        self._accepted = False
        """Once the endpoint has taken something, a connection that breaks is not looked into any more."""

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """Of the files in use; None where there are none."""
        return self.certificates.expires_unix_seconds if self.certificates is not None else None

    def renewed(self) -> bool:
        """Whether a file holds something else than the last request went with."""
        return self._credentials.renewed() or (self.certificates is not None and self.certificates.renewed())

    def outcome(self, attempt: Callable[[Mapping[str, str]], Outcome]) -> Outcome:
        """The outcome of a request, without secrets.

        Args:
            attempt: sends it with these headers; once more at once when the endpoint does not know who asks and the
                credentials turn out to have been renewed.
        """
        constant = self._credentials.constant
        headers = self._credentials.headers() if constant is None else constant
        if isinstance(headers, Hold):
            return headers
        outcome = attempt(headers)
        if isinstance(outcome, Hold) and outcome.code in UNAUTHENTICATED:
            renewed = self._credentials.headers(doubted=True)
            if not isinstance(renewed, Hold) and renewed != headers:
                outcome = attempt(renewed)
        if isinstance(outcome, Accepted):
            self._accepted = True
        shown = self._shown(outcome)
        if self._signal is Signal.TRACES and isinstance(shown, Hold) and shown.code in NO_SUCH_SERVICE:
            return replace(shown, cure=TRACES_CURE)
        if isinstance(shown, RetryLater | Hold) and not self._accepted:
            return _about_the_connection(self._settings, shown)
        return shown

    def _shown(self, outcome: Outcome) -> Outcome:
        """The outcome with secrets blacked out; a failure names the proxy in the way, a Hold a file that can't be read.

        A connection that broke while a certificate of ours is out of date is held: nobody says why a handshake was
        broken off (TLS 1.3 does it behind the client's back), and waiting does not cure it.
        """
        credentials, certificates, proxy = self._credentials, self.certificates, self.proxy
        if isinstance(outcome, Accepted):
            return replace(outcome, message=credentials.hide(outcome.message)) if outcome.message else outcome
        why = credentials.hide(outcome.why)
        old = certificates.out_of_date() if certificates is not None and isinstance(outcome, RetryLater | Hold) else ""
        if old and _handshake_failed(outcome):
            why = f"{old} ({outcome.code}: {why})"
            return Hold(code="certificate", why=why, cure="renew the file; it is read again")
        if isinstance(outcome, Hold):
            troubles = [credentials.trouble(), certificates.trouble if certificates is not None else ""]
            why += "".join(f" ({trouble})" for trouble in troubles if trouble)
        if proxy is not None and str(proxy) not in why:
            why += f" (through the proxy {proxy})"
            if isinstance(outcome, Hold) and outcome.code.isdigit():
                outcome = replace(outcome, cure=f"{outcome.cure}; {PROXY_MAY_ANSWER}")
        return replace(outcome, why=why)


def _handshake_failed(outcome: Outcome) -> bool:
    match outcome:
        case RetryLater(code="UNAVAILABLE", why=why):
            return REFUSED not in why
        case RetryLater(code=code):
            return not code.isdigit() and not code.isupper() and code not in NOT_BY_TLS
        case Hold(code=code):
            return code in {"UNAVAILABLE", "tls"}
        case _:
            return False


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
