"""What is sent next: a suspect whose turn it is, or the next lease of the queue."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from otelbridge.event import Stream
from otelbridge.queue.model import Lease
from otelbridge.send.circuit_breaker import SendCounts
from otelbridge.send.export import Export
from otelbridge.send.settings import SendSettings
from otelbridge.send.unaccepted import ExportContext

FRESH, SUSPECT, DUE = 1, 2, 3


def lease_of(number: int) -> Lease:
    return Lease(
        stream=Stream.ALERTS,
        batch_ids=(number,),
        parts=(b"",),
        request_bytes=10,
        records=1,
        oldest_received_unix_nano=0,
    )


def export_with(*, fresh: bool, due: bool, suspect: bool) -> Export:
    waiting = [lease_of(FRESH)] if fresh else []
    queue: Any = SimpleNamespace(
        left_out=frozenset(), has_work=lambda: bool(waiting), take=lambda **_: waiting.pop() if waiting else None
    )
    backlog: Any = SimpleNamespace(max_records=lambda wanted: wanted, charge=lambda *_: None)
    sender: Any = SimpleNamespace(endpoint="http://endpoint")
    unused: Any = None
    context = ExportContext(
        queue=queue,
        sender=sender,
        settings=SendSettings(),
        tell=lambda _: None,
        breaker=unused,
        backlog=backlog,
        counts=SendCounts(),
        random=lambda: 1.0,
    )
    export = Export(context)
    if due:
        export._apart.add_due([lease_of(DUE), lease_of(DUE + 1)])
    if suspect:
        export._apart.suspects.append(lease_of(SUSPECT))
    return export


@pytest.mark.parametrize(
    ("probing", "fresh", "due", "suspect", "sent"),
    [
        (False, True, True, False, [DUE, DUE + 1]),
        (True, True, True, False, [FRESH]),
        (True, False, True, False, [DUE]),
        (False, True, False, True, [FRESH]),
        (True, True, False, True, [FRESH]),
        (False, False, False, True, [SUSPECT]),
        (True, False, False, True, [SUSPECT]),
        (False, True, True, True, [DUE, DUE + 1]),
        (False, False, False, False, []),
    ],
)
def test_what_is_sent_next(probing: bool, fresh: bool, due: bool, suspect: bool, sent: list[int]) -> None:
    export = export_with(fresh=fresh, due=due, suspect=suspect)
    assert export.has_work() is bool(sent)
    assert export.idle() is not (due or suspect)
    assert [lease.batch_ids[0] for lease in export._take(probing=probing)] == sent


def test_a_suspect_that_was_told_to_wait_goes_before_all_others_even_as_a_probe() -> None:
    export = export_with(fresh=True, due=True, suspect=False)
    export._apart.refused_with_delay(lease_of(9), 1.0, waited=False)
    assert [lease.batch_ids[0] for lease in export._take(probing=True)] == [9]
    assert [lease.batch_ids[0] for lease in export._take(probing=True)] == [FRESH]
