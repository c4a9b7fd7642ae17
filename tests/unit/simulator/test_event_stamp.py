"""Times and numbers on events."""

from __future__ import annotations

from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator.events import KubeArmorMessage, sequences_in, stamp_sequence, stamp_time


def test_the_time_is_written_as_kubearmor_writes_it() -> None:
    log = kubearmor_pb2.Log()

    stamp_time(log, 1_785_000_000_000_042_999)

    assert log.Timestamp == 1_785_000_000
    assert log.UpdatedTime == "2026-07-25T17:20:00.000042Z"


def test_a_sequence_number_is_found_again_in_the_encoded_event() -> None:
    alert = kubearmor_pb2.Alert(Data="syscall=SYS_OPEN")
    events: tuple[KubeArmorMessage, ...] = (alert, kubearmor_pb2.Log(), kubearmor_pb2.Message(Message="hello"))
    for number, event in enumerate(events, start=41):
        stamp_sequence(event, number)

    assert sequences_in(b"".join(event.SerializeToString() for event in events)) == [41, 42, 43]
    assert alert.Data == "syscall=SYS_OPEN seq=41;"
