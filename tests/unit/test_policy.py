"""Policy: what is refused at load, what is decided, and that equal policies hash alike."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.documents import Findings
from sluicegate.policy import Policy, PolicySnapshot, Publication, decide, parse_policy

NOW = 1_790_000_000.0
SERVER = SocketAddress("192.0.2.10", 21)


def rule(name: str, *clients: str, listener: str = "ftp") -> Publication:
    networks = tuple(ipaddress.ip_network(client) for client in clients)
    return Publication(name=name, listener=listener, server=SERVER, clients=networks)


def snapshot(*publications: Publication) -> PolicySnapshot:
    return PolicySnapshot(Policy(publications))


def parsed(text: str) -> Policy:
    findings = Findings()
    found = parse_policy(text, "policy.toml", findings)
    assert [str(error) for error in findings.errors] == []
    assert found is not None
    return found.policy


GOOD = """
[[publish]]
name = "ftp"
listener = "ftp"
server = "[2001:db8::10]:21"
clients = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]
filters = ["ftp_access", "exe_block"]
owner = "network team"
[publish.settings.ftp_access]
read_only = true
"""


def test_rule_is_read_with_everything_it_says() -> None:
    (publication,) = parsed(GOOD).publications
    assert publication.server == SocketAddress("2001:db8::10", 21)
    assert [str(client) for client in publication.clients] == [
        "10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32",
    ]  # fmt: skip
    assert publication.filters == ("ftp_access", "exe_block")
    assert publication.settings["ftp_access"] == {"read_only": True}


def test_empty_policy_denies_everything() -> None:
    decision = decide(PolicySnapshot(parsed("")), "ftp", SocketAddress("10.0.0.1", 4000), NOW)
    assert (decision.allowed, decision.reason) == (False, "not-published")


BEGINNING = '[[publish]]\nname = "a"\nlistener = "l"\n'
SERVED = BEGINNING + 'server = "192.0.2.1:21"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SERVED, "policy.toml:1: publish[0].clients: is missing"),
        (SERVED + "clients = []", "policy.toml:5: publish[0].clients: is []"),
        (SERVED + 'clients = "10.0.0.0/8"', 'publish[0].clients: is "10.0.0.0/8", must be a list'),
        (SERVED + 'clients = ["10.0.0.1/8"]', "(the network is 10.0.0.0/8)"),
        (SERVED + 'clients = ["office"]', "clients[0]: is 'office', which is not a network"),
        (SERVED + 'clients = ["fe80::/10%eth0"]', "clients[0]: is 'fe80::/10%eth0'"),
        (SERVED + 'clients = ["::ffff:10.0.0.0/104"]', "an IPv4 network in IPv6 form"),
        (SERVED + "clients = [4]", "clients[0]: is 4, must be a network in quotes"),
        (BEGINNING + 'clients = ["::/0"]\nserver = "ftp.example.org:21"', "names are not resolved"),
        (BEGINNING + 'clients = ["::/0"]\nserver = "192.0.2.1"', "is not ADDRESS:PORT"),
        (BEGINNING + 'clients = ["::/0"]\nserver = "192.0.2.1:0"', "which has no port"),
        (BEGINNING + 'clients = ["::/0"]\nserver = "0.0.0.0:21"', "not the address of a server"),
        (BEGINNING + 'clients = ["::/0"]\nserver = "224.0.0.1:21"', "not the address of a server"),
        (BEGINNING + 'clients = ["::/0"]\nserver = "[::ffff:192.0.2.1]:21"', "an IPv4 address"),
        (BEGINNING + 'clients = ["::/0"]\nserver = "[fe80::1%eth0]:21"', "which has a zone"),
        (SERVED + 'clients = ["::/0"]\nname2 = "b"', "name2: unknown key (did you mean 'name'?)"),
        (SERVED + 'clients = ["::/0"]\nfilters = ["f", "f"]', "filters[1]: 'f' is listed twice"),
        (SERVED + 'clients = ["::/0"]\nsettings.f = {}', "does not use the filter 'f'"),
        ((SERVED + 'clients = ["::/0"]\n') * 2, "policy.toml:7: publish[1].name: the name 'a' is"),
        (SERVED.replace('"a"', '"a b"') + 'clients = ["::/0"]', "policy.toml:2: publish[0].name"),
        (SERVED + 'clients = ["::/0"]\nsend_proxy_protocol = 2', "must be 'v1' or 'v2'"),
        ("[publish]\nname = 1", "policy.toml:1: publish: "),
    ],
)
def test_wrong_rule_is_refused_with_its_place(text: str, expected: str) -> None:
    findings = Findings()
    assert parse_policy(text, "policy.toml", findings) is None
    assert expected in "\n".join(str(error) for error in findings.errors)


def test_first_matching_rule_wins() -> None:
    policy = snapshot(rule("guests", "10.0.9.0/24"), rule("all", "10.0.0.0/8"))
    assert decide(policy, "ftp", SocketAddress("10.0.9.1", 1), NOW).publication is not None
    names = [
        found.name
        for host in ("10.0.8.255", "10.0.9.0", "10.0.9.255", "10.0.10.0")
        if (found := decide(policy, "ftp", SocketAddress(host, 1), NOW).publication)
    ]
    assert names == ["all", "guests", "guests", "all"]


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("9.255.255.255", "client-not-listed"),
        ("10.0.0.0", "published"),
        ("10.255.255.255", "published"),
        ("11.0.0.0", "client-not-listed"),
        ("0.0.0.0", "client-not-listed"),
        ("255.255.255.255", "client-not-listed"),
        ("::1", "client-not-listed"),
        ("2001:db8::", "published"),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "published"),
        ("2001:db9::", "client-not-listed"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "client-not-listed"),
    ],
)
def test_borders_of_a_network_are_exact(host: str, reason: str) -> None:
    policy = snapshot(rule("a", "10.0.0.0/8", "2001:db8::/32"))
    assert decide(policy, "ftp", SocketAddress(host, 1), NOW).reason == reason


def test_client_that_the_kernel_shows_as_mapped_is_judged_by_its_ipv4_address() -> None:
    policy = snapshot(rule("a", "10.0.0.0/8"))
    client = SocketAddress.from_kernel(("::ffff:10.1.2.3", 4000, 0, 0))
    assert decide(policy, "ftp", client, NOW).allowed


def test_rule_of_another_listener_does_not_count() -> None:
    policy = snapshot(rule("a", "10.0.0.0/8", listener="other"), rule("b", "192.0.2.0/24"))
    assert not decide(policy, "ftp", SocketAddress("10.0.0.1", 1), NOW).allowed


def test_everybody_means_everybody() -> None:
    policy = snapshot(rule("a", "0.0.0.0/0", "::/0"))
    for host in ("0.0.0.0", "255.255.255.255", "::", "ffff::", "127.0.0.1"):
        assert decide(policy, "ftp", SocketAddress(host, 1), NOW).allowed


def test_hash_names_what_decides_and_nothing_else() -> None:
    policy = PolicySnapshot(parsed(GOOD))
    assert PolicySnapshot(parsed(GOOD.replace("network team", "me"))).hash == policy.hash
    assert PolicySnapshot(parsed(GOOD + "\n# comment")).hash == policy.hash
    for old, new in [
        ("10.0.0.0/8", "10.0.0.0/9"), (":21", ":22"), ("true", "false"),
        (', "exe_block"', ""), ('listener = "ftp"', 'listener = "other"'),
        ('listener = "ftp"', 'listener = "ftp"\nsend_proxy_protocol = "v1"'),
    ]:  # fmt: skip
        assert PolicySnapshot(parsed(GOOD.replace(old, new))).hash != policy.hash


def test_order_of_rules_is_part_of_the_hash() -> None:
    one, two = rule("a", "10.0.0.0/8"), rule("b", "10.0.0.0/8")
    assert snapshot(one, two).hash != snapshot(two, one).hash


def test_rule_whose_clients_earlier_ones_cover_is_unreachable() -> None:
    policy = snapshot(
        rule("low", "10.0.0.0/9"),
        rule("high", "10.128.0.0/9"),
        rule("never", "10.0.0.0/8"),
        rule("sometimes", "10.0.0.0/8", "::1"),
        rule("elsewhere", "10.0.0.0/8", listener="other"),
    )
    assert [found.name for found in policy.unreachable()] == ["never"]


networks = st.one_of(
    st.builds(
        lambda address, prefix: ipaddress.ip_network((address, prefix), strict=False),
        st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address) | st.just(ipaddress.IPv4Address(0)),
        st.integers(0, 32),
    ),
    st.builds(
        lambda address, prefix: ipaddress.ip_network((address, prefix), strict=False),
        st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address),
        st.integers(0, 128),
    ),
)


@given(
    st.lists(st.lists(networks, min_size=1, max_size=4), max_size=5),
    st.integers(0, 2**128 - 1),
    st.booleans(),
)
def test_compiled_policy_decides_as_trying_every_rule_in_order_does(
    rules: list[list[IpNetwork]], number: int, at_border: bool
) -> None:
    publications = [
        Publication(name=str(order), listener="ftp", server=SERVER, clients=tuple(clients))
        for order, clients in enumerate(rules)
    ]
    every = [network for clients in rules for network in clients]
    if at_border and every:
        network = every[number % len(every)]
        client = [network[0], network[-1]][number % 2]
    else:
        client = ipaddress.IPv4Address(number % 2**32)
    expected = next(
        (one for one in publications if any(client in network for network in one.clients)), None
    )
    decision = decide(snapshot(*publications), "ftp", SocketAddress(str(client), 1), NOW)
    assert decision.publication is expected
