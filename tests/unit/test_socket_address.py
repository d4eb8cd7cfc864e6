"""Socket addresses in the kernel's packed form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.address import SocketAddress


@given(
    st.ip_addresses().filter(lambda ip: not (ip.version == 6 and ip.ipv4_mapped)),
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
)
def test_packing_and_reading_gives_the_same_address(ip, port, scope):
    address = SocketAddress(str(ip), port, scope if ip.version == 6 else 0)

    assert SocketAddress.from_packed(address.packed()).ip == ip
    assert SocketAddress.from_packed(address.packed()).port == port
    assert SocketAddress.from_packed(address.packed()).scope == address.scope


@pytest.mark.parametrize("name", [b"", b"\x02", b"\x02\x00" + bytes(5), bytes(28)])
def test_what_is_not_an_ip_socket_s_name_is_refused(name):
    with pytest.raises(ValueError, match="not the address of an IP socket"):
        SocketAddress.from_packed(name)
