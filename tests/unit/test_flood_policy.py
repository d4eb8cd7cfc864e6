"""``[flood]``: what is read, whose bounds are whose, what is refused, and what the hash covers."""

from __future__ import annotations

import ipaddress

import pytest

from sluicegate.documents import Findings
from sluicegate.policy import FloodBounds, FloodLimits, Policy, PolicySnapshot, parse_policy


def parsed(text: str) -> Policy:
    findings = Findings()
    found = parse_policy(text, "policy.toml", findings)
    assert [str(error) for error in findings.errors] == []
    assert found is not None
    return found.policy


def refused(text: str) -> list[str]:
    findings = Findings()
    assert parse_policy(text, "policy.toml", findings) is None
    return [str(error) for error in findings.errors]


def bounds_of(text: str, client: str) -> FloodBounds | None:
    return PolicySnapshot(parsed(text)).flood.bounds_of(ipaddress.ip_address(client))


def test_without_a_table_the_defaults_of_the_model_are_in_force() -> None:
    assert parsed("").flood == FloodLimits()
    assert bounds_of("", "192.0.2.1") == FloodBounds(600, 160, 80, 600, 160, 600)
    assert parsed("").flood.rule_udp_sessions_per_minute == 1000


EXCEPTIONS = """
[flood]
connects_per_minute = 100
connections_max = 50
half_open_max = 20
[[flood.exception]]
clients = ["192.0.2.0/28"]
connections_max = 400
[[flood.exception]]
clients = ["192.0.2.0/24", "2001:db8::/32"]
connects_per_minute = 6000
[[flood.exception]]
clients = ["198.51.100.7"]
enabled = false
"""


def test_first_exception_that_names_a_client_says_its_bounds() -> None:
    assert bounds_of(EXCEPTIONS, "192.0.2.9") == FloodBounds(100, 400, 20, 600, 160, 600)
    assert bounds_of(EXCEPTIONS, "192.0.2.99") == FloodBounds(6000, 50, 20, 600, 160, 600)
    assert bounds_of(EXCEPTIONS, "2001:db8:7::1") == FloodBounds(6000, 50, 20, 600, 160, 600)
    assert bounds_of(EXCEPTIONS, "203.0.113.1") == FloodBounds(100, 50, 20, 600, 160, 600)


def test_client_or_everybody_can_be_left_uncounted() -> None:
    assert bounds_of(EXCEPTIONS, "198.51.100.7") is None
    assert bounds_of("[flood]\nenabled = false", "192.0.2.1") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[flood]\nconnects_per_minute = 0", "flood.connects_per_minute: is 0, must be at least 1"),
        (
            "[flood]\nconnections_max = 1_000_001",
            "flood.connections_max: is 1000001, must be at most 1000000",
        ),
        ('[flood]\nconnections_max = "many"', "flood.connections_max: is"),
        ("[flood]\nconections_max = 4", "did you mean 'connections_max'?"),
        (
            "[flood]\nconnections_max = 4\nhalf_open_max = 5",
            "flood.half_open_max: is 5, above connections_max, which is 4",
        ),
        (
            '[[flood.exception]]\nclients = ["10.0.0.1"]\nhalf_open_max = 161',
            "flood.exception[0].half_open_max: is 161, above connections_max, which is 160",
        ),
        ("[[flood.exception]]\nconnections_max = 9", "flood.exception[0].clients: is missing"),
        ("[[flood.exception]]\nclients = []", "flood.exception[0].clients: is []"),
        ('[[flood.exception]]\nclients = ["10.0.0.1/8"]', "(the network is 10.0.0.0/8)"),
        (
            '[[flood.exception]]\nclients = ["10.0.0.1"]\nrule_udp_sessions_per_minute = 4',
            "unknown key",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, expected: str) -> None:
    (error,) = refused(text)
    assert expected in error


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("", "[flood]\nconnects_per_minute = 600", True),
        ("", "[flood]\nconnects_per_minute = 601", False),
        ("", "[flood]\nenabled = false", False),
        ("[flood]\nenabled = false", "[flood]\nenabled = false\nhalf_open_max = 3", True),
        (EXCEPTIONS, EXCEPTIONS.replace("clients =", 'owner = "ann"\nclients ='), True),
        (EXCEPTIONS, EXCEPTIONS.replace("198.51.100.7", "198.51.100.8"), False),
    ],
)
def test_hash_covers_what_can_refuse_a_client(one: str, other: str, is_same: bool) -> None:
    hashes = {PolicySnapshot(parsed(text)).hash for text in (one, other)}
    assert (len(hashes) == 1) is is_same


def test_exception_may_name_an_object() -> None:
    text = '[objects.networks]\nlb = ["192.0.2.8/29"]\n'
    text += '[[flood.exception]]\nclients = ["@lb"]\nconnections_max = 400\n'
    assert bounds_of(text, "192.0.2.9") == FloodBounds(connections_max=400)
    assert bounds_of(text, "192.0.2.1") == FloodBounds()
