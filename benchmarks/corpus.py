"""Makes the generator's input: encoded events of a busy cluster, without the times and process ids that it adds."""

from __future__ import annotations

import hashlib
import itertools
import random
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2
from otelbridge.simulator import generator

STREAM_BYTE = {Stream.ALERTS: b"a", Stream.LOGS: b"l"}
MIXES: dict[str, tuple[Stream, ...]] = {
    "alerts": (Stream.ALERTS,),
    "logs": (Stream.LOGS,),
    "mixed": (Stream.ALERTS, Stream.LOGS),
}
"""`mixed` has the generator's own weights: 6 alerts to 93 logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What is in a corpus; the same one is the same bytes.

    The generator reads it in a circle: it must be larger than any cache in the bridge, for
    paths and arguments to be new.
    """

    mix: str = "alerts"
    events: int = 50_000
    pods: int = 200
    nodes: int = 20
    padding_bytes: int = 0
    """Added to each event's Source, as hexadecimal digits: arguments that nothing compresses well."""
    seed: int = 1
    kinds: int = 0
    """Of a flood; 0 for events of a busy cluster, which are of hundreds of kinds."""


def corpus_file(corpus: Corpus, folder: Path) -> Path:
    """The corpus in a file; made once for the same content and the same simulator."""
    key = hashlib.sha256(repr(asdict(corpus)).encode())
    for module in (generator, generator):
        assert module.__file__ is not None
        key.update(Path(module.__file__).read_bytes())
    key.update(Path(__file__).read_bytes())
    path = folder / f"corpus-{key.hexdigest()[:16]}"
    if not path.exists():
        partial = path.with_suffix(".partial")
        write_corpus(partial, corpus)
        partial.replace(path)
    return path


def mean_event_bytes(path: Path, corpus: Corpus) -> float:
    """Mean size of an event, without what the generator adds (about 45 bytes)."""
    return path.stat().st_size / corpus.events - HEAD.size - 1


HEAD = struct.Struct("<I")


def write_corpus(path: Path, corpus: Corpus) -> None:
    """Each event as the letter of its stream, its length in four bytes, and itself."""
    chance = random.Random(corpus.seed)
    with path.open("wb") as file:
        made = (
            generator.flood(corpus.seed, corpus.kinds, rare_every=corpus.events + 1)
            if corpus.kinds
            else generator.generate(corpus.seed, streams=MIXES[corpus.mix], nodes=corpus.nodes, pods=corpus.pods)
        )
        for stream, message in itertools.islice(made, corpus.events):
            assert not isinstance(message, kubearmor_pb2.Message), "there is none in a mix"
            message.ClearField("UpdatedTime")
            message.ClearField("Timestamp")
            message.ClearField("HostPID")
            if corpus.padding_bytes:
                digits = chance.randbytes((corpus.padding_bytes + 1) // 2).hex()
                message.Source += f" {digits}"[: corpus.padding_bytes]
            body = message.SerializeToString()
            file.write(STREAM_BYTE[stream] + HEAD.pack(len(body)) + body)
