from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WAIT_FOR_A_MESSAGE = """
import socket, sys, threading, time
from contextlib import suppress
from pathlib import Path
import grpc
from grpc.experimental import ChannelOptions
from otelbridge.cli.process import let_reads_sleep
if sys.argv[1] == "sleep":
    let_reads_sleep()
silent = socket.create_server(("127.0.0.1", 0))
lean = ((ChannelOptions.SingleThreadedUnaryStream, 1),)
channel = grpc.insecure_channel(f"127.0.0.1:{silent.getsockname()[1]}", lean)
call = channel.unary_stream("/a/b")(b"")
def read():
    with suppress(grpc.RpcError):
        next(call)
reader = threading.Thread(target=read, daemon=True)
reader.start()
def woken():
    status = Path(f"/proc/self/task/{reader.native_id}/status").read_text()
    return int(status.split("voluntary_ctxt_switches:")[1].split()[0])
time.sleep(0.3)
before = woken()
time.sleep(1.5)
print(woken() - before)
sys.stdout.flush()
channel.close()
reader.join(10)
sys.exit(reader.is_alive())
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts by Linux's /proc")
def test_a_blocked_read_is_woken_by_what_it_waits_for_only() -> None:
    woken = {
        how: int(subprocess.check_output([sys.executable, "-c", WAIT_FOR_A_MESSAGE, how], text=True))
        for how in ("sleep", "leave")
    }
    assert woken["leave"] > 3, "what is spared would not happen anyway"
    assert woken["sleep"] <= 1
