"""Ways in which a queue file gets damaged, and what must hold whatever they did."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from otelbridge.event import GapCause, Stream
from otelbridge.telemetry.events import GapEnded
from tests.integration.queue.oracle import Told, assert_balanced, drain, dropped, open_queue, put

Damage = Callable[[random.Random, bytearray], None]


def flip_a_bit(dice: random.Random, content: bytearray) -> None:
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def flip_many_bits(dice: random.Random, content: bytearray) -> None:
    for _ in range(200):
        flip_a_bit(dice, content)


def truncate(dice: random.Random, content: bytearray) -> None:
    del content[dice.randrange(len(content)) :]


def zero_a_page(dice: random.Random, content: bytearray) -> None:
    start = dice.randrange(len(content)) // 4096 * 4096
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))


def zero_the_start(dice: random.Random, content: bytearray) -> None:
    size = min(len(content), dice.choice((16, 100, 4096, 65536)))
    content[:size] = bytes(size)


def garbage(dice: random.Random, content: bytearray) -> None:
    content[:] = dice.randbytes(len(content))


def garbage_in_a_page(dice: random.Random, content: bytearray) -> None:
    start = dice.randrange(len(content)) // 8192 * 8192
    size = len(content[start : start + 8192])
    content[start : start + size] = dice.randbytes(size)


DAMAGES: tuple[Damage, ...] = (
    flip_a_bit,
    flip_many_bits,
    truncate,
    zero_a_page,
    zero_the_start,
    garbage,
    garbage_in_a_page,
)


def damage_file(path: Path, damage: Damage, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        damage(dice, content)
        path.write_bytes(content)


def judge_start(directory: Path, owed: set[int], settled: set[int]) -> int:
    """Opens a damaged queue and drains it: what must hold after any damage. Returns the records lost."""
    told = Told()
    queue = open_queue(directory, told)
    assert_balanced(queue)
    put(queue, Stream.ALERTS, [1_000_000])
    got = drain(queue, max_records=64)
    assert_balanced(queue)
    assert queue.depth().records == 0
    assert len(got) == len(set(got)), "nothing twice within a life"
    assert 1_000_000 in got, "the queue works after the salvage"
    lost = owed - set(got)
    back = set(got) - owed - {1_000_000}
    assert back <= settled, "what comes back was delivered before; nothing is made up"
    counted = sum(dropped(queue, "corrupt").values())
    if lost:
        said = [h.gap for h in told.of(GapEnded) if h.gap.cause is GapCause.CORRUPTION]
        assert said, f"{len(lost)} records are gone and nobody said so"
        assert counted >= len(lost) - len(back), "the ledger knows how many"
    queue.close()
    queue = open_queue(directory)
    assert drain(queue) == []
    assert_balanced(queue)
    queue.close()
    return len(lost)
