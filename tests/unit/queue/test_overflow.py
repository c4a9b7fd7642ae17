from __future__ import annotations

from otelbridge.event import Stream
from otelbridge.queue.overflow import shed_from


def test_logs_go_before_messages_before_alerts_and_never_for_less() -> None:
    logs, messages, alerts, gaps = (Stream.LOGS,), (Stream.MESSAGES,), (Stream.ALERTS,), (Stream.GAPS,)
    assert shed_from("logs_first", Stream.LOGS) == (logs,)
    assert shed_from("logs_first", Stream.MESSAGES) == (logs, messages)
    assert shed_from("logs_first", Stream.ALERTS) == (logs, messages, alerts)
    assert shed_from("drop_newest", Stream.ALERTS) == ()
    for policy in ("logs_first", "drop_oldest", "drop_newest"):
        assert shed_from(policy, Stream.GAPS)[-1] == gaps
