"""Makes the generator's input: encoded events of a busy cluster, without the times and process ids that it adds."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.simulator.generator import generate

STREAM_BYTE = {Stream.ALERTS: b"a", Stream.LOGS: b"l"}
MIXES: dict[str, tuple[Stream, ...]] = {
    "alerts": (Stream.ALERTS,),
    "logs": (Stream.LOGS,),
    "mixed": (Stream.ALERTS, Stream.LOGS),
}


def write_corpus(path: Path, *, mix: str, events: int, pods: int = 200, nodes: int = 20, seed: int = 1) -> float:
    """Writes a corpus; returns the mean size of an event in bytes.

    The file is read in a circle: it must be larger than any cache in the bridge, for paths and arguments to be new.
    """
    total = 0
    with path.open("wb") as file:
        made = generate(seed, streams=MIXES[mix], nodes=nodes, pods=pods)
        for stream, message in itertools.islice(made, events):
            message.ClearField("UpdatedTime")
            message.ClearField("Timestamp")
            message.ClearField("HostPID")  # type: ignore[arg-type]  # a Message has none, and there is none in a mix
            body = message.SerializeToString()
            file.write(STREAM_BYTE[stream] + struct.pack("<I", len(body)) + body)
            total += len(body)
    return total / events
