"""The servers that resolv.conf names."""

from __future__ import annotations

import pytest

from sluicegate.errors import ConfigError
from sluicegate.names.servers import parse_nameservers


def servers_of(text: str) -> list[str]:
    return [f"{one}%{one.scope}" if one.scope else str(one) for one in parse_nameservers(
        text, interface_index=lambda name: {"eth0": 2}[name]
    )]  # fmt: skip


def test_servers_are_taken_and_search_lists_are_not() -> None:
    text = (
        "# nameserver 192.0.2.9\n; a comment\nsearch corp.example other.example\ndomain x.example\n"
        "options ndots:5 timeout:1\nnameserver 192.0.2.1\nnameserver\t2001:db8::53  \n"
    )
    assert servers_of(text) == ["192.0.2.1:53", "[2001:db8::53]:53"]


def test_no_more_than_three_servers_are_taken_as_in_the_c_library() -> None:
    text = "\n".join(f"nameserver 192.0.2.{i}" for i in range(1, 6))
    assert servers_of(text) == ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]


@pytest.mark.parametrize("text", ["", "search a.example\n", "nameservers 192.0.2.1\n"])
def test_without_a_server_the_local_machine_is_asked(text: str) -> None:
    assert servers_of(text) == ["127.0.0.1:53"]


def test_zone_of_a_link_local_server_becomes_its_interface() -> None:
    assert servers_of("nameserver fe80::1%eth0") == ["[fe80::1]:53%2"]


@pytest.mark.parametrize(
    "line", ["nameserver", "nameserver dns.example", "nameserver 0177.1", "nameserver [::1]"]
)
def test_line_without_an_address_is_an_error_with_its_place(line: str) -> None:
    with pytest.raises(ConfigError, match=r"resolv\.conf:2: .* \(nameserver ADDRESS\)"):
        parse_nameservers(f"search a\n{line}\n")


def test_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no interface 'nosuch0'"):
        parse_nameservers("nameserver fe80::1%nosuch0")
