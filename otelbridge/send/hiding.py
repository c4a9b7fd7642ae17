"""An outcome in, the same outcome out, without any credential that an endpoint echoed into its words."""

from __future__ import annotations

from dataclasses import replace

from otelbridge.queue.outcome import Accepted, Hold, Outcome
from otelbridge.send.credentials import Credentials


def hidden(outcome: Outcome, credentials: Credentials) -> Outcome:
    """The outcome with secrets blacked out; a Hold also says which file could not be read again."""
    if isinstance(outcome, Accepted):
        return replace(outcome, message=credentials.hide(outcome.message)) if outcome.message else outcome
    why = credentials.hide(outcome.why)
    if isinstance(outcome, Hold) and (trouble := credentials.trouble()):
        why = f"{why} ({trouble})"
    return replace(outcome, why=why)
