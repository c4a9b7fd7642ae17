from __future__ import annotations

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account, Ledger, Posting
from otelbridge.status.document import ledger_document, seconds


def test_the_ledger_is_shown_stream_by_stream_with_its_reasons() -> None:
    ledger = Ledger(
        [
            Posting(Stream.LOGS, Account.RECEIVED, "", 18),
            Posting(Stream.LOGS, Account.DELIVERED, "", 4),
            Posting(Stream.LOGS, Account.REJECTED, "", 1),
            Posting(Stream.LOGS, Account.DROPPED, "queue_full", 2),
            Posting(Stream.LOGS, Account.FILTERED, "noise", 2),
            Posting(Stream.LOGS, Account.SUMMARISED, "", 5),
            Posting(Stream.LOGS, Account.DOUBLED, "", 3),
        ]
    )
    held = {Stream.LOGS: 1}

    shown = ledger_document(ledger.postings(), held=held, residue=ledger.residue(held))

    assert shown["balanced"]
    assert shown["streams"]["logs"] == {
        "received": 18,
        "delivered": 4,
        "rejected": 1,
        "dropped": {"queue_full": 2},
        "filtered": {"noise": 2},
        "summarised": 5,
        "doubled": 3,
        "held": 1,
        "residue": 0,
    }
    assert set(shown["streams"]) == {stream.value for stream in Stream}


def test_a_missing_record_is_seen() -> None:
    ledger = Ledger([Posting(Stream.ALERTS, Account.RECEIVED, "", 1)])

    shown = ledger_document(ledger.postings(), held={}, residue=ledger.residue({}))

    assert not shown["balanced"]
    assert shown["streams"]["alerts"]["residue"] == 1


def test_never_has_no_time() -> None:
    assert seconds(0) is None
    assert seconds(None) is None
    assert seconds(1_500_000_000) == 1.5
