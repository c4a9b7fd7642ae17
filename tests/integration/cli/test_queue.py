from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.model import Accepted, Batch, Refused
from otelbridge.queue.queue import DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import Status
from tests.unit.cli.invoking import Ended, invoke

MAX_BYTES, MAX_RECORDS = 1 << 20, 1000


def batch(*bodies: str, stream: Stream = Stream.ALERTS) -> Batch:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for body in bodies:
        records.add().body.string_value = body
    return Batch(
        stream=stream,
        request=request.SerializeToString(),
        records=len(bodies),
        oldest_received_unix_nano=time.time_ns(),
    )


def put(queue: DurableQueue, *batches: Batch) -> None:
    queue.put(batches, [Posting(one.stream, Account.RECEIVED, "", one.records) for one in batches])


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[DurableQueue]:
    """A queue as a bridge leaves it: two records delivered (and retained), one refused, three held."""
    opened = DurableQueue.open(
        QueueSettings(directory=tmp_path, retain_seconds=600), tell=lambda _: None, record_gap=lambda _: None
    )
    put(opened, batch("delivered 1", "delivered 2"))
    lease = opened.take(max_bytes=MAX_BYTES, max_records=MAX_RECORDS)
    assert lease is not None
    opened.settle(lease, Accepted())
    put(opened, batch("refused \x1b[31m\x7f"))
    lease = opened.take(max_bytes=MAX_BYTES, max_records=MAX_RECORDS)
    assert lease is not None
    opened.dead_letter(lease, Refused(code="INVALID_ARGUMENT", why="no \x1b[31mthanks"))
    put(opened, batch("held 1", "held 2"), batch("held 3", stream=Stream.LOGS))
    yield opened
    opened.close()


def at(queue_folder: Path, *arguments: str) -> Ended:
    return invoke(*arguments, "--queue-directory", str(queue_folder))


def test_the_ledger_says_that_no_record_is_missing(queue: DurableQueue, tmp_path: Path) -> None:
    ended = at(tmp_path, "ledger")
    rows = {line.split()[0]: line.split()[1:] for line in ended.data.splitlines()}
    assert rows["stream"] == [
        "received",
        "delivered",
        "rejected",
        "dropped",
        "filtered",
        "summarised",
        "doubled",
        "held",
        "missing",
    ]
    assert rows["alerts"] == ["5", "2", "1", "0", "0", "0", "0", "2", "0"]
    assert rows["logs"] == ["1", "0", "0", "0", "0", "0", "0", "1", "0"]
    assert rows["all"] == ["6", "2", "1", "0", "0", "0", "0", "3", "0"]
    assert ended.data.splitlines()[-1] == "No record is missing."
    assert ended.code == 0


def test_a_ledger_that_does_not_balance_is_said_and_fails(queue: DurableQueue, tmp_path: Path) -> None:
    queue.put([], [Posting(Stream.LOGS, Account.RECEIVED, "", 2)])
    ended = at(tmp_path, "ledger")
    assert (ended.code, ended.data.splitlines()[-1]) == (1, "The ledger does not balance: +2 logs.")
    assert at(tmp_path, "ledger", "--output", "json").json()["streams"]["logs"]["residue"] == 2


def test_dropped_records_are_listed_with_their_reason(queue: DurableQueue, tmp_path: Path) -> None:
    postings = [Posting(Stream.LOGS, Account.RECEIVED, "", 4), Posting(Stream.LOGS, Account.DROPPED, "buffer_full", 4)]
    queue.put([], postings)
    assert "logs: 4 dropped (buffer_full)" in at(tmp_path, "ledger").data.splitlines()


def test_without_a_queue_there_is_no_ledger_and_exit_3(tmp_path: Path) -> None:
    ended = at(tmp_path / "nowhere", "ledger")
    assert ended.code == 3
    assert "there is no queue.db in it" in ended.talk


def test_list_shows_what_is_held(queue: DurableQueue, tmp_path: Path) -> None:
    ended = at(tmp_path, "queue", "list")
    assert [line.split()[1:3] for line in ended.data.splitlines()[1:]] == [["alerts", "2"], ["logs", "1"]]
    assert "3 records held; the bridge on it is process" in ended.talk
    assert len(at(tmp_path, "queue", "list", "--limit", "1", "--output", "json").json()["batches"]) == 1


def test_show_prints_a_batch_as_otlp_json(queue: DurableQueue, tmp_path: Path) -> None:
    number = at(tmp_path, "queue", "list", "--output", "json").json()["batches"][0]["number"]
    text = at(tmp_path, "queue", "show", str(number)).data
    assert '"stringValue": "held 1"' in text
    for unheld in ("999999999", str(2**63)):
        assert "There is no batch" in at(tmp_path, "queue", "show", unheld).talk


def test_verify_says_that_the_queue_is_sound(queue: DurableQueue, tmp_path: Path) -> None:
    ended = at(tmp_path, "queue", "verify")
    assert (ended.code, ended.data.splitlines()) == (
        0,
        ["2 batches with 3 records read.", "The queue is sound."],
    )


def test_dead_letters_are_listed_without_what_could_steer_a_terminal(queue: DurableQueue, tmp_path: Path) -> None:
    (letter,) = at(tmp_path, "queue", "dead-letters", "--output", "json").json()
    assert (letter["code"], letter["records"]) == ("INVALID_ARGUMENT", 1)
    text = (
        at(tmp_path, "queue", "dead-letters").data
        + at(tmp_path, "queue", "show", str(letter["id"]), "--dead-letter").data
    )
    assert "no \\x1b[31mthanks" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_resend_leaves_an_errand_that_the_bridge_does(queue: DurableQueue, tmp_path: Path) -> None:
    ended = at(tmp_path, "queue", "resend", "--all")
    assert ended.code == 0
    assert "1 dead letters: resend within a second." in ended.talk
    queue.tend()
    assert at(tmp_path, "queue", "dead-letters", "--output", "json").json() == []
    assert at(tmp_path, "ledger", "--output", "json").json()["streams"]["alerts"]["held"] == 3


def test_resend_wants_to_know_which(queue: DurableQueue, tmp_path: Path) -> None:
    assert at(tmp_path, "queue", "resend").code == 2
    unknown = at(tmp_path, "queue", "resend", "99")
    assert (unknown.code, "There is no dead letter 99." in unknown.talk) == (1, True)


def test_export_prints_one_request_per_line(queue: DurableQueue, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in at(tmp_path, "queue", "export").data.splitlines()]
    assert len(lines) == 2
    retained = at(tmp_path, "queue", "export", "--part", "retained").data
    assert "delivered 2" in retained


def test_replay_sends_what_the_flight_recorder_kept(queue: DurableQueue, tmp_path: Path) -> None:
    with OtlpEndpoint() as endpoint:
        ended = at(tmp_path, "queue", "replay", "--since", "1h", "--to", endpoint.grpc_endpoint)
        bodies = [one.record.body.string_value for one in endpoint.wait_for_records(2, 5)]
    assert (ended.code, bodies) == (0, ["delivered 1", "delivered 2"])
    assert "2 records in 1 batches replayed" in ended.talk


def test_replay_stops_where_the_endpoint_refuses(queue: DurableQueue, tmp_path: Path) -> None:
    import grpc  # noqa: PLC0415

    with OtlpEndpoint(answers=[Status(code=grpc.StatusCode.INVALID_ARGUMENT, details="no")]) as endpoint:
        ended = at(tmp_path, "queue", "replay", "--since", "1h", "--to", endpoint.grpc_endpoint)
    assert ended.code == 1
    assert "INVALID_ARGUMENT" in ended.talk


def test_replay_wants_a_time_that_it_understands(queue: DurableQueue, tmp_path: Path) -> None:
    ended = at(tmp_path, "queue", "replay", "--since", "yesterday")
    assert (ended.code, "is no time" in ended.talk) == (2, True)
