"""Events that nobody sends in good faith: work and memory stay linear in their bytes, and nothing raises."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from otelbridge.event import RawEvent, Stream
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import GateSettings, RuleSettings
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.recent_events import RecentEvents
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pipeline import EventEncoder
from tests.unit.mapping.samples import RECEIVED, Seen, alert, log, see

STREAMS = (Stream.ALERTS, Stream.LOGS, Stream.MESSAGES)
SECONDS_PER_MIB = 8.0
"""Of CPU, on a busy machine; the doubling that this forbids took 10 s for 56 bytes."""
BYTES_PER_BYTE, FIXED_BYTES = 40, 2 << 20
MIB = 1 << 20

START, END = b"\xe3\x03", b"\xe4\x03"  # a group of field 60
VARINT = b"\xe0\x03"
VALUES = {
    "varint": VARINT + b"\x05",
    "longest varint": VARINT + b"\xff" * 9 + b"\x01",
    "fixed64": b"\xe1\x03" + b"8" * 8,
    "text": b"\xe2\x03\x02hi",
    "no text": b"\xe2\x03\x02\xff\xfe",
    "nested message": b"\xe2\x03\x04" + b"\x0a\x02\x0a\x00",
    "empty group": START + END,
    "fixed32": b"\xe5\x03" + b"4" * 4,
}


def encoder(gate: GateSettings | None = None, *, native: bool = True, latest: bool = False) -> EventEncoder:
    mapper = Mapper(MappingSettings(native=native), version="1")
    return EventEncoder(Gate(gate or GateSettings()), mapper, RecentEvents(10) if latest else None)


def carried(body: bytes, stream: Stream, by: EventEncoder) -> Seen:
    """The record of the event, made within its budget of time and memory."""
    tracemalloc.start()
    started = time.thread_time()
    record = by.encode(RawEvent(stream, body, RECEIVED, "relay:32767"))
    seconds = time.thread_time() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert record is not None
    assert seconds < 1 + SECONDS_PER_MIB * len(body) / MIB
    assert peak < FIXED_BYTES + BYTES_PER_BYTE * len(body)
    return see(record)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("depth", [1, 2, 28, 32, 40, 99, 100, 101, 500, 1000])
def test_nested_groups_of_any_depth_cost_their_bytes(depth: int, stream: Stream) -> None:
    found = carried(START * depth + END * depth, stream, encoder())
    kept = found.attributes.get("kubearmor.unknown_fields")
    assert kept is not None or found.attributes["kubearmor.decode"] == "raw"


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize(
    ("depth", "width"),
    [*((depth, width) for depth in (0, 1, 20, 90) for width in (1, 100)), (0, 3_000), (90, 3_000), (20, 40_000)],
)
def test_wide_events_of_every_wire_type_cost_their_bytes(name: str, depth: int, width: int) -> None:
    body = log().SerializeToString() + START * depth + VALUES[name] * width + END * depth
    found = carried(body, Stream.LOGS, encoder())
    assert found.attributes.get("kubearmor.decode") == ("raw" if width > 5_000 else None)


@pytest.mark.parametrize("name", VALUES)
def test_groups_within_groups_within_wide_ones_cost_their_bytes(name: str) -> None:
    inner = START * 50 + VALUES[name] * 5 + END * 50
    carried(inner * 90, Stream.ALERTS, encoder())


def test_groups_that_do_not_end_and_ends_without_a_start_travel_raw() -> None:
    for body in (START * 30, END, START + END * 2, START + b"\xec\x03", b"\xe7\x03", b"\xe6\x03\x01"):
        found = carried(body, Stream.ALERTS, encoder())
        assert (found.attributes["kubearmor.decode"], found.body) == ("raw", body)


LONG = 60_000
TEXTS: dict[str, str] = {
    "blanks": " " * LONG,
    "commas": "a=b" + "," * LONG,
    "pairs": "a=b " * (LONG // 4),
    "remote hosts": " remotehost=" * (LONG // 12),
    "paths": "/" * LONG,
    "capitals": "aB" * (LONG // 2),
    "escapes": "\x1b\u202e" * (LONG // 2),
    "socket paths": "sun_path= " * (LONG // 10),
    "digests": "sha256:" * (LONG // 7),
    "digits": "9" * LONG,
    "secrets": "--password " * (LONG // 11),
}


OF_ANY_OPERATION = ("Labels", "ContainerImage", "ProcessHash", "Tags", "UpdatedTime")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("operation", ["Network", "File", "Process", "Capabilities", "NetworkFirewall", "Device", "?"])
def test_long_texts_in_every_field_cost_their_bytes(text: str, operation: str) -> None:
    kinds: list[Callable[..., object]] = [alert, log]
    gate = GateSettings(
        redact_common_secrets=True, rules=(RuleSettings(name="x", action="drop", label={"zone": "north"}),)
    )
    for make, stream in zip(kinds, (Stream.ALERTS, Stream.LOGS), strict=True):
        for field in ("Data", "Resource", "Source", *(OF_ANY_OPERATION if operation == "File" else ())):
            if stream is Stream.LOGS and field == "Tags":
                continue
            event = make(Operation=operation, **{field: TEXTS[text]})
            carried(event.SerializeToString(), stream, encoder(gate))  # type: ignore[attr-defined]


def test_a_fault_anywhere_in_the_walk_makes_a_raw_record(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Gate):
        def decide(self, *_: object) -> object:  # type: ignore[override]
            raise MemoryError("no room")

    walk = EventEncoder(
        Broken(GateSettings(rules=(RuleSettings(name="x", action="drop"),))),
        Mapper(MappingSettings(native=False), version="1"),
    )
    found = carried(log().SerializeToString(), Stream.LOGS, walk)
    assert found.attributes["kubearmor.decode"] == "raw"
    assert "no room" in found.attributes["kubearmor.decode_error"]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    "time_text",
    [
        "2262-04-11T23:47:16.854775Z", "2262-04-12T00:00:00.000001Z", "9999-12-31T23:59:59.999999Z",
        "1969-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z", "10000-01-01T00:00:00.000000Z",
        "2026-13-01T00:00:00.000001Z", "2026-07-25T24:00:00.000001Z", "0000-00-00T00:00:00.000001Z",
        "2026-07-25T17:20:00.123456+99:99", "٢٠٢٦-07-25T17:20:00.123456Z",
    ],
)  # fmt: skip
@pytest.mark.parametrize("stamp", [0, -1, 2**31 - 1, 2**63 - 1, -(2**63), 9_223_372_036, 9_223_372_037])
def test_no_time_raises_and_each_fits_a_signed_nanosecond_clock(time_text: str, stamp: int, native: bool) -> None:
    event = alert(UpdatedTime=time_text, Timestamp=stamp)
    found = carried(event.SerializeToString(), Stream.ALERTS, encoder(native=native))
    assert "kubearmor.decode" not in found.attributes
    assert 0 <= found.record.time_unix_nano < 2**63


@pytest.mark.parametrize("received", [-1, 0, 2**63 - 1, 2**63, 2**64, 10**30])
def test_a_clock_far_away_does_not_stop_anything(received: int) -> None:
    for native in (True, False):
        record = encoder(native=native).encode(RawEvent(Stream.LOGS, log().SerializeToString(), received, ""))
        assert record is not None
        seen = see(record)
        assert "kubearmor.decode" not in seen.attributes
        assert seen.record.observed_time_unix_nano == min(max(received, 0), 2**63 - 1)


def test_a_throttling_alert_of_absurd_length_ends_within_the_clock() -> None:
    walk = encoder()
    event = alert(
        Operation="AlertThreshold", DroppingAlertsInterval=2**31 - 1, UpdatedTime="2262-04-11T00:00:00.000001Z"
    )
    carried(event.SerializeToString(), Stream.ALERTS, walk)
    (gap,) = walk.findings.throttled
    assert gap.ended_unix_nano == 2**63 - 1
    assert see(Mapper(MappingSettings(), version="1").gap(gap))


MIB = 1024 * 1024
LARGE = 12 * MIB
LARGEST_CPU_SECONDS = 1.5
"""For one event of 12 MiB, beside other work; most take a tenth of a second, and some took seven."""


@pytest.mark.parametrize(
    "fields",
    [
        {"Labels": "a=," * (LARGE // 3)},
        {"Labels": "," * LARGE},
        {"Data": "k=v " * (LARGE // 4)},
        {
            "Operation": "Network",
            "Data": "kprobe=tcp_connect " + "x=1 " * (LARGE // 8),
            "Resource": "a=1 " * (LARGE // 8),
        },
        {"Operation": "Network", "Data": "syscall=SYS_CONNECT", "Resource": "sa_family=AF_UNIX " * (LARGE // 18)},
        {"Operation": "Network", "Data": "kprobe=tcp_connect", "Resource": " remotehost=a/b/c" * (LARGE // 17) + " "},
        {"Tags": "T1234_" * (LARGE // 6)},
        {"Tags": "a," * (LARGE // 2)},
        {"ATags": ["T1000"] * (LARGE // 7)},
        {"EventData": {f"k{number}": "v" for number in range(400_000)}},
        {"ContainerImage": "@sha256:" * (LARGE // 8)},
        {"ContainerImage": ("@sha256:" + "a" * 64) * (LARGE // 72)},
        {"ContainerName": "k8s_" + "a_" * (LARGE // 2)},
        {"Resource": "\x1b" * LARGE},
        {"Message": "\u202e" * (LARGE // 3)},
        {"Source": "--password=x " * (LARGE // 13)},
        {"Source": "://a:" * (LARGE // 5)},
        {"Source": "token=" * (LARGE // 6)},
        {"ProcessHash": "0" * LARGE},
    ],
    ids="/".join,
)
@pytest.mark.parametrize("redact", [False, True])
def test_an_event_of_the_largest_size_takes_no_time_to_speak_of(fields: dict[str, Any], redact: bool) -> None:
    gate = Gate(GateSettings(redact_common_secrets=redact))
    walk = EventEncoder(gate, Mapper(MappingSettings(parse_labels=True), version="1"))
    body = alert(**fields).SerializeToString()
    started = time.process_time()
    assert walk.encode(RawEvent(Stream.ALERTS, body, RECEIVED, "u")) is not None
    assert time.process_time() - started < LARGEST_CPU_SECONDS


@pytest.mark.parametrize(
    "tail",
    [b"\x80" * LARGE, b"\xd8\x06" + b"\x80" * LARGE, b"\xd9\x06\0", b"\xd2\x06\xff\xff\xff\xff\x07" + bytes(MIB)],
)
def test_a_large_event_that_breaks_off_travels_raw_at_once(tail: bytes) -> None:
    body = alert(Message="x" * 100_000).SerializeToString() + tail
    started = time.process_time()
    assert decode(Stream.ALERTS, body).how == "raw"
    assert time.process_time() - started < LARGEST_CPU_SECONDS


def test_secrets_behind_what_is_shown_are_not_shown() -> None:
    walk = EventEncoder(
        Gate(GateSettings(redact_common_secrets=True)),
        Mapper(MappingSettings(max_value_bytes=65536, keep_original=True), version="1"),
    )
    source = "--password=hunter2 " + "x" * 65_500 + " --password=hunter2 " + "y" * 200_000 + " --password=hunter2"
    record = walk.encode(RawEvent(Stream.ALERTS, alert(Source=source).SerializeToString(), RECEIVED, "u"))
    assert record is not None
    assert b"hunter2" not in record.encoded
    assert b"kubearmor.truncated" in record.encoded
