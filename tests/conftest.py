from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, settings

from otelbridge.simulator.endpoint_answers import Request
from otelbridge.simulator.endpoint_inbox import Inbox
from tests.contract import breaches_in_logs, breaches_in_metrics, breaches_in_spans

# How long it takes to make an example says something about the machine's other work, not about the code.
settings.register_profile("any machine", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("any machine")

_BREACHES = {"logs": breaches_in_logs, "metrics": breaches_in_metrics, "traces": breaches_in_spans}


@pytest.fixture(autouse=True)
def _contract(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every record, metric and span that reaches an endpoint of any test is as `docs/registry/` says."""
    found: set[str] = set()
    take = Inbox.take

    def judged(inbox: Inbox, request: Request, *, rejected: int = 0) -> None:
        take(inbox, request, rejected=rejected)
        try:
            found.update(_BREACHES[request.signal](request.body))
        except DecodeError:  # some tests send what is no request
            return

    monkeypatch.setattr(Inbox, "take", judged)
    yield
    assert not found
