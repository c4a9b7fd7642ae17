from __future__ import annotations

import threading
import time

from otelbridge.telemetry.telemetry import Mailbox


def test_items_come_out_in_the_order_in_which_they_went_in_urgent_or_not() -> None:
    box = Mailbox[int](10)
    for number in range(4):
        assert box.put(number, urgent=number == 2)
    assert list(box.take(30)) == [0, 1, 2, 3]


def test_an_everyday_letter_wakes_nobody_and_an_urgent_one_does() -> None:
    box = Mailbox[str](10)
    began = time.monotonic()
    box.put("everyday", urgent=False)
    assert list(box.take(0.05)) == ["everyday"]
    assert time.monotonic() - began >= 0.04
    taken: list[str] = []
    reader = threading.Thread(target=lambda: taken.extend(box.take(30)))
    reader.start()
    box.put("urgent", urgent=True)
    reader.join(5)
    assert taken == ["urgent"]


def test_a_full_box_takes_only_what_is_put_always() -> None:
    box = Mailbox[int](2)
    assert [box.put(number, urgent=True) for number in range(3)] == [True, True, False]
    box.put_always(9)
    assert list(box.take(30)) == [0, 1, 9]


def test_one_taking_follows_many_calls() -> None:
    box = Mailbox[int](10)
    for number in range(3):
        box.put(number, urgent=True)
    assert list(box.take(30)) == [0, 1, 2]
    began = time.monotonic()
    assert list(box.take(0.05)) == []
    assert time.monotonic() - began >= 0.04


def test_any_item_ends_a_rest() -> None:
    box = Mailbox[int](10)
    taken: list[list[int]] = []
    thread = threading.Thread(target=lambda: taken.append(list(box.take(600, resting=True))))
    thread.start()
    box.put(1, urgent=False)
    thread.join(10)
    assert taken == [[1]]
    box.put(2, urgent=False)
    assert list(box.take(600, resting=True)) == [2], "it came before the rest"
