"""How large the next request may be."""

from __future__ import annotations

from otelbridge.send.request_limits import WIDEN_BYTES_AFTER, WIDEN_RECORDS_AFTER, Limits, RequestSize
from otelbridge.send.settings import SendSettings

FULL = Limits(1024 * 1024, 8192)


def test_a_fault_halves_the_records_down_to_one_and_success_widens_them_again() -> None:
    width = RequestSize(SendSettings())
    width.faulty(100)
    assert width.limits() == Limits(FULL.max_bytes, 50)
    assert width.narrowed
    for _ in range(10):
        width.faulty(width.limits().max_records)
    assert width.limits().max_records == 1
    for _ in range(WIDEN_RECORDS_AFTER * 13):
        width.accepted()
    assert width.limits() == FULL
    assert not width.narrowed


def test_a_size_limit_is_remembered_for_long() -> None:
    width = RequestSize(SendSettings())
    width.too_large(1_000_000)
    for _ in range(WIDEN_BYTES_AFTER - 1):
        width.accepted()
    assert width.limits() == Limits(500_000, FULL.max_records)
    assert not width.narrowed
    width.accepted()
    assert width.limits().max_bytes == 1_000_000


def test_several_couriers_that_meet_the_same_fault_narrow_it_once() -> None:
    width = RequestSize(SendSettings())
    for _ in range(4):
        width.faulty(100)
    assert width.limits().max_records == 50
