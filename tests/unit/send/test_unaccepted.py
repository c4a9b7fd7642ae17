"""What becomes of records that an endpoint refuses one after another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from otelbridge.event import Stream
from otelbridge.queue.model import Hold, Lease, Refused
from otelbridge.send.circuit_breaker import Permit, SendCounts
from otelbridge.send.settings import SendSettings
from otelbridge.send.unaccepted import FREE_REFUSALS, REFUSALS_TO_GIVE_UP, ExportContext, Job, Round, Unaccepted
from tests.records import request_of

UNUSED: Any = None
REFUSED = Refused(code="400", why="no")


def unaccepted() -> Unaccepted:
    sender: Any = SimpleNamespace(endpoint="http://endpoint")
    context = ExportContext(
        queue=UNUSED,
        sender=sender,
        settings=SendSettings(),
        tell=lambda _: None,
        breaker=UNUSED,
        backlog=UNUSED,
        counts=SendCounts(),
        random=lambda: 1.0,
    )
    return Unaccepted(context)


def job_of(request: bytes, records: int) -> Job:
    lease = Lease(
        stream=Stream.ALERTS,
        batch_ids=(1,),
        parts=(request,),
        request_bytes=len(request),
        records=records,
        oldest_received_unix_nano=0,
    )
    return Job(lease, request, len(request), records)


@pytest.mark.parametrize(("accepted_once", "most"), [(True, REFUSALS_TO_GIVE_UP), (False, FREE_REFUSALS)])
@pytest.mark.parametrize("before", [1.5, 1.0, 0.5])
def test_a_round_ends_once_too_much_was_refused_in_a_row(accepted_once: bool, most: int, before: float) -> None:
    judge = unaccepted()
    judge.accepted_once = accepted_once
    round_ = Round(Permit(0, probe=False), suspected=False, refusals=most - before)
    judge.refuse(job_of(request_of("a", "b"), 2), REFUSED, round_)
    assert isinstance(round_.failure, Hold) is (before <= 1)
