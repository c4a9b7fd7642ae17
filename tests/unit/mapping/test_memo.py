from __future__ import annotations

import tracemalloc
from typing import NamedTuple

import pytest

from otelbridge.event import RawEvent, Stream
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import GateSettings
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.model import MAX_ALERT_SERIES, MAX_NODES, ROOM_FOR_ALL, MappingCounts, Memo
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pipeline import EventEncoder
from tests.unit.mapping.samples import RECEIVED, alert, log, see


class Answer(NamedTuple):
    text: str
    weight: int = 10


class Counting:
    def __init__(self, weight: int = 10) -> None:
        self.asked: list[str] = []
        self._weight = weight

    def __call__(self, key: str) -> Answer:
        self.asked.append(key)
        return Answer(key.upper(), self._weight)


def ask(memo: Memo[str, Answer], key: str) -> str:
    return (memo.recall(key) or memo.learn(key)).text


def test_what_was_learnt_is_recalled() -> None:
    make = Counting()
    memo = Memo[str, Answer](make, max_entries=4, max_bytes=1000)
    assert [ask(memo, key) for key in "ababab"] == list("ABABAB")
    assert make.asked == ["a", "b", "a", "b"], "the second time it is kept"


def test_what_never_comes_again_fills_nothing() -> None:
    memo = Memo[int, Answer](lambda key: Answer(str(key)), max_entries=100, max_bytes=10**9)
    for _ in range(2):
        memo.learn(-1)
    for key in range(10_000):
        memo.learn(key)
    assert len(memo) == 1 + 100 // ROOM_FOR_ALL - 1
    assert memo.recall(-1) is not None


def test_what_is_asked_for_survives_a_generation_and_the_rest_is_forgotten() -> None:
    make = Counting()
    memo = Memo[str, Answer](make, max_entries=2, max_bytes=1000)
    for key in "aabbccadd":
        ask(memo, key)
    assert make.asked == list("aabbccdd"), "a moved back to the young"
    assert len(memo) <= 4
    for key in "eeffgghh":
        ask(memo, key)
    ask(memo, "b")
    assert make.asked[-1] == "b"


def test_entries_and_bytes_are_bounded() -> None:
    few = Memo[str, Answer](Counting(), max_entries=8, max_bytes=10**9)
    heavy = Memo[str, Answer](Counting(weight=400), max_entries=10**6, max_bytes=1000)
    for number in range(1000):
        for _ in range(2):
            ask(few, str(number))
            ask(heavy, str(number))
    assert len(few) <= 16
    assert len(heavy) <= 4


def test_what_weighs_nothing_is_not_kept() -> None:
    make = Counting(weight=0)
    memo = Memo[str, Answer](make, max_entries=8, max_bytes=1000)
    assert [ask(memo, "a"), ask(memo, "a")] == ["A", "A"]
    assert make.asked == ["a", "a"]
    assert len(memo) == 0


def test_remembered_and_fresh_answers_are_the_same() -> None:
    old = Mapper(MappingSettings(), version="1")
    for number in range(300):
        message = log(PodName=f"p{number % 7}", HostPID=number + 1, Resource=f"/f/{number}")
        decoded = decode(Stream.LOGS, message.SerializeToString())
        fresh = Mapper(MappingSettings(), version="1").map(Stream.LOGS, decoded, RECEIVED)
        assert see(old.map(Stream.LOGS, decoded, RECEIVED)) == see(fresh)


def test_alerts_are_counted_by_kind() -> None:
    mapper = Mapper(MappingSettings(), version="1")
    for message in (alert(), alert(HostPID=9), alert(Action="Audit", Result="Passed"), alert(Action="<script>")):
        mapper.map(Stream.ALERTS, decode(Stream.ALERTS, message.SerializeToString()), RECEIVED)
    mapper.map(Stream.LOGS, decode(Stream.LOGS, log().SerializeToString()), RECEIVED)
    assert mapper.alert_counts() == {
        ("shop", "process", "Block", "denied", "no-apt"): 2,
        ("shop", "process", "Audit", "allowed", "no-apt"): 1,
        ("shop", "process", "other", "denied", "no-apt"): 1,
    }


def test_kinds_of_alerts_are_bounded_and_none_is_left_out() -> None:
    tally = MappingCounts()
    for number in range(MAX_ALERT_SERIES + 500):
        tally.count_alert(f"ns{number}", ("file", "Block", "denied", f"p{number}"))
    series = [count for counts in tally.alerts.values() for count in counts.values()]
    assert len(series) <= MAX_ALERT_SERIES + 100
    assert sum(series) == MAX_ALERT_SERIES + 500
    assert tally.alerts["file", "Block", "denied", "other"]["other"] == 500


def test_namespaces_of_alerts_are_bounded_too() -> None:
    tally = MappingCounts()
    for number in range(MAX_ALERT_SERIES + 500):
        tally.count_alert(f"ns{number}", ("file", "Block", "denied", "p"))
    assert len(tally.alerts["file", "Block", "denied", "p"]) == MAX_ALERT_SERIES
    assert tally.alerts["file", "Block", "denied", "other"] == {"other": 500}


def test_nodes_are_noted_with_the_time_of_receipt() -> None:
    mapper = Mapper(MappingSettings(), version="1")
    for node, received in (("a", 5), ("b", 6), ("a", 9), ("", 7)):
        mapper.map(Stream.LOGS, decode(Stream.LOGS, log(HostName=node).SerializeToString()), received)
    assert mapper.take_nodes() == {"a": 9, "b": 6}
    assert mapper.take_nodes() == {}, "each is taken once"


def test_of_too_many_nodes_the_one_silent_longest_is_forgotten() -> None:
    tally = MappingCounts()
    for number in range(MAX_NODES):
        tally.nodes[tally.admit_node(f"n{number}")] = number + 10
    tally.nodes["n0"] = 10**6
    tally.nodes[tally.admit_node("new")] = 10**6
    assert len(tally.nodes) == MAX_NODES
    assert {"n0", "new"} <= set(tally.nodes)
    assert "n1" not in tally.nodes


def new_in_everything(number: int) -> bytes:
    """An event that shares no workload, no policy and no process with any other."""
    return alert(
        Timestamp=1_785_000_000, HostName=f"node-{number}", NamespaceName=f"ns-{number}", PodName=f"pod-{number}",
        ContainerID=f"{number:064x}", ContainerImage=f"image-{number}:1@sha256:{number:064x}", Labels=f"a={number}",
        PolicyName=f"policy-{number}", Message=f"words {number}", Source=f"/bin/{number}", ProcessName=f"/bin/{number}",
        ParentProcessName=f"/sbin/{number}", Resource=f"/etc/{number}", Data=f"syscall=SYS_OPENAT fd={number}",
    ).SerializeToString()  # fmt: skip


@pytest.mark.parametrize("native", [True, False])
def test_a_flood_of_events_in_which_everything_is_new_takes_little_memory(native: bool) -> None:
    walk = EventEncoder(Gate(GateSettings()), Mapper(MappingSettings(native=native), version="1"))
    bodies = [new_in_everything(number) for number in range(6_000)]
    tracemalloc.start()
    for body in bodies:
        walk.encode(RawEvent(Stream.ALERTS, body, RECEIVED, "u"))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 12 << 20
