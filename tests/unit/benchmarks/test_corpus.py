from __future__ import annotations

from pathlib import Path

from benchmarks.corpus import Corpus, corpus_file
from benchmarks.fallback.generator import fresh, read_corpus
from otelbridge.event import Stream
from otelbridge.pb.kubearmor_pb2 import Alert


def test_a_corpus_is_made_once(tmp_path: Path) -> None:
    made = corpus_file(Corpus(events=10), tmp_path)

    assert corpus_file(Corpus(events=10), tmp_path) == made
    assert corpus_file(Corpus(events=10, pods=3), tmp_path) != made


def test_no_two_events_of_a_corpus_are_the_same(tmp_path: Path) -> None:
    events = list(read_corpus(corpus_file(Corpus(events=500, mix="mixed"), tmp_path)))

    assert len({body for _, body in events}) == 500


def test_padding_makes_each_event_so_much_larger(tmp_path: Path) -> None:
    slim, padded = (
        [len(body) for _, body in read_corpus(corpus_file(Corpus(events=20, padding_bytes=n), tmp_path))]
        for n in (0, 1_000)
    )

    assert all(1_000 <= large - small <= 1_010 for small, large in zip(slim, padded, strict=True))


def test_an_event_gets_its_time_and_its_number_when_it_is_sent(tmp_path: Path) -> None:
    (stream, body), *_ = read_corpus(corpus_file(Corpus(events=1), tmp_path))

    sent = Alert.FromString(fresh(body, 41))

    assert stream is Stream.ALERTS
    assert sent.HostPID == 42
    assert sent.UpdatedTime.endswith("Z")
    assert sent.PolicyName == Alert.FromString(body).PolicyName
