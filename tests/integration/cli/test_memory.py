from __future__ import annotations

import ctypes
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from otelbridge.cli.process import HEAPS
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import running_bridge

HEAP_BYTES = 64 * 1024 * 1024

TAKE_IN_A_BACKLOG = """
import gc, sys
import otelbridge.bridge
from otelbridge.cli.process import spare_what_stays
from otelbridge.event import RawEvent, Stream
if sys.argv[1] == "spare":
    spare_what_stays()
before = gc.get_stats()[2]["collections"]
backlog = [RawEvent(Stream.ALERTS, bytes(100), number, "") for number in range(300_000)]
print(gc.get_stats()[2]["collections"] - before)
"""

ALLOCATE_ON_EIGHT_THREADS = """
import ctypes, sys, threading
from otelbridge.cli.process import limit_heaps
if sys.argv[1] == "limit":
    limit_heaps()
allocated, told = threading.Barrier(9), threading.Event()
def allocate():
    kept = [bytes(2_000) for _ in range(100)]
    allocated.wait()
    told.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
allocated.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
told.set()
"""


def run(program: str, *arguments: str) -> str:
    argv = [sys.executable, "-c", program, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_no_full_round_of_the_garbage_collector_falls_into_a_backlog_that_grows() -> None:
    assert int(run(TAKE_IN_A_BACKLOG, "spare")) == 0
    assert int(run(TAKE_IN_A_BACKLOG, "leave")) > 0, "what is spared would not happen anyway"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc has, and tells of, such heaps")
def test_many_threads_share_few_heaps(tmp_path: Path) -> None:
    found = {}
    for how in ("limit", "leave"):
        told = tmp_path / how
        run(ALLOCATE_ON_EIGHT_THREADS, how, str(told))
        found[how] = told.read_text(encoding="utf-8").count("<heap nr=")
    assert found["limit"] <= HEAPS < found["leave"]


def thread_heaps(maps: str) -> int:
    """Heaps beside the main one: glibc takes 64 MiB of addresses for each, aligned, and uses the beginning."""
    regions = []
    for line in maps.splitlines():
        span, access, *_ = line.split()
        start, end = (int(address, 16) for address in span.split("-"))
        regions.append((start, end, access))
    return sum(
        start % HEAP_BYTES == 0 and access == "rw-p" and rest == "---p" and end == middle and last == start + HEAP_BYTES
        for (start, end, access), (middle, last, rest) in pairwise(regions)
    )


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc has such heaps")
def test_a_running_bridge_has_few_heaps_for_its_many_threads(tmp_path: Path) -> None:
    with (
        Relay() as relay,
        running_bridge(tmp_path, feed={"endpoints": [relay.endpoint]}) as bridge,
    ):
        bridge.wait_until_watching()
        process = Path(f"/proc/{bridge.process.pid}")
        assert len(list((process / "task").iterdir())) > 4 * HEAPS
        assert thread_heaps((process / "maps").read_text(encoding="utf-8")) == HEAPS - 1
