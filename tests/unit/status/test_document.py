from __future__ import annotations

import pytest

from otelbridge.event import EventKind, RawEvent, Stream
from otelbridge.feed.model import StateChange, SubscriptionState
from otelbridge.gate.flood import Floods
from otelbridge.gate.settings import FloodSettings
from otelbridge.mapping import process_tree
from otelbridge.mapping.process_tree import Place, ProcessTree, Program, Sighting
from otelbridge.queue.checkpoint import Account, Ledger, Posting
from otelbridge.status.document import floods_document, ledger_document, process_traces_document, seconds, shown


def flooded() -> Floods:
    """Floods of which two are counted."""
    floods = Floods(FloodSettings(rate_per_second=1))
    for policy, events in (("q", 3), ("p", 7)):
        kind = EventKind(Stream.ALERTS, policy, "shop", "cart", "File", "denied")
        flow, event = floods.flow(kind), RawEvent(Stream.ALERTS, b"", 0, "relay")
        floods.open(flow, b"", 2_000_000_000)
        for _ in range(events):
            floods.count(flow, event, 2_000_000_000, process="/bin/cat", resource="/etc/shadow", uid=b"")
    floods.commit(floods.stage())
    return floods


def orphaned() -> ProcessTree:
    """A tree that has made three spans: of a process, of its parent, whose own nobody knows, and of the root."""
    tree: ProcessTree = ProcessTree(1, lambda _: None)
    program = Program("0", "/bin/cat", "/bin/sh", "cat")
    tree.note(Sighting(Place("c", "n", "id"), program, 10, 5, 1), 0.0, b"")
    tree.due(0.0, all_of_them=True)
    return tree


def test_floods_that_are_counted_are_shown_most_events_first() -> None:
    assert floods_document(Floods(FloodSettings())) is None
    assert floods_document(flooded()) == [
        {"kind": f"alerts/{policy}/shop/cart/File/denied", "events": events, "first_unix_seconds": 2.0}
        for policy, events in (("p", 7), ("q", 3))
    ]


def test_processes_are_shown_with_what_is_not_known_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = orphaned()
    assert process_traces_document(tree) == {"processes": 0, "remembered": 3, "spans": 3, "orphans": 1, "early": 0}
    monkeypatch.setattr(process_tree, "MAX_OPEN", 1)
    program = Program("0", "/bin/cat", "/bin/sh", "cat")
    tree.note(Sighting(Place("c", "n", "other"), program, 10, 5, 1), 0.0, b"")
    tree.due(0.0)
    assert process_traces_document(tree) == {"processes": 1, "remembered": 5, "spans": 5, "orphans": 2, "early": 2}


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

    document = ledger_document(ledger.postings(), held=held, residue=ledger.residue(held))

    assert document["balanced"]
    assert document["streams"]["logs"] == {
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
    assert set(document["streams"]) == {stream.value for stream in Stream}


def test_a_missing_record_is_seen() -> None:
    ledger = Ledger([Posting(Stream.ALERTS, Account.RECEIVED, "", 1)])

    document = ledger_document(ledger.postings(), held={}, residue=ledger.residue({}))

    assert not document["balanced"]
    assert document["streams"]["alerts"]["residue"] == 1


def test_a_state_is_shown_by_its_fields_with_times_in_seconds() -> None:
    change = StateChange(1_500_000_000, SubscriptionState.WATCHING, "")
    assert shown({Stream.LOGS: [change]}) == {"logs": [{"unix_seconds": 1.5, "state": "watching", "why": ""}]}


def test_never_has_no_time() -> None:
    assert seconds(0) is None
    assert seconds(None) is None
    assert seconds(1_500_000_000) == 1.5
