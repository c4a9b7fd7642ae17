"""An outcome in, the same outcome out: without what an endpoint echoed of credentials, with what ails our own files."""

from __future__ import annotations

from dataclasses import replace

from otelbridge.queue.outcome import Accepted, Hold, Outcome, RetryLater
from otelbridge.send.certificates import Certificates
from otelbridge.send.credentials import Credentials

NOT_BY_TLS = frozenset({"timeout", "CANCELLED", "DEADLINE_EXCEEDED", "ConnectionRefusedError", "gaierror"})
"""Failures of a connection that come before its handshake, or behind it."""
REFUSED = "Connection refused"


def hidden(outcome: Outcome, credentials: Credentials, certificates: Certificates | None = None) -> Outcome:
    """The outcome with secrets blacked out; a Hold also says which file could not be read again.

    A connection that broke while a certificate of ours is out of date is held: nobody says why a handshake was broken
    off (TLS 1.3 does it behind the client's back), and waiting does not cure it.
    """
    if isinstance(outcome, Accepted):
        return replace(outcome, message=credentials.hide(outcome.message)) if outcome.message else outcome
    why = credentials.hide(outcome.why)
    old = certificates.out_of_date() if certificates is not None and isinstance(outcome, RetryLater | Hold) else ""
    if old and _handshake_failed(outcome):
        return Hold(code="certificate", why=f"{old} ({outcome.code}: {why})", cure="renew the file; it is read again")
    if isinstance(outcome, Hold):
        troubles = [credentials.trouble(), certificates.trouble if certificates is not None else ""]
        why += "".join(f" ({trouble})" for trouble in troubles if trouble)
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
