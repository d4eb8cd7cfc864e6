"""The addresses of this machine, by netlink."""

from __future__ import annotations

import ipaddress

from sluicegate.app.interfaces import interface_addresses


def test_this_machine_has_its_loopback_address_once() -> None:
    addresses = interface_addresses()
    assert addresses.count(ipaddress.ip_address("127.0.0.1")) == 1
    assert len(set(addresses)) == len(addresses)
