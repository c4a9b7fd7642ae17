"""Says how an endpoint is reached: headers, certificates, proxy; and what an outcome may show of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

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


class Access:
    """What a sender needs to reach its endpoint.

    Args:
        settings: where to, and with what.
        clock: monotonic seconds, for how often files are read.

    Raises:
        SendSettingsError: a file cannot be read, a header is malformed, or credentials would go over plaintext.
    """

    def __init__(self, settings: SendSettings, clock: Callable[[], float]) -> None:
        self.target = target = send_target(settings)
        self.proxy = proxy_for(target.host, target.port, settings.proxy, tls=target.tls)
        self._credentials = Credentials(settings, target, clock=clock)
        self.certificates = ReloadedTlsFiles(settings, "send", clock=clock) if target.tls else None

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
        return self._shown(outcome)

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
