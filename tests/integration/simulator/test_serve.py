"""The whole simulator: a source, a pace, faults, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator.events import sequences_in
from otelbridge.simulator.faults import parse_fault
from otelbridge.simulator.serve import GENERATED, PublishPace, SimulateOptions, SourceError, Summary, serve
from tests.integration.simulator.watching import Watch, channel_to, health_check
from tests.waiting import eventually

WITHIN_SECONDS = 20


class Running:
    """A simulator in a thread."""

    def __init__(self, endpoints: list[str], until: threading.Event, done: Future[Summary], told: list[str]) -> None:
        self.endpoints = endpoints
        self.endpoint = endpoints[0] if endpoints else ""
        self.told = told
        self._until = until
        self._done = done

    def summary(self) -> Summary:
        """When it has ended by itself."""
        return self._done.result(WITHIN_SECONDS)

    def stop(self) -> Summary:
        self._until.set()
        return self.summary()


@contextmanager
def serving(options: SimulateOptions) -> Iterator[Running]:
    until, endpoints, told = threading.Event(), list[str](), list[str]()
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(serve, options, until=until, ready=endpoints.append, tell=told.append)
        try:
            eventually(lambda: endpoints or done.done())
            yield Running(endpoints, until, done, told)
        finally:
            until.set()


def faulty(*faults: str, streams: tuple[Stream, ...] = (Stream.ALERTS,)) -> SimulateOptions:
    return SimulateOptions(
        source=GENERATED, streams=streams, pace=PublishPace(per_second=100), faults=tuple(map(parse_fault, faults))
    )


def test_everything_published_arrives_and_it_ends_by_itself() -> None:
    options = SimulateOptions(source=GENERATED, streams=(Stream.LOGS,), sequence=True, pace=PublishPace(count=3_000))

    with serving(options) as running, channel_to(running.endpoint) as channel, Watch(channel, Stream.LOGS) as watch:
        assert watch.ending(WITHIN_SECONDS)[0] is grpc.StatusCode.OK
        summary = running.summary()

    assert [sequences_in(body) for body in watch.bodies] == [[number] for number in range(3_000)]
    assert summary.published == 3_000 == summary.counts[Stream.LOGS].sent


def test_roads_publish_the_same_events_less_what_each_drops_by_seed() -> None:
    lost = []
    for _ in range(2):
        options = SimulateOptions(
            source=GENERATED, streams=(Stream.LOGS,), sequence=True, pace=PublishPace(count=1_000), roads=(0, 0.05)
        )
        with (
            serving(options) as running,
            channel_to(eventually(lambda: running.endpoints[0:])[0]) as one,
            channel_to(eventually(lambda: running.endpoints[1:])[0]) as two,
            Watch(one, Stream.LOGS) as first,
            Watch(two, Stream.LOGS) as second,
        ):
            summary = running.summary()
            assert first.ending(WITHIN_SECONDS)[0] is second.ending(WITHIN_SECONDS)[0] is grpc.StatusCode.OK
        assert [sequences_in(body) for body in first.bodies] == [[number] for number in range(1_000)]
        brought = set(second.bodies)
        assert brought < set(first.bodies), "copies are equal"
        assert summary.lost == (0, 1_000 - len(brought))
        assert 20 < summary.lost[1] < 80
        lost.append({sequences_in(body)[0] for body in first.bodies if body not in brought})
    assert lost[0] == lost[1], "by seed"


def test_the_samples_go_to_their_streams_with_fresh_times() -> None:
    with (
        serving(SimulateOptions(pace=PublishPace())) as running,
        channel_to(running.endpoint) as channel,
        Watch(channel, Stream.ALERTS) as alerts,
        Watch(channel, Stream.LOGS) as logs,
        Watch(channel, Stream.MESSAGES) as messages,
    ):
        for watch in (alerts, logs, messages):
            watch.ending(WITHIN_SECONDS)
        summary = running.summary()

    assert (len(alerts.bodies), len(logs.bodies), len(messages.bodies)) == (30, 27, 2)
    times = {kubearmor_pb2.Alert.FromString(body).UpdatedTime for body in alerts.bodies}
    assert min(times) > "2026-07-25T17:20:00.123456Z"
    assert summary.bad_line_count == 0


def test_a_file_is_sent_as_recorded_and_its_faults_are_in_the_summary(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(
        '{"Type": "MatchedPolicy", "UpdatedTime": "2020-01-01T00:00:00.000000Z", "Mood": 1}\n{"PID": "x"}\n'
    )
    options = SimulateOptions(source=str(file), streams=(Stream.ALERTS,), fresh_times=False)

    with serving(options) as running, channel_to(running.endpoint) as channel, Watch(channel) as watch:
        watch.ending(WITHIN_SECONDS)
        summary = running.summary()

    assert kubearmor_pb2.Alert.FromString(watch.bodies[0]).UpdatedTime == "2020-01-01T00:00:00.000000Z"
    assert summary.bad_lines == (f'{file}:2: PID must be a whole number of 32 bits, not "x"',)
    assert summary.unknown_keys == ("Mood",)


def test_a_missing_file_is_an_error_before_anybody_can_connect(tmp_path: Path) -> None:
    with serving(SimulateOptions(source=str(tmp_path / "nowhere"))) as running:
        with pytest.raises(FileNotFoundError):
            running.summary()
        assert running.endpoint == ""


def test_a_source_without_events_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()

    with serving(SimulateOptions(source=str(empty))) as running, pytest.raises(SourceError, match="no event"):
        running.summary()


def test_it_waits_for_somebody_to_hear_it_and_can_be_stopped_while_it_does() -> None:
    with serving(SimulateOptions()) as running:
        assert running.stop().published == 0


def test_it_stays_if_it_is_asked_to() -> None:
    options = SimulateOptions(streams=(Stream.MESSAGES,), pace=PublishPace(), stay=True)

    with (
        serving(options) as running,
        channel_to(running.endpoint) as channel,
        Watch(channel, Stream.MESSAGES) as watch,
    ):
        eventually(lambda: len(watch.bodies) == 2)
        assert not watch.ended.is_set()
        assert running.stop().published == 2


def test_a_stream_ends_with_the_status_of_the_fault() -> None:
    with (
        serving(faulty("end:DATA_LOSS@100ms")) as running,
        channel_to(running.endpoint) as channel,
        Watch(channel) as watch,
    ):
        assert watch.ending() == (grpc.StatusCode.DATA_LOSS, "ended by the simulator")
        assert running.told == ["end"]


def test_streams_are_refused_for_as_long_as_the_fault_lasts() -> None:
    with (
        serving(faulty("refuse:PERMISSION_DENIED:500ms@0s")) as running,
        channel_to(running.endpoint) as channel,
    ):
        eventually(lambda: running.told)
        with Watch(channel) as watch:
            assert watch.ending()[0] is grpc.StatusCode.PERMISSION_DENIED
        eventually(lambda: running.told == ["refuse", "refuse ended"])
        with Watch(channel) as watch:
            eventually(lambda: watch.bodies)


def test_the_health_check_has_its_faults() -> None:
    with (
        serving(faulty("health:wrong_nonce@0s")) as running,
        channel_to(running.endpoint) as channel,
    ):
        eventually(lambda: running.told)
        assert eventually(lambda: health_check(channel, 5) != 5)


@pytest.mark.parametrize("fault", ["freeze:500ms@0s", "hang:500ms@0s"])
def test_a_frozen_server_answers_when_it_is_over(fault: str) -> None:
    with serving(faulty(fault)) as running, channel_to(running.endpoint) as channel:
        eventually(lambda: running.told)

        assert health_check(channel, 5) == 5
        assert running.told[-1].endswith("ended")


@pytest.mark.parametrize("fault", ["restart@200ms", "goaway@200ms", "cut@200ms", "swallow:200ms@200ms"])
def test_the_server_is_back_after_a_fault_that_ends_connections(fault: str) -> None:
    with serving(faulty(fault)) as running:
        with channel_to(running.endpoint) as channel, Watch(channel) as watch:
            assert watch.ending()[0] is grpc.StatusCode.UNAVAILABLE

        def answers() -> bool:
            with channel_to(running.endpoint) as channel:
                try:
                    return health_check(channel, 5, 1) == 5
                except grpc.RpcError:
                    return False

        eventually(answers)


def test_a_fault_comes_again_and_again() -> None:
    with serving(faulty("end:OK-every:50ms")) as running, channel_to(running.endpoint) as channel:
        for _ in range(3):
            with Watch(channel) as watch:
                assert watch.ending()[0] is grpc.StatusCode.OK
        assert len(running.told) >= 3
