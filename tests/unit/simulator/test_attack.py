"""The scene `attack`: what it looks like as spans."""

from __future__ import annotations

import itertools

from opentelemetry.proto.trace.v1 import trace_pb2

from otelbridge.event import Stream
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.events import stamp_time
from otelbridge.simulator.serve import ATTACK, EventSource
from tests.processes import STARTED, tree_of

STREAMS = (Stream.ALERTS, Stream.LOGS)


def test_an_attack_reads_as_a_tree_with_what_was_denied_in_red() -> None:
    mapper = Mapper(MappingSettings(process_traces=True), version="1")
    assert mapper.processes is not None
    for number, (stream, message) in enumerate(EventSource(ATTACK, streams=STREAMS)):
        stamp_time(message, STARTED + number * 1_000_000)
        decoded = decode(stream, message.SerializeToString())
        told = mapper.processes.read(stream, decoded.message)
        mapper.processes.with_ids(told, mapper.map(stream, decoded, STARTED), number)
    spans = [trace_pb2.Span.FromString(record.encoded) for record in mapper.processes.due(0, all_of_them=True)]
    children = dict.fromkeys(("id", "curl", "chmod", "payload", "cat"), "sh")
    assert tree_of(spans) == {**children, "sh": "runc", "runc": "unknown"}
    assert {span.name for span in spans if span.status.code} == {"payload", "cat"}


def test_each_round_is_a_session_of_its_own_and_ends_unless_it_is_to_go_on() -> None:
    assert len(list(EventSource(ATTACK, streams=STREAMS))) == 9
    twice = list(itertools.islice(EventSource(ATTACK, streams=STREAMS, loop=True), 18))
    assert len({event.message.HostPID for event in twice if not isinstance(event.message, pb.Message)}) == 12
    assert len(list(EventSource(ATTACK, streams=(Stream.ALERTS,)))) == 2
