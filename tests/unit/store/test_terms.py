"""Who looks for a host, a client or an identifier is told of every record that has it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.audit.search.matching import address_key
from sluicegate.audit.search.parse import parse_query
from sluicegate.audit.search.query import Compare, Network
from sluicegate.audit.search.words import words_of
from sluicegate.audit.store.terms import (
    client_terms,
    host_term,
    identifier_term,
    network_terms,
    user_term,
)
from sluicegate.log_limits import SEARCH_TERMS_MAX

ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.integers(0, 1 << 50).map(ipaddress.IPv6Address),
)


def network_of(text: str) -> Network:
    query = parse_query(f"client:{text}", 0)
    assert isinstance(query, Compare)
    (network,) = query.values
    assert isinstance(network, Network)
    return network


@given(address=ADDRESSES, data=st.data())
def test_client_is_found_by_each_network_that_it_is_in(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject
) -> None:
    bits = data.draw(st.integers(0, address.max_prefixlen))
    network = ipaddress.ip_network((address, bits), strict=False)
    key = address_key(str(address))
    assert key is not None
    terms = network_terms(network_of(str(network)))
    assert len(terms) <= SEARCH_TERMS_MAX
    if terms:
        assert set(terms) & set(client_terms(key).split(" "))


@pytest.mark.parametrize(
    ("network", "count"),
    [
        ("10.1.2.3", 1),
        ("10.1.2.0/24", 1),
        ("10.1.2.0/25", 128),
        ("10.1.0.0/23", 2),
        ("10.0.0.0/8", 256),
        ("10.0.0.0/7", 0),
        ("0.0.0.0/0", 0),
        ("2001:db8::1", 1),
        ("2001:db8::/65", 1),
        ("2001:db8::/56", 256),
        ("2001:db8::/33", 1),
        ("2001::/16", 0),
        ("::/0", 0),
        ("::/64", 0),
        ("::/96", 1),
    ],
)
def test_network_is_found_by_few_terms_or_by_none(network: str, count: int) -> None:
    terms = network_terms(network_of(network))
    assert len(set(terms)) == len(terms) == count


@pytest.mark.parametrize("term_of", [host_term, user_term, identifier_term])
@given(text=st.text(min_size=1, max_size=100))
def test_term_is_one_word_that_no_text_has_and_the_same_in_both_cases(
    term_of: Callable[[str], str], text: str
) -> None:
    term = term_of(text)
    assert " " not in term
    assert words_of(term) != [term]
    upper = "".join(one.upper() if one.isascii() else one for one in text)
    assert term.lower() == term_of(upper).lower()


def test_identifiers_of_a_gate_have_terms_of_their_own() -> None:
    made = [f"{kind}-6924a1b2-{number:x}" for kind in "cr" for number in range(1, 5000)]
    assert len(set(map(identifier_term, made))) == len(made)
