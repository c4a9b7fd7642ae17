"""Whatever an upstream, a disk or an operator hands to the bridge: a counted record or a clear error, never a crash."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.oracle import Publisher, gap_records, numbers_of
from tests.peers.bridge import COMMAND, Json, running_bridge
from tests.waiting import eventually

MIB = 1024 * 1024
BYTES_FIELD = 2  # protobuf's wire type of strings and messages
UNKNOWN_FIELD = 1_999
POD_NAME_FIELD = pb.Alert.DESCRIPTOR.fields_by_name["PodName"].number


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes) -> bytes:
    """A protobuf field, encoded by hand: the library would not write what is wrong here."""
    return varint(number << 3 | BYTES_FIELD) + varint(len(value)) + value


ODD_EVENTS: dict[str, bytes] = {
    "nothing at all": b"",
    "no protobuf": b"\xff\xff\xff\xff",
    "cut short": pb.Alert(PodName="a", Data="x" * 100).SerializeToString()[:-20],
    "invalid UTF-8": field(POD_NAME_FIELD, b"\xff\xfe\x80"),
    "an unknown field": pb.Alert(PodName="a").SerializeToString() + field(UNKNOWN_FIELD, b"news"),
    "unknown words": pb.Alert(Type="Novelty", Action="Ponder", Result="Hm", Operation="Teleport").SerializeToString(),
    "absurd times": pb.Alert(Timestamp=-(2**62), UpdatedTime="the day after tomorrow").SerializeToString(),
    "16 MiB": pb.Alert(PodName="a", Data="x" * (16 * MIB - 64)).SerializeToString(),
}


def test_every_odd_event_becomes_a_record_and_the_stream_goes_on(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    with running_bridge(
        tmp_path,
        feed={"endpoints": [relay.endpoint], "streams": ["alerts", "logs"]},
        send={"endpoint": endpoint.grpc_endpoint},
    ) as bridge:
        bridge.wait_until_watching()
        relay.wait_for_subscribers(streams=(Stream.ALERTS, Stream.LOGS))
        for event in ODD_EVENTS.values():
            relay.publish(Stream.ALERTS, event)
            relay.publish(Stream.LOGS, event)
        records = endpoint.wait_for_records(2 * len(ODD_EVENTS), within=30)
        bridge.wait_until_delivered()
        for stream in (Stream.ALERTS, Stream.LOGS):
            assert bridge.balance(stream)["received"] == bridge.balance(stream)["delivered"] == len(ODD_EVENTS)
        assert gap_records(records) == []
        assert bridge.status()["subscriptions"][0]["attempts"] == 1
        assert bridge.stop() == 0


def test_an_event_larger_than_the_limit_costs_the_stream_a_moment_and_is_said(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path
) -> None:
    with running_bridge(
        tmp_path, feed={"endpoints": [relay.endpoint]}, send={"endpoint": endpoint.grpc_endpoint}
    ) as bridge:
        bridge.wait_until_watching()
        publisher = Publisher(relay, per_second=1_000, streams=(Stream.ALERTS,))
        publisher.publish(10)
        endpoint.wait_for_records(10, within=20)
        relay.publish(Stream.ALERTS, pb.Alert(Data="x" * 16 * MIB))
        eventually(lambda: gap_records(endpoint.log_records()), why="the stretch has its record")
        bridge.wait_until_watching()
        publisher.publish(10)
        records = endpoint.wait_for_records(21, within=20)
        assert sorted(numbers_of(records)) == list(range(20))
        (gap,) = gap_records(records)
        assert gap["otelbridge.gap.stream"] == "alerts"
        assert gap["otelbridge.gap.lost_records"] == 1
        ledger = bridge.status()["ledger"]["streams"]["alerts"]
        assert (ledger["received"], ledger["dropped"], ledger["residue"]) == (21, {"oversized": 1}, 0)
        assert float(str(gap["otelbridge.gap.duration"])) <= 1.5
        bridge.wait_until_delivered()
        assert bridge.stop() == 0


@pytest.mark.parametrize("damage", ["garbage", "cut", "zeroed page"])
def test_a_damaged_queue_file_is_salvaged_at_the_start_and_the_loss_is_said(
    relay: Relay, endpoint: OtlpEndpoint, tmp_path: Path, damage: str
) -> None:
    settings: dict[str, Json] = {
        "feed": {"endpoints": [relay.endpoint]},
        "send": {"endpoint": endpoint.grpc_endpoint, "timeout_seconds": 1, "replay_rate_factor": 0},
        "bridge": {"drain_seconds": 0},
    }
    endpoint.stop()
    publisher = Publisher(relay, per_second=2_000)
    with running_bridge(tmp_path, **settings) as bridge:
        bridge.wait_until_watching()
        publisher.publish(1_000)
        eventually(lambda: bridge.held() == 1_000, why="all is held")
        assert bridge.stop() == 0
    file = bridge.queue_directory / "queue.db"
    whole = file.read_bytes()
    file.write_bytes(
        {
            "garbage": b"this is no database" * 1_000,
            "cut": whole[: len(whole) * 2 // 3],
            "zeroed page": whole[: len(whole) // 2] + bytes(4096) + whole[len(whole) // 2 + 4096 :],
        }[damage]
    )
    endpoint.start()
    with running_bridge(tmp_path, **settings) as bridge:
        bridge.wait_until_watching()
        publisher.publish(100)
        eventually(lambda: set(range(1_000, 1_100)) <= set(numbers_of(endpoint.log_records())), within_seconds=20)
        bridge.wait_until_delivered()
        arrived = set(numbers_of(endpoint.log_records()))
        accounts = bridge.status()["ledger"]["streams"]
        corrupt = sum(accounts[stream]["dropped"].get("corrupt", 0) for stream in ("alerts", "logs"))
        assert corrupt == 1_100 - len(arrived)
        lost_gaps = [g for g in gap_records(endpoint.log_records()) if g["otelbridge.gap.cause"] == "corruption"]
        assert bool(lost_gaps) == bool(corrupt)
        # Without a count: what was watched is not known any more.
        counted = [
            int(str(gap["otelbridge.gap.lost_records"])) for gap in lost_gaps if "otelbridge.gap.lost_records" in gap
        ]
        assert sum(counted) == corrupt
        assert bridge.stop() == 0


UNUSABLE: dict[str, tuple[Sequence[str], str]] = {
    "a CA file that is not there": (
        ("--set", "feed.tls.enabled=true", "--set", "feed.tls.ca_file=/nowhere/ca.pem"), "/nowhere/ca.pem"),
    "a certificate that is none": (
        ("--set", "feed.tls.enabled=true", "--set", "feed.tls.ca_file=/etc/hostname"), "/etc/hostname"),
    "an endpoint without a port": (("--endpoint", "http://collector"), "collector"),
    "an upstream with a port that is none": (("--kubearmor", "kubearmor:port"), "kubearmor:port"),
    "a setting that is none": (("--set", "feed.endpoint=here"), "feed.endpoint"),
    "a protocol that is none": (("--protocol", "carrier pigeon"), "pigeon"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_settings_that_cannot_work_end_the_command_with_2_and_are_named(tmp_path: Path, case: str) -> None:
    arguments, named = UNUSABLE[case]
    ended = subprocess.run(
        [COMMAND, "run", "--queue-directory", str(tmp_path), "--status-port", "0", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2, ended.stderr
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
