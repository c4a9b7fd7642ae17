from __future__ import annotations

from otelbridge.feed.feed import ABSENCES, Membership
from otelbridge.net.address import Address


def at(*ips: str) -> list[Address]:
    return [Address(host=ip, port=1) for ip in ips]


def test_new_addresses_are_added_once() -> None:
    membership = Membership()
    assert membership.changes(at("1.1.1.1", "2.2.2.2", "1.1.1.1")) == (at("1.1.1.1", "2.2.2.2"), [])
    assert membership.changes(at("2.2.2.2", "1.1.1.1")) == ([], [])
    assert membership.changes(at("2.2.2.2", "1.1.1.1", "3.3.3.3")) == (at("3.3.3.3"), [])


def test_an_address_is_removed_after_it_was_missing_several_times_in_a_row() -> None:
    membership = Membership()
    membership.changes(at("1.1.1.1", "2.2.2.2"))
    for _ in range(ABSENCES - 1):
        assert membership.changes(at("1.1.1.1")) == ([], [])
    assert membership.changes(at("1.1.1.1")) == ([], at("2.2.2.2"))
    assert membership.changes(at("1.1.1.1")) == ([], [])


def test_an_address_that_comes_back_in_time_stays() -> None:
    membership = Membership()
    membership.changes(at("1.1.1.1", "2.2.2.2"))
    for _ in range(5):
        assert membership.changes(at("1.1.1.1")) == ([], [])
        assert membership.changes(at("1.1.1.1", "2.2.2.2")) == ([], [])
