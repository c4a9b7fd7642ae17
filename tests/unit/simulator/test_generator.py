"""Invented events."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator.generator import Observed, generate

MANY = 2_000


def observed(seed: int) -> list[Observed]:
    events = [message for _, message in islice(generate(seed), MANY)]
    return [event for event in events if not isinstance(event, kubearmor_pb2.Message)]


def test_the_same_seed_makes_the_same_events() -> None:
    assert observed(7) == observed(7)
    assert observed(7) != observed(8)


def test_only_the_streams_that_were_asked_for_are_made() -> None:
    for stream in UPSTREAM_STREAMS:
        assert {each for each, _ in islice(generate(1, streams=(stream,)), 100)} == {stream}


def test_most_events_are_logs() -> None:
    counts = Counter(stream for stream, _ in islice(generate(1, streams=UPSTREAM_STREAMS), MANY))

    assert counts[Stream.LOGS] > 10 * counts[Stream.ALERTS] > 10 * counts[Stream.MESSAGES] > 0


def test_no_two_events_share_a_process_or_a_resource_but_pods_return() -> None:
    events = observed(1)

    assert len({event.HostPID for event in events}) == MANY
    assert len({(event.Resource, event.Data) for event in events}) > 0.99 * MANY
    assert len({event.PodName for event in events}) == 200
    assert len({event.HostName for event in events}) == 20


def test_processes_files_and_the_network_are_all_there() -> None:
    assert {event.Operation for event in observed(1)} == {"Process", "File", "Network"}
