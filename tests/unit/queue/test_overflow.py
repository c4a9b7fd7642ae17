from __future__ import annotations

from otelbridge.event import Stream
from otelbridge.queue.overflow import shed_from


def test_logs_go_before_messages_before_alerts_and_never_for_less() -> None:
    logs, messages, alerts, gaps = (Stream.LOGS,), (Stream.MESSAGES,), (Stream.ALERTS,), (Stream.GAPS,)
    spans = (Stream.SPANS,)
    assert shed_from("logs_first", Stream.LOGS) == (spans, logs)
    assert shed_from("logs_first", Stream.MESSAGES) == (spans, logs, messages)
    assert shed_from("logs_first", Stream.ALERTS) == (spans, logs, messages, alerts)
    assert shed_from("drop_newest", Stream.ALERTS) == (spans,)
    for policy in ("logs_first", "drop_oldest", "drop_newest"):
        assert shed_from(policy, Stream.GAPS)[-1] == gaps


def test_spans_make_room_for_everything_and_nothing_for_spans() -> None:
    for policy in ("logs_first", "drop_oldest", "drop_newest"):
        assert shed_from(policy, Stream.SPANS) == ((Stream.SPANS,),)
        assert all(shed_from(policy, stream)[0] == (Stream.SPANS,) for stream in Stream)
