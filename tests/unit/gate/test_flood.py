"""Floods: the first of a kind pass, the rest is counted, once, into windows that survive a kill."""

from __future__ import annotations

import random

import pytest
from google.protobuf.json_format import ParseDict

from otelbridge.event import Stream
from otelbridge.gate.flood import (
    EXAMPLES,
    HASHES,
    MAX_KINDS,
    MAX_WINDOWS,
    NOTE,
    WINDOW_SECONDS,
    Distinct,
    Floods,
    Kind,
    Staged,
    Window,
    kind_of,
    read_note,
)
from otelbridge.gate.settings import FloodSettings
from otelbridge.pb import kubearmor_pb2 as pb

CURL = Kind(Stream.ALERTS, "block-curl", "shop", "web", "Process", "denied")
CAT = CURL._replace(policy="block-cat")


def window(count: int = 1, *, process: str = "/bin/curl", first: int = 1_000) -> Window:
    made = Window(b"sample")
    for number in range(count):
        made.add(first + number, process, f"/file-{number}")
    return made


def floods(rate: float = 10, burst: int = 5, *, notes: tuple[str, ...] = ()) -> Floods:
    return Floods(FloodSettings(rate_per_second=rate, burst=burst), notes)


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
    gate = floods(rate=10, burst=5)
    assert [gate.passes(CURL, 100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [gate.passes(CURL, 100.1), gate.passes(CURL, 100.1)] == [True, False]
    assert [gate.passes(CURL, 200.0) for _ in range(6)] == [True] * 5 + [False], "the burst fills again, and no more"


def test_a_burst_is_as_long_right_after_the_machine_has_started() -> None:
    gate = floods(rate=0.1, burst=5)
    assert [gate.passes(CURL, 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert not gate.passes(CURL, 1.0)


def test_another_kind_is_not_touched_by_a_flood() -> None:
    gate = floods(rate=1, burst=1)
    for _ in range(50_000):
        gate.passes(CURL, 100.0)
    assert gate.passes(CAT, 100.0)


def test_a_clock_that_stands_still_or_many_kinds_take_no_more_memory_than_is_said() -> None:
    gate = floods()
    for number in range(MAX_KINDS + 100):
        assert gate.passes(CURL._replace(policy=str(number)), 100.0)
    assert len(gate._passing) == MAX_KINDS


def test_events_of_further_kinds_pass_while_as_many_are_counted_as_can_be() -> None:
    gate = floods(rate=1, burst=1)
    kinds = [CURL._replace(policy=str(number)) for number in range(MAX_WINDOWS)]
    gate.commit(gate.stage({kind: window() for kind in kinds[:-1]}, 10.0), 10.0)
    assert not all(gate.passes(CAT, 10.0) for _ in range(10)), "there is a place left"
    gate.commit(gate.stage({kinds[-1]: window()}, 10.0), 10.0)
    assert all(gate.passes(CAT, 10.0) for _ in range(10))
    assert not all(gate.passes(kinds[0], 10.0) for _ in range(10))


def test_what_was_staged_counts_only_once_committed() -> None:
    gate = floods()
    for _ in range(3):  # a turn that is repeated
        staged = gate.stage({CURL: window(7)}, 10.0)
        assert staged.open[CURL].count == 7
    gate.commit(staged, 10.0)
    staged = gate.stage({CURL: window(2, first=9_000)}, 11.0)
    gate.commit(staged, 11.0)
    closed = gate.stage({}, 10.0 + WINDOW_SECONDS).closed[CURL]
    assert (closed.count, closed.first_unix_nano, closed.last_unix_nano) == (9, 1_000, 9_001)
    assert (closed.processes.estimate(), closed.resources.estimate()) == (1, 7)


def test_a_window_closes_after_its_minute_with_all_that_came_until_then() -> None:
    gate = floods()
    gate.commit(gate.stage({CURL: window(3)}, 10.0), 10.0)
    assert not gate.stage({CURL: window(1)}, 10.0 + WINDOW_SECONDS - 0.1).closed
    staged = gate.stage({CURL: window(1)}, 10.0 + WINDOW_SECONDS)
    assert (staged.open, staged.closed[CURL].count) == ({}, 4)
    gate.commit(staged, 10.0 + WINDOW_SECONDS)
    assert len(gate.windows) == 0
    assert not gate.stage({}, 1_000.0).closed


def test_every_window_closes_at_the_end_and_when_the_limit_is_taken_away() -> None:
    gate = floods()
    gate.commit(gate.stage({CURL: window(3), CAT: window(2)}, 10.0), 10.0)
    assert set(gate.stage({}, 10.0, close_all=True).closed) == {CURL, CAT}
    gate.change(FloodSettings())
    assert set(gate.stage({}, 10.0).closed) == {CURL, CAT}


def test_what_is_written_down_is_read_again() -> None:
    before = window(1_000)
    note = before.note(CURL)
    gate = floods(notes=(note, "", "{}", "[]", "no JSON", note.replace("alerts", "salerts")))
    assert len(gate.windows) == 1
    after = gate.stage({}, 10.0, close_all=True).closed[CURL]
    assert (after.count, after.sample, after.resources.examples) == (1_000, b"sample", before.resources.examples)
    assert after.resources.estimate() == before.resources.estimate()
    assert len(note) < 4_096


def test_open_windows_are_written_down_and_closed_ones_forgotten() -> None:
    notes = Staged(open={CURL: window(3)}, closed={CAT: window(2)}).notes()
    assert notes.pop(f"{NOTE}{CAT}") == ""
    (read,) = map(read_note, notes.values())
    assert read is not None
    assert (list(notes), read[0], read[1].count) == ([f"{NOTE}{CURL}"], CURL, 3)


def test_distinct_texts_are_counted_exactly_while_few_and_estimated_when_many() -> None:
    few = Distinct()
    for number in range(HASHES - 1):
        few.add(f"/tmp/{number}")
        few.add(f"/tmp/{number // 2}")
    few.add("")
    assert few.estimate() == HASHES - 1
    assert few.examples == [f"/tmp/{number}" for number in range(EXAMPLES)]
    errors = []
    for seed in range(40):
        random_texts = random.Random(seed)
        many = Distinct()
        for _ in range(20_000):
            many.add(f"{seed}/{random_texts.randrange(5_000)}")
        errors.append(many.estimate() / 4_909 - 1)  # 5,000 * (1 - exp(-4))
    assert abs(sum(errors) / len(errors)) < 0.05
    assert max(map(abs, errors)) < 0.4


def test_windows_that_are_merged_estimate_as_one_that_saw_everything() -> None:
    whole, parts = Distinct(), Distinct()
    for start in range(0, 3_000, 100):
        part = Distinct()
        for number in range(start, start + 200):
            whole.add(str(number))
            part.add(str(number))
        parts.merge(part)
    assert parts.estimate() == whole.estimate()


def test_a_text_that_is_no_unicode_is_counted_too() -> None:
    odd = Distinct()
    odd.add("\udcff")
    assert odd.estimate() == 1
    assert read_note(Window(b"", processes=odd).note(CURL)) is not None
