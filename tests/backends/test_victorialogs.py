"""A genuine VictoriaLogs has every record once, with its time to the nanosecond and all its values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from otelbridge.simulator.endpoint import ReceivedLog, plain
from tests.backends.carried import Records, as_text, as_texts, carry
from tests.peers.bridge import Json
from tests.peers.collector import start_pipeline
from tests.peers.presence import ROOT
from tests.peers.victorialogs import VictoriaLogs, start_victorialogs
from tests.waiting import eventually

pytestmark = [pytest.mark.backends, pytest.mark.timeout(400)]

PIPELINES = ROOT / "k8s" / "collector"
STREAM_FIELDS = "k8s.cluster.name,k8s.namespace.name,kubearmor.stream"
"""As docs/wiring.md says."""
MAX_STREAMS = 40
"""Without the header it makes one of each resource and event name: more than a thousand."""
NANOS = 1_000_000_000


class Loaded(NamedTuple):
    victorialogs: VictoriaLogs
    records: Records


@pytest.fixture(scope="module", params=["from the bridge", "through a Collector"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("victorialogs")
    with start_victorialogs(folder) as victorialogs:
        if request.param == "from the bridge":
            headers = {"VL-Stream-Fields": STREAM_FIELDS}
            send: Json = {"protocol": "http/protobuf", "endpoint": victorialogs.otlp_endpoint, "headers": headers}
            records = carry(folder, send=send)
        else:
            # The Collector adds the signal's path.
            environment = {"VICTORIALOGS_ENDPOINT": victorialogs.otlp_endpoint.removesuffix("/v1/logs")}
            configs = [PIPELINES / "gateway.yaml", PIPELINES / "to-victorialogs.yaml"]
            with start_pipeline(folder / "gateway", *configs, env=environment) as gateway:
                records = carry(folder, send={"endpoint": gateway.grpc_endpoint})
                eventually(lambda: victorialogs.count() >= len(records), within_seconds=60, why="all are stored")
        victorialogs.flush()
        yield Loaded(victorialogs, records)


def rfc3339(unix_nano: int) -> str:
    """As VictoriaLogs writes a time: without zeros at the end."""
    seconds, nanos = divmod(unix_nano, NANOS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{f'.{nanos:09}'.rstrip('0').rstrip('.')}Z"


def fields(received: ReceivedLog) -> dict[str, str]:
    """A record as VictoriaLogs shows it: flat, all values as text, nothing empty."""
    record = received.record
    flat = as_texts([*received.resource.attributes, *received.record.attributes])
    flat |= {f"scope.attributes.{key}": value for key, value in as_texts(received.scope.attributes).items()}
    flat |= {
        "_time": rfc3339(record.time_unix_nano),
        "_msg": as_text(plain(record.body)),
        "scope.name": received.scope.name,
        "scope.version": received.scope.version,
        "severity_number": str(record.severity_number),
        "severity_text": record.severity_text,
        "event_name": record.event_name,
    }
    return {name: value for name, value in flat.items() if value}


def test_every_record_is_there_once(loaded: Loaded) -> None:
    found = Counter(row["log.record.uid"] for row in loaded.victorialogs.query("* | fields log.record.uid"))
    assert found == Counter(dict.fromkeys(loaded.records, 1))


def test_times_and_values_are_those_that_were_sent(loaded: Loaded) -> None:
    wrong = {}
    for row in loaded.victorialogs.query("*"):
        uid = row["log.record.uid"]
        expected = fields(loaded.records[uid])
        # A record that knows no time gets the one at which the bridge received it: this bridge, not the other one.
        own = {"_stream", "_stream_id"} | ({"_time"} if not loaded.records[uid].record.time_unix_nano else set())
        found, expected = ({name: value for name, value in one.items() if name not in own} for one in (row, expected))
        if found != expected:
            wrong[uid] = sorted(set(found.items()) ^ set(expected.items()))
    assert not wrong, f"{len(wrong)} differ: {dict(list(wrong.items())[:5])}"


def test_streams_stay_few_with_the_documented_header(loaded: Loaded) -> None:
    assert len(loaded.victorialogs.streams()) <= MAX_STREAMS


def documented() -> list[str]:
    """The queries in docs/queries.md."""
    text = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    return [query.strip() for query in re.findall(r"^```logsql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def test_there_are_documented_queries() -> None:
    assert len(documented()) > 5


@pytest.mark.parametrize("query", documented())
def test_a_documented_query_answers_with_a_value_in_every_column(loaded: Loaded, query: str) -> None:
    # Samples are old: a query for the last hour looks at all of them.
    rows = loaded.victorialogs.query(re.sub(r"^_time:\w+", "_time:50y", query))
    assert rows
    # A field that nothing has would be an empty column.
    asked = re.findall(r"(?:by \(|fields )([^)|]+)", query.partition("|")[2])
    for name in {name.split()[0] for names in asked for name in names.split(",")}:
        assert any(row.get(name) for row in rows), f"{name} is nowhere"


def test_the_documented_header_is_the_one_that_is_tried() -> None:
    for file in ("docs/wiring.md", "k8s/collector/to-victorialogs.yaml"):
        assert STREAM_FIELDS in (ROOT / file).read_text(encoding="utf-8"), file
