from __future__ import annotations

from typing import Any

import pytest

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from tests.unit.mapping.samples import Seen, see

STARTED = 1_785_000_000_123_456_789


def gap(**fields: Any) -> Gap:
    usual = {
        "stream": Stream.ALERTS, "upstream": "kubearmor:32767", "cause": GapCause.DISCONNECT,
        "started_unix_nano": STARTED, "ended_unix_nano": STARTED + 12_500_000_000,
    }  # fmt: skip
    return Gap(**{**usual, **fields})


def seen(told: Gap, **settings: Any) -> Seen:
    return see(Mapper(MappingSettings(**settings), version="1").gap(told))


def test_a_gap_says_when_why_and_how_much() -> None:
    found = seen(gap(attempts=3, estimated_records=40, detail="UNAVAILABLE: Socket closed"))
    assert (
        found.attributes.items()
        >= {
            "otelbridge.gap.start": "2026-07-25T17:20:00.123456Z",
            "otelbridge.gap.end": "2026-07-25T17:20:12.623456Z",
            "otelbridge.gap.duration": 12.5,
            "otelbridge.gap.cause": "disconnect",
            "otelbridge.gap.stream": "alerts",
            "otelbridge.gap.upstream": "kubearmor:32767",
            "otelbridge.gap.attempts": 3,
            "otelbridge.gap.estimated_records": 40,
            "otelbridge.gap.detail": "UNAVAILABLE: Socket closed",
        }.items()
    )
    assert found.record.event_name == "otelbridge.gap"
    assert (found.record.severity_number, found.record.severity_text) == (13, "WARN")
    assert found.record.time_unix_nano == STARTED
    assert found.record.observed_time_unix_nano == STARTED + 12_500_000_000
    assert found.body == (
        "The alerts of kubearmor:32767 could not be seen for 12.500 s from 2026-07-25T17:20:00.123456Z: "
        "the connection was lost; about 40 records were missed. UNAVAILABLE: Socket closed"
    )


def test_what_is_not_known_is_not_written() -> None:
    found = seen(gap(upstream=""))
    assert not {"otelbridge.gap.attempts", "otelbridge.gap.lost_records", "otelbridge.gap.upstream"} & set(
        found.attributes
    )
    assert seen(gap(lost_records=0)).attributes["otelbridge.gap.lost_records"] == 0, "zero is a count"


def test_throttling_stands_at_its_container() -> None:
    told = gap(cause=GapCause.THROTTLED, node="n", namespace="ns", pod="p", container="c")
    assert seen(told).resource.items() >= {
        "k8s.node.name": "n", "k8s.namespace.name": "ns", "k8s.pod.name": "p", "k8s.container.name": "c"
    }.items()  # fmt: skip


@pytest.mark.parametrize("cause", GapCause)
@pytest.mark.parametrize("stream", Stream)
def test_every_cause_has_its_words(cause: GapCause, stream: Stream) -> None:
    found = seen(gap(cause=cause, stream=stream))
    assert found.body.isprintable()
    assert found.attributes["otelbridge.gap.cause"] == cause.value


def test_a_gap_is_the_gaps_streams_record_and_has_an_id_of_its_own() -> None:
    mapper = Mapper(MappingSettings(), version="1")
    assert mapper.gap(gap()).stream is Stream.GAPS
    assert see(mapper.gap(gap())).attributes["log.record.uid"] == see(mapper.gap(gap())).attributes["log.record.uid"]
    ids = {
        see(mapper.gap(told)).attributes["log.record.uid"]
        for told in (
            gap(),
            gap(stream=Stream.LOGS),
            gap(upstream="b:1"),
            gap(ended_unix_nano=STARTED + 1),
            gap(pod="p"),
        )
    }
    assert len(ids) == 5


def test_a_gap_that_ends_before_it_starts_lasts_no_time() -> None:
    found = seen(gap(ended_unix_nano=STARTED - 5))
    assert found.attributes["otelbridge.gap.duration"] == 0.0


def test_a_hostile_detail_stays_one_line() -> None:
    assert seen(gap(detail="a\n\x1b[31m" + "x" * 5000)).body.isprintable()
