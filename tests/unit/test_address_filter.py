"""AddressFilter: who may use what was bound or is expected."""

from __future__ import annotations

import ipaddress

import pytest

from sluicegate.address import AddressFilter, SocketAddress


def address(host: str) -> SocketAddress:
    return SocketAddress(host, 80)


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


@pytest.mark.parametrize(
    ("host", "is_included"),
    [
        ("192.0.2.1", True),
        ("192.0.2.9", False),
        ("192.0.2.20", False),
        ("198.51.100.1", True),
        ("198.51.100.2", False),
        ("203.0.113.1", False),
        ("2001:db8::1", False),
    ],
)
def test_filters_include_and_exclude_ranges_and_each_other(host: str, is_included: bool) -> None:
    made = AddressFilter([network("192.0.2.0/24")])
    made.exclude(network("192.0.2.9/32"))
    made.include_filter(AddressFilter.only("198.51.100.1"))
    made.exclude_filter(AddressFilter([network("192.0.2.16/28")]))
    assert made.is_included(address(host)) is is_included


def test_everybody_and_nobody() -> None:
    for host in ("192.0.2.1", "2001:db8::1"):
        assert AddressFilter.everybody().is_included(address(host))
        assert not AddressFilter().is_included(address(host))


def test_copies_are_independent_and_compare_by_their_ranges() -> None:
    made = AddressFilter([network("192.0.2.0/24"), network("2001:db8::/32")])
    other = AddressFilter.only("198.51.100.1")
    made.include_filter(other)
    copy = made.clone()
    assert copy.is_same_as(made)
    assert copy.is_same_as(made.clone())
    other.include(network("198.51.100.2/32"))
    assert not made.is_included(address("198.51.100.2")), "as it was when it was included"
    copy.exclude(network("192.0.2.1/32"))
    assert not copy.is_same_as(made)
    assert made.is_included(address("192.0.2.1"))
