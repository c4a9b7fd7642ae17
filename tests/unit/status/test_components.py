from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account, Ledger, Posting
from otelbridge.status.components import OBSERVED, Components

LEDGER = ("otelbridge.ledger.records", "otelbridge.ledger.residue", "otelbridge.event.dropped")


def test_the_ledger_reads_as_three_instruments() -> None:
    ledger = Ledger(
        [
            Posting(Stream.ALERTS, Account.RECEIVED, "", 10),
            Posting(Stream.ALERTS, Account.DROPPED, "queue_full", 2),
        ]
    )
    held = {Stream.ALERTS: 7}
    queue = SimpleNamespace(ledger=lambda: ledger, balance=lambda: (ledger, held))
    components = cast("Components", SimpleNamespace(queue=queue))
    shown = {one.name: list(reading(components)) for one, reading in OBSERVED.items() if one.name in LEDGER}

    assert [row for row in shown.pop("otelbridge.ledger.residue") if row[0]] == [(1, {"kubearmor.stream": "alerts"})]
    assert shown == {
        "otelbridge.ledger.records": [
            (
                2,
                {
                    "kubearmor.stream": "alerts",
                    "otelbridge.ledger.account": "dropped",
                    "otelbridge.reason": "queue_full",
                },
            ),
            (10, {"kubearmor.stream": "alerts", "otelbridge.ledger.account": "received"}),
        ],
        "otelbridge.event.dropped": [(2, {"kubearmor.stream": "alerts", "otelbridge.drop.reason": "queue_full"})],
    }
