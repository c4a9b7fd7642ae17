"""The ledger: received = delivered + rejected + dropped + filtered + summarised + held, per stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from otelbridge.event import Stream


class Account(StrEnum):
    """Where a record can be. Every received record is in exactly one of the others."""

    RECEIVED = "received"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    """By the endpoint: in a partial success, or for good (then it is a dead letter)."""
    DROPPED = "dropped"
    """By the bridge, for the reason named."""
    FILTERED = "filtered"
    """By the operator's rule, named."""
    SUMMARISED = "summarised"
    """Counted in the record of a flood instead of sent (gate.flood)."""


class Posting(NamedTuple):
    """So many records of a stream came onto an account (negative: left it)."""

    stream: Stream
    account: Account
    reason: str
    """The drop's reason, the rule's name, or empty."""
    records: int


class Ledger:
    """The sums of all postings. Not thread-safe: its owner (the queue) guards it with its own lock."""

    __slots__ = ("_sums",)

    def __init__(self, postings: Iterable[Posting] = ()) -> None:
        self._sums: dict[tuple[Stream, Account, str], int] = {}
        for posting in postings:
            self.post(posting)

    def post(self, posting: Posting) -> None:
        """Adds one posting to its sum."""
        key = posting[:3]
        self._sums[key] = self._sums.get(key, 0) + posting.records

    def post_all(self, postings: Iterable[Posting]) -> None:
        """Adds all postings, or, where one of them raises, none."""
        changed: dict[tuple[Stream, Account, str], int] = {}
        for posting in postings:
            key = posting[:3]
            changed[key] = changed.get(key, self._sums.get(key, 0)) + posting.records
        self._sums.update(changed)

    def sums(self) -> Mapping[tuple[Stream, Account, str], int]:
        """The sums by stream, account and reason, as they are: not a copy."""
        return self._sums

    def postings(self) -> list[Posting]:
        """The sums, one posting per stream, account and reason, sorted."""
        return [Posting(*key, records) for key, records in sorted(self._sums.items()) if records]

    def total(self, stream: Stream, account: Account) -> int:
        """What stands on one account of a stream, whatever the reason."""
        return sum(n for (s, a, _), n in self._sums.items() if s == stream and a == account)

    def residue(self, held: Mapping[Stream, int]) -> dict[Stream, int]:
        """Per stream, received minus everything accounted for; 0 everywhere when the ledger balances.

        Args:
            held: records in the bridge's hands, on disk and in memory, counted independently of the postings.
        """
        away = set(Account) - {Account.RECEIVED}
        return {
            stream: self.total(stream, Account.RECEIVED)
            - sum(self.total(stream, account) for account in away)
            - held.get(stream, 0)
            for stream in Stream
        }
