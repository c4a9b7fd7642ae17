from __future__ import annotations

import tracemalloc
from typing import Any, NamedTuple

import pytest

from otelbridge.event import RawEvent, Stream
from otelbridge.gate.rules import Gate
from otelbridge.gate.settings import GateSettings
from otelbridge.mapping.decode import decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.model import MAX_ALERT_SERIES, MAX_NODES, ROOM_FOR_ALL, AlertCount, MappingCounts, Memo
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
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
    few = Memo[str, Answer](Counting(), max_entries=400, max_bytes=10**9)
    heavy = Memo[str, Answer](Counting(weight=400), max_entries=10**6, max_bytes=1000)
    for number in range(1000):
        for _ in range(2):
            ask(few, str(number))
            ask(heavy, str(number))
    assert len(few) <= 800
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


def counted(*alerts: pb.Alert, alerts_by_policy: bool = True, native: bool = True) -> list[AlertCount]:
    """What is counted of these alerts, mapped as a bridge maps them."""
    tally = MappingCounts(alerts_by_policy=alerts_by_policy)
    walk = EventEncoder(Gate(GateSettings()), Mapper(MappingSettings(native=native), version="1", tally=tally))
    for message in alerts:
        walk.encode(RawEvent(Stream.ALERTS, message.SerializeToString(), RECEIVED, "u"))
    return tally.alert_counts()


@pytest.mark.parametrize("native", [True, False])
def test_alerts_are_counted_by_kind_and_workload(native: bool) -> None:
    owner = pb.Podowner(Ref="Deployment", Name="cart")
    differences: tuple[dict[str, Any], ...] = (
        {},
        {"HostPID": 9},
        {"PodName": "cart-2"},
        {"Action": "Audit", "Result": "Passed"},
        {"Action": "<script>"},
        {"Operation": "Capabilities"},
        {"Operation": "<script>"},
    )
    cart = ("shop", "cart")
    assert counted(*(alert(Owner=owner, **one) for one in differences), native=native) == [
        AlertCount(cart, ("process", "Block", "denied", "no-apt"), 3),
        AlertCount(cart, ("process", "Audit", "allowed", "no-apt"), 1),
        AlertCount(cart, ("process", "other", "denied", "no-apt"), 1),
        AlertCount(cart, ("capabilities", "Block", "denied", "no-apt"), 1),
        AlertCount(cart, ("other", "Block", "denied", "no-apt"), 1),
    ]


def test_policies_are_told_apart_where_that_is_asked_for_only() -> None:
    alerts = (alert(PolicyName="one"), alert(PolicyName="two"))
    assert [one.kind[3] for one in counted(*alerts)] == ["one", "two"]
    assert [(one.kind[3], one.alerts) for one in counted(*alerts, alerts_by_policy=False)] == [("", 2)]


@pytest.mark.parametrize(
    ("message", "workload"),
    [
        (alert(Owner=pb.Podowner(Ref="Deployment", Name="cart")), ("shop", "cart")),
        (alert(Owner=pb.Podowner(Ref="Rollout", Name="cart")), ("shop", "cart")),
        (alert(PodName="cart-0", Owner=pb.Podowner(Ref="Pod", Name="cart-0")), ("shop", "cart-0")),
        (alert(PodName="cart-0"), ("shop", "cart-0")),
        (alert(PodName="", ContainerName="cart"), ("shop", "cart")),
        (alert(NamespaceName="", PodName="", ContainerName=""), ("", "")),
    ],
)
def test_a_workload_is_the_controller_else_the_pod_else_the_container(
    message: pb.Alert, workload: tuple[str, str]
) -> None:
    (count,) = counted(message)
    assert count.workload == workload


@pytest.mark.parametrize("many", ["workloads", "policies", "both"])
def test_series_of_alerts_are_bounded_and_no_alert_is_left_out(many: str) -> None:
    tally = MappingCounts(alerts_by_policy=True)
    for number in range(MAX_ALERT_SERIES + 500):
        workload = "cart" if many == "policies" else f"cart-{number}"
        policy = "p" if many == "workloads" else f"p{number}"
        tally.count_alert(("shop", workload), ("file", "Block", "denied", policy))
    tally.count_alert(("shop", "new"), ("file", "Audit", "allowed", "p"))
    counts = tally.alert_counts()
    assert len(counts) == MAX_ALERT_SERIES + 2
    assert counts[-2:] == [
        AlertCount(None, ("file", "Block", "denied", ""), 500),
        AlertCount(None, ("file", "Audit", "allowed", ""), 1),
    ]
    assert sum(one.alerts for one in counts) == MAX_ALERT_SERIES + 501
    tally.count_alert(
        ("shop", "cart" if many == "policies" else "cart-7"),
        ("file", "Block", "denied", "p" if many == "workloads" else "p7"),
    )
    assert tally.alert_counts()[7].alerts == 2


def test_what_is_remembered_of_kinds_is_bounded_too() -> None:
    tally = MappingCounts(alerts_by_policy=True)
    for number in range(MAX_ALERT_SERIES * 2):
        tally.counts(("file", "Block", "denied", f"p{number}"))
    assert len(tally.alerts) == MAX_ALERT_SERIES
    tally.count_alert(("shop", "cart"), ("file", "Block", "denied", "one more"))
    assert tally.alert_counts() == [AlertCount(None, ("file", "Block", "denied", ""), 1)]


def test_nodes_are_noted_with_the_time_of_receipt() -> None:
    mapper = Mapper(MappingSettings(), version="1")
    for node, received in (("a", 5), ("b", 6), ("a", 9), ("", 7)):
        mapper.map(Stream.LOGS, decode(Stream.LOGS, log(HostName=node).SerializeToString()), received)
    assert mapper.tally.take_nodes() == {"a": 9, "b": 6}
    assert mapper.tally.take_nodes() == {}, "each is taken once"


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
