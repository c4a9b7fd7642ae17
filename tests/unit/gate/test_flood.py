"""Floods: the first of a kind pass, the rest is counted, once, into windows that survive a kill."""

from __future__ import annotations

import base64
import random
import struct

import pytest
from google.protobuf.json_format import ParseDict

from otelbridge.event import EventKind, RawEvent, Stream, kind_of
from otelbridge.flood_window import EXAMPLES, HASHES, Distinct, FloodWindow, hash_of
from otelbridge.gate.flood import (
    COUNTS,
    MAX_KINDS,
    MAX_WINDOWS,
    NOTE,
    SKETCH_SECONDS,
    WINDOW_SECONDS,
    Floods,
)
from otelbridge.gate.settings import FloodSettings
from otelbridge.pb import kubearmor_pb2 as pb

CURL = EventKind(Stream.ALERTS, "block-curl", "shop", "web", "Process", "denied")
CAT = CURL._replace(policy="block-cat")
EVENT = RawEvent(Stream.ALERTS, b"event", 1, "relay")


class Turns:
    """Floods, turn by turn."""

    def __init__(self, rate: float = 10, burst: int = 5, *, notes: dict[str, str] | None = None) -> None:
        self.settings = FloodSettings(rate_per_second=rate, burst=burst)
        self.notes = dict(notes or {})
        self.floods = Floods(self.settings, self.notes)

    def passes(self, kind: EventKind, now: float) -> bool:
        self.floods.begin(now)
        return self.floods.passes(self.floods.flow(kind))

    def begin(self, now: float, kinds: dict[EventKind, int], *, first: int = 1_000) -> None:
        """A turn that counts so many events of some kinds, and is not yet in the queue."""
        self.floods.begin(now)
        for kind, events in kinds.items():
            flow = self.floods.flow(kind)
            for number in range(events):
                if not flow.number:
                    self.floods.open(flow, b"sample", first)
                at, resource = first + number, f"/file-{number}"
                self.floods.count(flow, EVENT, at, process="/bin/curl", resource=resource, uid=b"")

    def end(self, *, close_all: bool = False) -> dict[EventKind, int]:
        """The turn is in the queue; returns the events of the windows that were closed."""
        staged = self.floods.stage(close_all=close_all)
        self.notes = {key: note for key, note in (self.notes | staged.notes).items() if note}
        closed = {flow.kind: flow.flood().events for flow in staged.closed}
        self.floods.commit(staged)
        return closed

    def turn(self, now: float, kinds: dict[EventKind, int], *, close_all: bool = False) -> dict[EventKind, int]:
        self.begin(now, kinds)
        return self.end(close_all=close_all)

    def window(self, kind: EventKind) -> FloodWindow:
        return self.floods.windows[kind]


def test_the_kind_of_an_alert_is_policy_workload_operation_and_outcome() -> None:
    alert = pb.Alert(
        PolicyName="block-curl",
        NamespaceName="shop",
        PodName="web-7d4-abc",
        Operation="Process",
        Result="Permission denied",
        ProcessName="/bin/curl",
    )
    alert.Owner.Name = "web"
    assert kind_of(Stream.ALERTS, alert) == CURL
    assert str(CURL) == "alerts/block-curl/shop/web/Process/denied"


@pytest.mark.parametrize(
    ("fields", "workload"),
    [
        ({"PodName": "web-7d4-abc", "HostName": "node-1"}, "web-7d4-abc"),
        ({"HostName": "node-1"}, "node-1"),
        ({}, ""),
        ({"PodName": "x" * 10_000}, "x" * 256),
    ],
)
def test_a_workload_without_an_owner_is_its_pod_or_its_node(fields: dict[str, str], workload: str) -> None:
    assert kind_of(Stream.LOGS, ParseDict(fields, pb.Log())).workload == workload


def test_a_burst_passes_and_then_the_rate() -> None:
    turns = Turns(rate=10, burst=5)
    assert [turns.passes(CURL, 100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [turns.passes(CURL, 100.1), turns.passes(CURL, 100.1)] == [True, False]
    assert [turns.passes(CURL, 200.0) for _ in range(6)] == [True] * 5 + [False], "the burst fills again, and no more"


@pytest.mark.parametrize("now", [0.0, 0.1, 2_901.123_456, 1_234_567.891])
@pytest.mark.parametrize("rate", [0.001, 3, 1_000])
def test_the_whole_burst_passes_at_any_time_of_day(now: float, rate: float) -> None:
    turns = Turns(rate=rate, burst=7)
    assert [turns.passes(CURL, now) for _ in range(8)] == [True] * 7 + [False]
    turns.turn(now, {CURL: 2})
    turns.turn(now, {CURL: 2})
    assert turns.window(CURL).total == 4


def test_another_kind_is_not_touched_by_a_flood() -> None:
    turns = Turns(rate=1, burst=1)
    for _ in range(50_000):
        turns.passes(CURL, 100.0)
    assert turns.passes(CAT, 100.0)


def test_many_kinds_take_no_more_memory_than_is_said() -> None:
    turns = Turns()
    turns.turn(100.0, {CURL: 3})
    for number in range(MAX_KINDS + 100):
        assert turns.passes(CURL._replace(policy=str(number)), 100.0)
    assert MAX_KINDS * 3 // 4 <= len(turns.floods._flows) <= MAX_KINDS, "a quarter at a time"
    assert turns.floods.flow(CURL) is turns.window(CURL), "what is counted is not forgotten"
    assert turns.floods.generation


def test_of_too_many_kinds_those_that_may_burst_again_are_forgotten_first() -> None:
    turns = Turns()
    while turns.passes(CURL, 100.0):
        pass
    for number in range(MAX_KINDS + 1):
        turns.passes(CURL._replace(policy=str(number)), 100.0)
    assert turns.floods.generation == 1
    assert not turns.passes(CURL, 100.0)


def test_events_of_further_kinds_pass_while_as_many_are_counted_as_can_be() -> None:
    turns = Turns(rate=1, burst=1)
    kinds = [CURL._replace(policy=str(number)) for number in range(MAX_WINDOWS)]
    turns.turn(10.0, dict.fromkeys(kinds[:-1], 1))
    assert not all(turns.passes(CAT, 10.0) for _ in range(10)), "there is a place left"
    turns.turn(10.0, {kinds[-1]: 1})
    assert all(turns.passes(CAT, 10.0) for _ in range(10))
    assert not all(turns.passes(kinds[0], 10.0) for _ in range(10))


def test_a_turn_that_is_repeated_counts_once() -> None:
    turns = Turns()
    for _ in range(3):
        turns.begin(10.0, {CURL: 7, CAT: 1})
        turns.floods.stage()
    turns.begin(10.0, {CURL: 7})
    assert turns.end() == {}
    assert list(turns.floods.windows) == [CURL]
    turns.begin(11.0, {CURL: 2}, first=9_000)
    turns.end()
    flood = turns.window(CURL).flood()
    assert (flood.events, flood.started_unix_nano, flood.ended_unix_nano) == (9, 1_000, 9_001)
    assert (flood.processes, flood.resources) == (1, 7)


@pytest.mark.parametrize(("process", "resource"), [("/bin/wget", "/file-0"), ("/bin/curl", "/new")])
def test_a_note_is_written_again_only_where_something_new_was_met(process: str, resource: str) -> None:
    turns = Turns()
    turns.turn(10.0, {CURL: 1})
    key = turns.window(CURL).key
    assert turns.floods.stage().notes.keys() == {NOTE + COUNTS}, "no event since"
    turns.begin(10.0 + SKETCH_SECONDS, {CURL: 1})
    assert key not in turns.floods.stage().notes, "nothing new"
    turns.floods.count(turns.window(CURL), EVENT, 2_000, process=process, resource=resource, uid=b"")
    assert turns.floods.stage().notes[key] == turns.window(CURL).note()


def test_the_next_lifes_windows_have_a_whole_minute_again() -> None:
    before = Turns()
    before.turn(10.0, {CURL: 1})
    floods = Floods(before.settings, before.notes, now=1_000.0)
    floods.begin(1_000.0 + WINDOW_SECONDS - 0.1)
    assert not floods.stage().closed
    floods.begin(1_000.0 + WINDOW_SECONDS)
    assert floods.stage().closed


def test_other_settings_begin_with_a_whole_burst() -> None:
    turns = Turns(burst=1)
    assert [turns.passes(CURL, 10.0), turns.passes(CURL, 10.0)] == [True, False]
    turns.floods.change(FloodSettings(rate_per_second=5, burst=2))
    assert [turns.passes(CURL, 10.0) for _ in range(3)] == [True, True, False]
    assert turns.passes(CURL, 10.2)


def test_the_fast_path_asks_for_the_same_kinds() -> None:
    floods = Turns().floods
    assert floods.meet(Stream.ALERTS, "shop\0web", "block-curl\0Process\0denied") is floods.flow(CURL)
    assert floods.meet(Stream.ALERTS, "\0node", "block-curl\0Process\0denied").kind == CURL._replace(
        namespace="", workload="node"
    )


def test_the_events_of_a_turn_are_kept_by_stream_and_kind_and_the_changed_ones_last() -> None:
    floods, log = Turns().floods, CURL._replace(stream=Stream.LOGS)
    for _ in range(2):  # the second time as a turn that is repeated
        floods.begin(10.0)
        changed = b"was changed"
        for place, (kind, uid) in enumerate(
            [(CURL, b""), (CAT, b""), (log, b""), (CURL, changed), (CURL, b""), (CAT, changed)]
        ):
            flow, event = floods.flow(kind), RawEvent(kind.stream, str(place).encode(), place, "relay")
            if not flow.number:
                floods.open(flow, b"sample", place)
            floods.count(flow, event, place, process="", resource="", uid=uid)
        kept = [(stream, b"".join(event.body for event in events), uids) for stream, events, uids in floods.originals()]
        assert kept == [(Stream.ALERTS, b"04135", {3: changed, 4: changed}), (Stream.LOGS, b"2", {})]
    floods.commit(floods.stage())
    assert not list(floods.originals())


def test_what_is_put_aside_are_the_events_of_the_turn_whether_it_is_repeated_or_follows_another() -> None:
    turns = Turns()
    for kinds in ({CURL: 3, CAT: 1}, {CURL: 2}):
        turns.begin(10.0, kinds)
        assert list(turns.floods.originals()) == [(Stream.ALERTS, [EVENT] * sum(kinds.values()), {})]
    turns.end()
    turns.begin(11.0, {CURL: 1})
    assert list(turns.floods.originals()) == [(Stream.ALERTS, [EVENT], {})]


def test_a_window_closes_after_its_minute_with_all_that_came_until_then() -> None:
    turns = Turns()
    assert not turns.turn(10.0, {CURL: 3})
    assert not turns.turn(10.0 + WINDOW_SECONDS - 0.1, {CURL: 1})
    assert turns.turn(10.0 + WINDOW_SECONDS, {CURL: 1}) == {CURL: 5}
    assert turns.notes == {}
    assert not turns.turn(1_000.0, {})


def test_every_window_closes_at_the_end_and_when_the_limit_is_taken_away() -> None:
    turns = Turns()
    turns.turn(10.0, {CURL: 3, CAT: 2})
    turns.begin(10.0, {})
    assert {flow.kind for flow in turns.floods.stage(close_all=True).closed} == {CURL, CAT}
    turns.floods.change(FloodSettings())
    assert turns.end() == {CURL: 3, CAT: 2}


def test_the_next_life_goes_on_with_each_count() -> None:
    before = Turns()
    before.turn(10.0, {CURL: 1_000, CAT: 1})
    before.turn(10.1, {CURL: 9})
    after = Turns(notes={**before.notes, "flood:a": "", "flood:b": "{}", "flood:c": "[]", "flood:d": "no JSON"})
    assert len(after.floods.windows) == 2
    was, now = before.window(CURL).flood(), after.window(CURL).flood()
    assert (was.events, now.events) == (1_009, 1_009)
    assert now == was
    assert after.turn(10.0, {CURL: 1, CAT: 1}, close_all=True) == {CURL: 1_010, CAT: 2}
    after.turn(20.0, {CURL: 1})
    assert after.window(CURL).number > 2


def test_kinds_whose_names_read_alike_are_written_down_apart() -> None:
    slash, other = CURL._replace(policy="a/b", namespace="c"), CURL._replace(policy="a", namespace="b/c")
    assert str(slash) == str(other)
    before = Turns()
    before.turn(10.0, {slash: 2, other: 3})
    after = Turns(notes=before.notes)
    assert after.turn(10.0, {}, close_all=True) == {slash: 2, other: 3}
    assert not after.notes


def test_a_note_that_an_earlier_version_named_by_its_kind_goes_with_its_window() -> None:
    hashes = base64.b64encode(struct.pack(">2Q", 5, 7)).decode()
    note = f'[[["alerts","p","n","w","File","denied"],"c2FtcGxl"],[4,2,10,20],["{hashes}",["/bin/sh"]],["",[]]]'
    turns = Turns(notes={"flood:alerts/p/n/w/File/denied": note, NOTE + COUNTS: "[[4, 9, 10, 30]]"})
    flood = turns.window(EventKind(Stream.ALERTS, "p", "n", "w", "File", "denied")).flood()
    assert (flood.events, flood.ended_unix_nano, flood.processes, flood.process_examples) == (9, 30, 2, ("/bin/sh",))
    turns.turn(10.0, {}, close_all=True)
    assert not turns.notes


@pytest.mark.parametrize("counts", ["[1,Infinity,1,1]", "[1,1,-1,1]", "[1,1,1,1e40]", "[NaN,1,1,1]"])
def test_numbers_that_no_window_has_are_not_read(counts: str) -> None:
    kind = '[["alerts","p","n","w","File","denied"],""]'
    notes = {f"{NOTE}1": f'[{kind},{counts},["",[]],["",[]]]', f"{NOTE}2": "[" * 100_000, NOTE + COUNTS: f"[{counts}]"}
    assert not any(flow.first < 0 for flow in Turns(notes=notes).floods.windows.values())
    assert Turns(notes=notes).turn(10.0, {CURL: 1}, close_all=True)[CURL] == 1


@pytest.mark.parametrize("counts", ["", "{}", "[[]]", "[[1]]", "nonsense"])
def test_where_the_counts_are_damaged_those_of_the_windows_opening_stand(counts: str) -> None:
    before = Turns()
    before.turn(10.0, {CURL: 2})
    before.turn(10.1, {CURL: 5})
    assert Turns(notes={**before.notes, NOTE + COUNTS: counts}).window(CURL).total == 2


def test_what_was_met_is_written_down_now_and_then_and_counts_each_time() -> None:
    turns = Turns()
    turns.turn(10.0, {CURL: 1})
    note = turns.notes[turns.window(CURL).key]
    turns.turn(10.1, {CURL: 100})
    assert turns.notes[turns.window(CURL).key] == note
    assert Turns(notes=turns.notes).window(CURL).total == 101
    turns.turn(10.0 + SKETCH_SECONDS, {CURL: 1})
    assert Turns(notes=turns.notes).window(CURL).resources.estimate() == 100
    assert max(map(len, turns.notes.values())) < 4_096


def test_distinct_texts_are_counted_exactly_while_few_and_estimated_when_many() -> None:
    few = Distinct()
    for number in range(HASHES - 1):
        few.add(f"/tmp/{number}")
        few.add(f"/tmp/{number // 2}")
    few.add("")
    assert few.estimate() == HASHES - 1
    assert few.examples == [f"/tmp/{number}" for number in range(EXAMPLES)]
    errors = []
    for seed in range(12):
        random_texts = random.Random(seed)
        many = Distinct()
        for _ in range(20_000):
            many.add(f"{seed}/{random_texts.randrange(5_000)}")
        errors.append(many.estimate() / 4_909 - 1)  # 5,000 * (1 - exp(-4))
    assert abs(sum(errors) / len(errors)) < 0.05
    assert max(map(abs, errors)) < 0.4


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"", 0),
        (b"a", 0x27D1_3417_8074_A30C),
        (b"/bin/sh", 0xAD76_7D0E_378D_A23D),
        (b"12345678", 0x7C40_B73A_5CA3_313E),
        (b"/usr/bin/curl", 0xC59D_0C57_7788_91CC),
        ("ä/ü ".encode() * 40, 0x9679_EB2A_5BE9_61C1),
    ],
)
def test_a_text_has_the_hash_that_earlier_lives_have_written_down(text: bytes, number: int) -> None:
    assert hash_of(text) == number


def test_the_estimate_goes_by_the_largest_of_the_smallest_hashes() -> None:
    read = Distinct(number << 56 for number in range(HASHES))
    assert read.estimate() == 256
    assert read.is_new(1)
    assert read.estimate() == round((HASHES - 1) * (1 << 64) / ((HASHES - 2) << 56))
    assert Distinct(range(1)).estimate() == 1
    assert Distinct(range(HASHES - 1)).estimate() == HASHES - 1


@pytest.mark.parametrize("seed", range(5))
def test_of_many_distinct_texts_the_smallest_hashes_are_kept_in_their_order(seed: int) -> None:
    texts = random.Random(seed).choices([str(number) for number in range(600)], k=800)
    many = Distinct()
    for text in texts:
        many.add(text)
    smallest = sorted({hash_of(text.encode()) for text in texts})[:HASHES]
    assert many.known() == smallest
    assert not any(map(many.is_new, smallest))
    assert not many.is_new(smallest[-1] + 1)
    assert many.is_new(smallest[0] - 1)


def test_a_text_that_is_no_unicode_is_counted_too() -> None:
    odd = Distinct()
    odd.add("\udcff")
    assert odd.estimate() == 1
    assert odd.written()[1] == ["\udcff"]
