"""What became of a lease: the values that a sender answers with and the queue settles by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The endpoint took the request. Settled by deleting the batches."""

    rejected: int = 0
    """Records that a partial success rejected: counted, never sent again."""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLater:
    """Expected weather. Settled by giving the batches back."""

    code: str
    why: str
    after_seconds: float | None = None
    """The least delay that the server asked for, where it did."""
    perhaps_its_own_fault: bool = False
    """An answer such as INTERNAL or 500: the endpoint may be ill, or this very request may make it so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Only an operator can cure it (credentials, wrong address). Settled by giving the batches back."""

    code: str
    why: str
    cure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLarge:
    """The request must be smaller. Settled by giving the batches back; a single record becomes a dead letter."""

    code: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The endpoint will never take it. Settled by halving until the offender stands alone: a dead letter."""

    code: str
    why: str


Outcome = Accepted | RetryLater | Hold | TooLarge | Refused
