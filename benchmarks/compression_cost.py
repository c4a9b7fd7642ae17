"""What compressing requests costs and saves: zlib's levels alone, then whole exports over gRPC and HTTP.

CPU time of this process (all threads, the C core's too); the endpoint that takes the requests is another process.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.queue.outcome import Accepted
from otelbridge.send import http_sender
from otelbridge.send.sender import Sender, open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.simulator.event_stamp import stamp_time
from otelbridge.simulator.generator import generate

SIZES = (16, 512, 1500)
"""Records per request: light load, busy, and twice the default limit."""
LEVELS = (1, 2, 3, 4, 5, 6, 9)
RECEIVED = 1_790_000_000_123_456_789


def request_of(records: int, *, seed: int) -> bytes:
    """A realistic request: the simulator's busy cluster, through the real mapping."""
    mapper = Mapper(MappingSettings(), version="bench")
    mapped = []
    for number, (stream, message) in enumerate(itertools.islice(generate(seed), records)):
        moment = RECEIVED + number * 1_000_000
        stamp_time(message, moment)
        mapped.append(mapper.map(stream, decode(stream, message.SerializeToString()), moment))
    return mapper.assemble(mapped)


def cpu_seconds(work: Callable[[], object], *, rounds: int) -> float:
    """CPU time of one call, the best of several."""

    def once() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return min(once() for _ in range(rounds))


@contextmanager
def endpoint() -> Iterator[dict[str, str]]:
    """A counting OTLP endpoint in a process of its own; its addresses."""
    command = [sys.executable, "-m", "otelbridge.simulator.endpoint_serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.communicate()


def levels(rounds: int) -> None:
    print("| records | bytes a record | level | ratio | µs a record |\n|---|---|---|---|---|")
    for records in SIZES:
        request = request_of(records, seed=1)
        for level in LEVELS:
            packed = len(gzip.compress(request, level))
            seconds = cpu_seconds(partial(gzip.compress, request, level), rounds=rounds)
            print(f"| {records} | {len(request) // records} | {level} | {len(request) / packed:.1f} "
                  f"| {seconds / records * 1e6:.2f} |")  # fmt: skip


def send(sender: Sender, request: bytes, *, records: int, repeats: int) -> None:
    for _ in range(repeats):
        assert sender.send(request, records=records) == Accepted()


def exports(rounds: int) -> None:
    print("| records | way | compression | µs a record |\n|---|---|---|---|")
    ways = [("grpc", "none", 0), ("grpc", "gzip", 6), ("http/protobuf", "none", 0), ("http/protobuf", "gzip", 1)]
    ways.append(("http/protobuf", "gzip", 6))
    with endpoint() as listening:
        for records, (protocol, compression, level) in itertools.product(SIZES, ways):
            request = request_of(records, seed=1)
            http_sender.GZIP_LEVEL = level  # what is compared
            url = listening["grpc"] if protocol == "grpc" else listening["http"] + "/v1/logs"
            settings = SendSettings.model_validate({"protocol": protocol, "endpoint": url, "compression": compression})
            sender = open_sender(settings, version="bench")
            repeats = max(1, 3000 // records)

            work = partial(send, sender, request, records=records, repeats=repeats)
            work()
            seconds = cpu_seconds(work, rounds=rounds) / repeats
            sender.close()
            print(f"| {records} | {protocol} | {compression} {level or ''} | {seconds / records * 1e6:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    levels(asked.rounds)
    exports(asked.rounds)


if __name__ == "__main__":
    main()
