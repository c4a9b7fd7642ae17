"""A burst of events into a bridge whose endpoint and disk are slow: who lost how many, by whose account."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from benchmarks.child import Child
from benchmarks.corpus import Corpus, corpus_file
from benchmarks.programs import BUILD, NATIVE
from otelbridge.simulator.endpoint import OtlpEndpoint, attributes
from otelbridge.simulator.endpoint_answers import Answer, Hang, Request
from tests.peers.bridge import FRESH, running_bridge
from tests.peers.faulty_disk import FaultyDisk, Operation
from tests.peers.metronome import Metronome
from tests.peers.presence import required
from tests.waiting import eventually

SLOW_ANSWER_SECONDS = 0.5
SLOW_COMMIT_SECONDS = 0.2
CORPUS = Corpus(events=5_000)
SLOWEST_SEND_FACTOR = 3
DELIVER_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """The accounts after a burst."""

    events_per_second: float
    """What the upstream reached."""
    published: int
    upstream_dropped: int
    """Because the 1,000 slots of the subscription were full: the reader was too slow."""
    fullest_slots: int
    """Most of them that were in use."""
    longest_wait_seconds: float
    """From the upstream's stamp to the receipt here, at worst."""
    machine_stall_seconds: float
    """How late a process that only wakes up was meanwhile, at worst: the part of the wait that is nobody's here."""
    slow_commits: int
    arrived: int
    """Events at the endpoint."""
    counted_drops: int
    """The ledger's `dropped{buffer_full}`."""
    lost_by_gap_records: int
    """What the gap records at the endpoint say."""
    balanced: bool
    peak_memory_bytes: int

    @property
    def missing(self) -> int:
        """Events that the upstream sent and the endpoint never saw."""
        return self.published - self.upstream_dropped - self.arrived

    @property
    def accounted(self) -> bool:
        """Nothing was lost upstream, and what was lost here is what the counter, the gap records and the ledger say."""
        return (
            self.upstream_dropped == 0
            and self.missing == self.counted_drops == self.lost_by_gap_records
            and self.balanced
        )


class SlowEndpoint:
    """An endpoint's script: each answer takes its time; notes how many events came, and how late they were received."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.events = 0
        self.lost_by_gap_records = 0
        self.longest_wait_nanos = 0
        self.seconds = SLOW_ANSWER_SECONDS

    def __call__(self, request: Request) -> Answer:
        for per_resource in ExportLogsServiceRequest.FromString(request.body).resource_logs:
            for per_scope in per_resource.scope_logs:
                with self._lock:
                    for record in per_scope.log_records:
                        if record.event_name == "otelbridge.gap":
                            lost = attributes(record.attributes).get("otelbridge.gap.lost_records", 0)
                            self.lost_by_gap_records += int(str(lost))
                        else:
                            self.events += 1
                            waited = record.observed_time_unix_nano - record.time_unix_nano
                            self.longest_wait_nanos = max(self.longest_wait_nanos, waited)
        return Hang(seconds=self.seconds)


@contextmanager
def upstream_in_go(folder: Path) -> Iterator[Child]:
    """A KubeArmor on grpc-go with its 1,000 slots, told to send by lines; see `benchmarks/generator`."""
    program = required(
        Path(NATIVE.generator[0]), name="the generator in Go", cure="run python -m benchmarks.programs (needs Go)"
    )
    command = (str(program), "--corpus", str(corpus_file(CORPUS, BUILD)))
    with Child(command, log=folder / "generator.log", talks=True) as generator:
        yield generator


def burst(folder: Path, *, per_second: int, seconds: float, synchronous: str, buffer_max_events: int) -> Burst:
    """Alerts at a rate, from a process of their own, while each export and each commit takes its time.

    Returns:
        The accounts once the disk and the endpoint are well again and everything is delivered.
    """
    script = SlowEndpoint()
    with ExitStack() as stack:
        upstream = stack.enter_context(upstream_in_go(folder))
        address = upstream.hear()["endpoint"]
        disk = FaultyDisk(folder / "bridge" / "queue", folder / "disk")
        stack.callback(disk.close)
        endpoint = stack.enter_context(OtlpEndpoint(answers=script, keep=False))
        bridge = stack.enter_context(
            running_bridge(
                folder / "bridge",
                FRESH,
                env=disk.env,
                queue={"synchronous": synchronous},
                feed={"endpoints": [address], "streams": ["alerts"], "buffer_max_events": buffer_max_events},
                send={"endpoint": endpoint.grpc_endpoint, "replay_rate_factor": 0},
            )
        )
        bridge.wait_until_watching()
        upstream.hear()  # that it is subscribed to
        count = round(per_second * seconds)
        with disk.slow(Operation.COMMIT, seconds=SLOW_COMMIT_SECONDS) as slowed, Metronome() as metronome:
            said = upstream.ask(f"{per_second} {count}", within_seconds=SLOWEST_SEND_FACTOR * seconds + 60)
            sent = said["published"] - said["dropped"]
            eventually(
                lambda: bridge.balance("alerts")["received"] == sent,
                within_seconds=DELIVER_SECONDS,
                why="all sent is accounted for",
            )
            commits = slowed.hits
        script.seconds = 0
        bridge.wait_until_delivered(within_seconds=DELIVER_SECONDS)
        figures = Burst(
            events_per_second=round(said["published"] / said["seconds"]),
            published=said["published"],
            upstream_dropped=said["dropped"],
            fullest_slots=said["fullest"],
            longest_wait_seconds=round(script.longest_wait_nanos / 1e9, 4),
            machine_stall_seconds=metronome.latest_seconds,
            slow_commits=commits,
            arrived=script.events,
            counted_drops=bridge.status()["ledger"]["streams"]["alerts"]["dropped"].get("buffer_full", 0),
            lost_by_gap_records=script.lost_by_gap_records,
            balanced=bridge.balances(),
            peak_memory_bytes=bridge.process.peak_memory_bytes(),
        )
        assert bridge.stop() == 0
    return figures
