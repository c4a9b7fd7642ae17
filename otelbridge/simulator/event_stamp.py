"""An event and a time or a number in, the event carrying it out: fresh times for replays, numbers for oracles."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator.event_json import KubeArmorMessage

SEQUENCE = re.compile(rb"seq=(\d+);")
"""Finds the number in an encoded event or record; closed by `;` because the byte behind a text may be a digit too."""
NANOS_PER_SECOND = 1_000_000_000
NANOS_PER_MICROSECOND = 1_000


def stamp_time(message: KubeArmorMessage, unix_nano: int) -> None:
    """Sets both of the event's times, as KubeArmor writes them: whole seconds, and UTC text with six digits."""
    seconds, rest = divmod(unix_nano, NANOS_PER_SECOND)
    message.Timestamp = seconds
    whole = datetime.fromtimestamp(seconds, UTC)
    message.UpdatedTime = f"{whole:%Y-%m-%dT%H:%M:%S}.{rest // NANOS_PER_MICROSECOND:06}Z"


def stamp_sequence(message: KubeArmorMessage, number: int) -> None:
    """Hides `seq=number;` at the end of Data (a Message has none: of its text)."""
    mark = f"seq={number};"
    if isinstance(message, kubearmor_pb2.Message):
        message.Message = f"{message.Message} {mark}".lstrip()
    else:
        message.Data = f"{message.Data} {mark}".lstrip()


def sequences_in(encoded: bytes) -> list[int]:
    """All sequence numbers in some bytes: an event, an export request, a file."""
    return [int(number) for number in SEQUENCE.findall(encoded)]
