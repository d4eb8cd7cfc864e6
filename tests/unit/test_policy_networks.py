"""Tables of networks agree with asking every network."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.address import IpNetwork
from sluicegate.policy.networks import NetworkSet, NetworkTable

addresses = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address) | st.integers(0, 2**128 - 1).map(
    ipaddress.IPv6Address
)


def around(address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> IpNetwork:
    return ipaddress.ip_network((address, length % (address.max_prefixlen + 1)), strict=False)


# Few first bits, so that networks are often inside each other.
close = st.integers(0, 7).map(lambda bits: ipaddress.IPv4Address(bits << 29)) | st.integers(
    0, 3
).map(ipaddress.IPv6Address)
networks = st.builds(around, addresses | close, st.integers(0, 128))


@given(st.lists(networks, max_size=12), addresses | close, st.integers(0, 1000))
def test_table_and_set_find_what_asking_every_network_finds(
    found: list[IpNetwork], address: ipaddress.IPv4Address, pick: int
) -> None:
    if found and pick % 3:
        network = found[pick % len(found)]
        address = network[0] if pick % 2 else network[-1]  # type: ignore[assignment]
    table = NetworkTable((network, place) for place, network in enumerate(found))
    holding = {place for place, network in enumerate(found) if address in network}
    assert set(table.find(address)) == holding
    assert len(table.find(address)) == len(holding)
    assert NetworkSet(found).covers(address) == bool(holding)
