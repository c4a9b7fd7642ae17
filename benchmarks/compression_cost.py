"""What compressing requests costs and saves: zlib's levels, parts of several sizes, then whole exports over each way.

CPU time of this process (all threads, the C core's too); the endpoint that takes the requests is another process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.queue import packing
from otelbridge.queue.model import Accepted
from otelbridge.queue.packing import gzip_member, joined, packed, request_bytes, unpacked
from otelbridge.send import grpc_sender
from otelbridge.send.grpc_sender import TESTED
from otelbridge.send.sender import Sender, open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.setting import section_from
from otelbridge.simulator.events import stamp_time
from otelbridge.simulator.generator import generate

SIZES = (1, 4, 16, 64, 400)
"""Records per batch: from one that was alone to one that is closed for its size."""
INSTALLED = packing.encoder, packing.LEVEL
ENCODERS = [(zlib, level) for level in (1, 2, 3, 6)] + [(packing.encoder, level) for level in (0, 1, 2, 3)]
REQUEST_RECORDS = 512
"""Of one export."""
BY_GRPC = "gRPC, gzip by grpc"
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
    program = str(Path(sys.executable).with_name("otelbridge"))
    command = [program, "simulate", "endpoint", "--grpc-port", "0", "--http-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.communicate()


def each(work: Callable[[bytes], bytes], requests: list[bytes]) -> None:
    for request in requests:
        work(request)


def together(held: list[bytes]) -> bytes:
    return gzip_member(joined(held))


def encoders(rounds: int) -> None:
    print("| records | bytes a record | encoder | ratio | µs a record | to unpack |\n|---|---|---|---|---|---|")
    for records, (packing.encoder, packing.LEVEL) in itertools.product(SIZES, ENCODERS):
        requests = [request_of(records, seed=seed) for seed in range(max(1, 32 // records))]
        held = [packed(request) for request in requests]
        size, number = sum(map(len, requests)), records * len(requests)
        to_pack = cpu_seconds(partial(each, packed, requests), rounds=rounds)
        to_unpack = cpu_seconds(partial(each, unpacked, held), rounds=rounds)
        encoder = f"{packing.encoder.__name__.rpartition('.')[2]} {packing.LEVEL}"
        print(f"| {records} | {size // number} | {encoder} | {size / sum(map(len, held)):.1f} "
              f"| {to_pack / number * 1e6:.1f} | {to_unpack / number * 1e6:.1f} |")  # fmt: skip
    packing.encoder, packing.LEVEL = INSTALLED


def parts(rounds: int) -> None:
    print("| records in a part | ratio of a request of 512 | joined, µs a record |\n|---|---|---|")
    for records in SIZES:
        held = [packed(request_of(records, seed=seed)) for seed in range(REQUEST_RECORDS // records)]
        number = records * len(held)
        whole = joined(held)
        ratio = request_bytes(whole) / len(together(held))
        seconds = cpu_seconds(partial(together, held), rounds=rounds)
        print(f"| {records} | {ratio:.1f} | {seconds / number * 1e6:.2f} |")


def send(sender: Sender, request: bytes, *, records: int, repeats: int) -> None:
    for _ in range(repeats):
        assert sender.send(request, records=records) == Accepted()


def exports(rounds: int) -> None:
    plain = request_of(REQUEST_RECORDS, seed=1)
    held = packed(plain)
    ways = [
        ("gRPC, none", "grpc", "none", plain),
        ("gRPC, gzip, packed before", "grpc", "gzip", held),
        (BY_GRPC, "grpc", "gzip", held),
        ("HTTP, none", "http/protobuf", "none", plain),
        ("HTTP, gzip, packed before", "http/protobuf", "gzip", held),
    ]
    print("| one export of 512 records | µs a record |\n|---|---|")
    with endpoint() as listening:
        for name, protocol, compression, request in ways:
            grpc_sender.TESTED = () if name == BY_GRPC else TESTED
            url = listening["grpc"] if protocol == "grpc" else listening["http"] + "/v1/logs"
            settings = section_from(SendSettings, {"protocol": protocol, "endpoint": url, "compression": compression})
            sender = open_sender(settings, version="bench")
            work = partial(send, sender, request, records=REQUEST_RECORDS, repeats=5)
            work()
            seconds = cpu_seconds(work, rounds=rounds) / 5
            sender.close()
            print(f"| {name} | {seconds / REQUEST_RECORDS * 1e6:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    encoders(asked.rounds)
    parts(asked.rounds)
    exports(asked.rounds)


if __name__ == "__main__":
    main()
