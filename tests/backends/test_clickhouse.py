"""The genuine exporter puts every record into ClickHouse's genuine engine once, and the documented SQL answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from otelbridge.simulator.endpoint import ReceivedLog, plain
from tests.backends.carried import Records, as_text, as_texts, carry
from tests.peers.clickhouse import ClickHouse, start_clickhouse
from tests.peers.collector import start_pipeline
from tests.peers.presence import ROOT
from tests.waiting import eventually

pytestmark = [pytest.mark.backends, pytest.mark.timeout(300)]

PIPELINES = ROOT / "k8s" / "collector"
TABLE = "otel.kubearmor_logs"
FIFTY_YEARS = "438000h"
"""Samples are older than the 90 days after which the table forgets; in a hundred years its clock is out of bounds."""
ROWS = f"""
SELECT toUnixTimestamp64Nano(Timestamp) AS time, SeverityText, SeverityNumber, ServiceName, Body, EventName,
       ScopeName, ScopeVersion, ScopeAttributes, ResourceAttributes, LogAttributes FROM {TABLE}
"""


class Stored(NamedTuple):
    clickhouse: ClickHouse
    records: Records


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder = tmp_path_factory.mktemp("clickhouse")
    configs = [PIPELINES / "gateway.yaml", PIPELINES / "to-clickhouse.yaml"]
    with start_clickhouse(folder) as clickhouse:
        environment = {"CLICKHOUSE_ENDPOINT": clickhouse.endpoint, "CLICKHOUSE_TTL": FIFTY_YEARS}
        with start_pipeline(folder / "gateway", *configs, env=environment) as gateway:
            records = carry(folder, send={"endpoint": gateway.grpc_endpoint})
            eventually(lambda: rows_of(clickhouse) >= len(records), within_seconds=60, why="all are inserted")
            yield Stored(clickhouse, records)


def rows_of(clickhouse: ClickHouse) -> int:
    (row,) = clickhouse.query(f"SELECT count() AS rows FROM {TABLE}")
    return int(row["rows"])


def expected(received: ReceivedLog) -> dict[str, Any]:
    """A record as a row of the exporter's table: all values are texts there."""
    record = received.record
    resource = as_texts(received.resource.attributes)
    return {
        "time": record.time_unix_nano,
        "SeverityText": record.severity_text,
        "SeverityNumber": record.severity_number,
        "ServiceName": resource.get("service.name", ""),
        "Body": as_text(plain(record.body)),
        "EventName": record.event_name,
        "ScopeName": received.scope.name,
        "ScopeVersion": received.scope.version,
        "ScopeAttributes": as_texts(received.scope.attributes),
        "ResourceAttributes": resource,
        "LogAttributes": as_texts(record.attributes),
    }


def test_every_record_is_there_once_with_its_time_and_all_values(stored: Stored) -> None:
    rows = stored.clickhouse.query(ROWS)
    assert Counter(row["LogAttributes"]["log.record.uid"] for row in rows) == Counter(dict.fromkeys(stored.records, 1))
    wrong = []
    for row in rows:
        received = stored.records[row["LogAttributes"]["log.record.uid"]]
        wanted = expected(received)
        if not received.record.time_unix_nano:
            # It gets the time at which the bridge received it: this bridge, not the other one.
            wanted["time"] = row["time"]
        if row != wanted:
            wrong.append({key: (row.get(key), wanted[key]) for key in wanted if row.get(key) != wanted[key]})
    assert not wrong, f"{len(wrong)} differ: {wrong[:3]}"


def documented() -> list[str]:
    """The queries in docs/wiring.md."""
    text = (ROOT / "docs" / "wiring.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [query.strip() for block in blocks for query in block.split(";") if query.strip()]


def test_there_is_a_documented_query() -> None:
    assert documented()


@pytest.mark.parametrize("query", documented())
def test_a_documented_query_answers(stored: Stored, query: str) -> None:
    assert stored.clickhouse.query(query)
