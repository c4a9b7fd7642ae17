"""A handful of samples as whole OTLP JSON documents, so that a change of any part of a record is seen in a diff.

`python tests/unit/mapping/test_golden.py` writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otelbridge.event import Gap, GapCause, Stream
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.send.console_sender import to_document
from tests.unit.mapping.samples import mapped, sample

FOLDER = Path(__file__).parent / "golden"
CHOSEN = {
    "policy-block": ("alerts", 16),
    "audited-file": ("alerts", 3),
    "firewall-audit": ("alerts", 15),
    "preset-without-action": ("alerts", 22),
    "dns-query": ("logs", 1),
    "host-file": ("logs", 19),
    "capability": ("constructed", 1),
    "throttled": ("constructed", 5),
    "relayed-connection": ("constructed", 7),
    "agent-message": ("constructed", 14),
    "bad-socket-path": ("odd", 2),
}
GAP = Gap(
    stream=Stream.ALERTS,
    upstream="kubearmor:32767",
    cause=GapCause.DISCONNECT,
    started_unix_nano=1_785_000_000_123_456_789,
    ended_unix_nano=1_785_000_012_623_456_789,
    attempts=3,
    estimated_records=40,
    detail="UNAVAILABLE: Socket closed",
)


def document(name: str) -> str:
    mapper = Mapper(MappingSettings(), version="0.0.0")
    record = mapper.gap(GAP) if name == "gap" else mapped(sample(*CHOSEN[name]))
    return json.dumps(to_document(mapper.assemble([record])), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", [*CHOSEN, "gap"])
def test_the_document_is_the_one_on_file(name: str) -> None:
    assert document(name) == (FOLDER / f"{name}.json").read_text(encoding="utf-8")


if __name__ == "__main__":
    for chosen in (*CHOSEN, "gap"):
        (FOLDER / f"{chosen}.json").write_text(document(chosen), encoding="utf-8")
