"""The classifier of addresses: its corpus, its table, and what holds for any address."""

from __future__ import annotations

import collections
import ipaddress

import hypothesis
import hypothesis.strategies as st
import pytest

from sluicegate.names import (
    AddressClass,
    AddressClassifier,
    NameClass,
    canonical_host,
    classify,
    classify_name,
)
from sluicegate.names.address_blocks import _ROWS as ROWS
from sluicegate.names.address_blocks import block_of
from sluicegate.names.literals import address_text, parse_ipv4, parse_ipv6
from sluicegate.testing import AddressCase, address_corpus

addresses_v4 = st.ip_addresses(v=4)
addresses_v6 = st.ip_addresses(v=6)


@pytest.mark.parametrize("case", address_corpus(), ids=lambda case: case.id)
def test_case_is_classified_as_the_corpus_says(case: AddressCase) -> None:
    classifier = AddressClassifier(
        map(ipaddress.ip_address, case.own), map(ipaddress.ip_network, case.nat64_prefixes)
    )
    found = classifier.classify(ipaddress.ip_address(case.input))
    assert (found.address_class, found.is_public) == (
        case.expect.address_class,
        case.expect.is_public,
    ), case.reason
    if case.expect.embedded is not None:
        inside = tuple((str(one.kind), str(one.address)) for one in found.embedded)
        assert inside == case.expect.embedded
    assert found.why


def test_every_class_has_a_case_and_every_case_its_id() -> None:
    cases = address_corpus()
    assert {case.expect.address_class for case in cases} == {str(one) for one in AddressClass}
    assert max(collections.Counter(case.id for case in cases).values()) == 1
    assert {case.group for case in cases} == {f"A{number}" for number in range(1, 12)}


@hypothesis.given(st.one_of(addresses_v4, addresses_v6))
def test_row_that_decides_has_the_longest_prefix(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    holding = [
        network
        for text, _, _ in ROWS
        if (network := ipaddress.ip_network(text)).version == address.version and address in network
    ]
    assert block_of(address).network == max(holding, key=lambda network: network.prefixlen)


@hypothesis.given(addresses_v4)
def test_no_form_of_an_address_that_is_not_public_is_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    plain = classify(address)
    forms = [
        number,
        0xFFFF << 32 | number,
        0xFFFF0000 << 32 | number,
        0x64FF9B << 96 | number,
        0x64FF9B0001 << 80 | number,
        0x2002 << 112 | number << 80 | 1,
        0x2001 << 112 | number << 64 | 0xF7F7F7F7,
        0x2001 << 112 | 0x08080808 << 64 | (number ^ 0xFFFFFFFF),
        0x2606 << 112 | 0x5EFE << 32 | number,
        0x2606 << 112 | 0x02005EFE << 32 | number,
    ]
    for form in forms:
        judged = classify(ipaddress.IPv6Address(form))
        assert plain.is_public or not judged.is_public, judged


@hypothesis.given(addresses_v4, st.sampled_from([32, 40, 48, 56, 64, 96]))
def test_declared_nat64_prefix_of_any_length_is_unwrapped(
    inner: ipaddress.IPv4Address, length: int
) -> None:
    """The layouts of RFC 6052 section 2.2, put together octet by octet."""
    packed = list(ipaddress.IPv6Address("2606:4700:aa:bb:cc:dd::").packed[: length // 8])
    packed = [*packed[:8], 0, *packed[9:]] if length > 64 else packed
    for octet in inner.packed:
        if len(packed) == 8:
            packed.append(0)
        packed.append(octet)
    whole = ipaddress.IPv6Address(bytes(packed + [0] * (16 - len(packed))))
    prefix = ipaddress.ip_network((int(whole) >> (128 - length) << (128 - length), length))
    found = AddressClassifier(nat64_prefixes=[prefix]).classify(whole)
    assert [one.address for one in found.embedded if one.kind == "nat64-network"] == [inner]
    assert found.is_public == classify(inner).is_public or "isatap" in found.why


def test_nat64_prefix_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="RFC 6052"):
        AddressClassifier(nat64_prefixes=[ipaddress.IPv6Network("2606:4700::/44")])


def test_zone_of_an_address_changes_nothing() -> None:
    judged = classify(ipaddress.IPv6Address("fe80::1%eth0"))
    assert (judged.address_class, str(judged.address)) == ("link-local", "fe80::1")
    plain, zoned = ipaddress.IPv6Address("2606:4700::1"), ipaddress.IPv6Address("2606:4700::1%2")
    assert AddressClassifier(own=[plain]).classify(zoned).address_class == "own"
    assert AddressClassifier(own=[zoned]).classify(plain).address_class == "own"


def test_what_is_meant_is_the_address_and_all_inside_it() -> None:
    judged = classify(ipaddress.IPv6Address("2001:0:808:808:0:ffff:f5ff:fffe"))
    assert list(map(str, judged.meant)) == [
        "2001:0:808:808:0:ffff:f5ff:fffe", "8.8.8.8", "10.0.0.1"
    ]  # fmt: skip
    assert classify(ipaddress.IPv4Address("8.8.8.8")).meant == (ipaddress.IPv4Address("8.8.8.8"),)


@hypothesis.given(st.one_of(addresses_v4, addresses_v6))
def test_text_of_an_address_reads_back(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    text = address_text(address)
    assert (parse_ipv4(text) or parse_ipv6(text)) == address
    assert text == canonical_host(address.exploded).text


@hypothesis.given(st.text(alphabet="0123456789abcdefABCDEF:.%x", max_size=45))
def test_literals_are_never_read_more_leniently_than_by_the_library(text: str) -> None:
    found = parse_ipv6(text)
    if found is not None:
        assert found == ipaddress.IPv6Address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("www.example", NameClass.ORDINARY),
        ("localhost", NameClass.LOOPBACK),
        ("a.localhost", NameClass.LOOPBACK),
        ("localhost.example", NameClass.ORDINARY),
        ("notlocalhost", NameClass.ORDINARY),
        ("LOCALHOST.", NameClass.LOOPBACK),
        ("printer.local", NameClass.LINK_LOCAL),
        ("local.example", NameClass.ORDINARY),
        ("a.invalid", NameClass.INVALID),
        ("a.onion", NameClass.NOT_DNS),
        ("a.alt", NameClass.NOT_DNS),
        ("metadata.google.internal", NameClass.METADATA),
        ("Metadata.Google.Internal.", NameClass.METADATA),
        ("metadata", NameClass.METADATA),
        ("metadata.example", NameClass.ORDINARY),
        ("google.internal", NameClass.ORDINARY),
        ("127.0.0.1", NameClass.ORDINARY),
    ],
)
def test_names_with_a_meaning_of_their_own_are_known(text: str, expected: NameClass) -> None:
    assert classify_name(canonical_host(text)) is expected
