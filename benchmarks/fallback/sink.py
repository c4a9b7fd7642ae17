"""Stands in for sink/ where there is no Go: the Python simulator's endpoint, told and telling in the same lines."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelbridge.simulator.endpoint import MIB, OtlpEndpoint
from otelbridge.simulator.endpoint_answers import Answer, Ok, Request, Status

NUMBER_KEY = "process.pid"
"""The attribute that the generator makes the event's number."""
QUANTILES = {"p50": 0.50, "p99": 0.99, "p999": 0.999, "most": 1.0}


ALERT_EVENTS = "kubearmor.alert"


def quantiles(found: Sequence[float]) -> dict[str, float]:
    n = len(found)
    return {name: found[min(n - 1, int(q * n))] for name, q in QUANTILES.items() if n}


class Tally:
    """What has arrived since the start, and the latencies since the last clear."""

    def __init__(self) -> None:
        self.refusing = False
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("requests", "records", "bytes", "resource_logs", "duplicates"), 0)
        self._seen: set[int] = set()
        self._latencies: dict[str, list[float]] = {}

    def answer(self, request: Request) -> Answer:
        """Counts a request of logs, and takes it; or refuses it."""
        if request.signal != "logs":
            return Ok()
        if self.refusing:
            return Status(code=grpc.StatusCode.UNAVAILABLE, details="told to refuse")
        now = time.time_ns()
        parsed = ExportLogsServiceRequest.FromString(request.body)
        with self._lock:
            self._counts["requests"] += 1
            self._counts["bytes"] += len(request.body)
            self._counts["resource_logs"] += len(parsed.resource_logs)
            for resource_logs in parsed.resource_logs:
                for scope_logs in resource_logs.scope_logs:
                    for record in scope_logs.log_records:
                        self._note(record, now)
        return Ok()

    def _note(self, record: LogRecord, now: int) -> None:
        self._counts["records"] += 1
        stream = "alerts" if record.event_name.startswith(ALERT_EVENTS) else "logs"
        self._latencies.setdefault(stream, []).append((now - record.time_unix_nano) / 1e9)
        for attribute in record.attributes:
            if attribute.key == NUMBER_KEY:
                number = attribute.value.int_value
                self._counts["duplicates"] += number in self._seen
                self._seen.add(number)

    def counts(self) -> dict[str, float]:
        with self._lock:
            return {**self._counts, "distinct": len(self._seen)}

    def latency(self) -> dict[str, Any]:
        """Quantiles in seconds, of all and of each stream; there are none before a record has come."""
        with self._lock:
            streams = {stream: sorted(found) for stream, found in self._latencies.items()}
        every = sorted(itertools.chain(*streams.values()))
        return {**quantiles(every), "streams": {stream: quantiles(found) for stream, found in streams.items()}}

    def clear(self) -> dict[str, float]:
        with self._lock:
            self._latencies.clear()
        return {}


def main() -> None:
    tally = Tally()
    with OtlpEndpoint(answers=tally.answer, keep=False, max_request_bytes=64 * MIB) as endpoint:
        print(json.dumps({"grpc": endpoint.grpc_endpoint, "http": endpoint.http_endpoint + "/v1/logs"}), flush=True)
        asked = {"counts": tally.counts, "latency": tally.latency, "clear": tally.clear}
        for line in map(str.strip, sys.stdin):
            if line in asked:
                print(json.dumps(asked[line]()), flush=True)
            else:
                tally.refusing = {"refuse": True, "accept": False}[line]
                print(json.dumps({}), flush=True)


if __name__ == "__main__":
    main()
