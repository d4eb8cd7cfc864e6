"""What ``check`` and a reload say of network rules and of the gate's own traffic."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from sluicegate.app import network_findings
from sluicegate.app.load import Loaded, load
from sluicegate.documents import Findings

MAIN = """
[[listener]]
name = "proxy"
address = "127.0.0.1:1080"
entry = "proxy"
[[scanner]]
name = "clamd"
kind = "clamd"
address = "192.0.2.7:3310"
[resolver]
servers = ["192.0.2.53:53"]
"""
RULE = """
[[rule]]
name = "web"
action = "allow"
clients = ["10.0.0.0/8"]
to = ["*"]
protocols = ["tcp:443"]
"""
RELATION = '[[network_rule]]\nname = "lab"\nfrom = ["10.0.0.0/8"]\nto = ["0.0.0.0/0"]\n'
ROUTE = RELATION + 'relation = "route"\n'


def read(
    folder: pathlib.Path, policy: str, before: Loaded | None = None
) -> tuple[Loaded | None, Findings]:
    (folder / "sluicegate.toml").write_text(MAIN)
    (folder / "policy.toml").write_text(RULE + policy)
    findings = Findings()
    return load(folder / "sluicegate.toml", findings, before), findings


def warnings(folder: pathlib.Path, policy: str) -> list[str]:
    loaded, findings = read(folder, policy)
    assert loaded is not None, findings.errors
    return [str(one) for one in findings.warnings]


def test_an_address_of_nat_that_the_machine_does_not_have_is_warned_of(
    tmp_path: pathlib.Path,
) -> None:
    foreign = RELATION + 'relation = "nat"\naddress = "192.0.2.5"\n'
    own = RELATION + 'relation = "nat"\naddress = "127.0.0.1"\n'
    said = [one for one in warnings(tmp_path, foreign) if "does not have 192.0.2.5" in one]
    assert len(said) == 1
    assert not [one for one in warnings(tmp_path, own) if "does not have" in one]


def test_a_reload_that_first_needs_the_right_to_route_is_refused_without_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = read(tmp_path, "")
    assert before is not None
    monkeypatch.setattr(network_findings, "has_capability", lambda _number: False)
    after, findings = read(tmp_path, ROUTE, before)
    assert after is None
    assert ["restart the gate" in str(one) for one in findings.errors] == [True]
    monkeypatch.setattr(network_findings, "has_capability", lambda _number: True)
    after, findings = read(tmp_path, ROUTE, before)
    assert after is not None, findings.errors


def test_check_does_not_need_the_right_to_route(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_findings, "has_capability", lambda _number: False)
    loaded, findings = read(tmp_path, ROUTE)
    assert loaded is not None, findings.errors
    assert network_findings.lacks_right_to_route(loaded.settings.policy)


@pytest.mark.parametrize(
    ("policy", "warned"),
    [
        ("", set()),
        ("[system]\ndns = { enabled = false }\n", {"DNS server"}),
        ("[system]\nscanners = { enabled = false }\n", {"scanner 'clamd'"}),
        ('[system]\nscanners = { to = ["192.0.2.0/24"] }\n', set()),
        ('[system]\ndns = { to = ["198.51.100.0/24"] }\n', {"DNS server"}),
    ],
)
def test_configured_servers_that_the_gate_may_not_reach_are_warned_of(
    tmp_path: pathlib.Path, policy: str, warned: set[str]
) -> None:
    said = [one for one in warnings(tmp_path, policy) if "the gate may not" in one]
    assert len(said) == len(warned)
    assert all(any(what in one for one in said) for what in warned)


def test_a_scanner_that_the_gate_may_not_reach_refuses_from_the_reload_on(
    tmp_path: pathlib.Path,
) -> None:
    before, _ = read(tmp_path, "")
    after, _ = read(tmp_path, "[system]\nscanners = { enabled = false }\n", before)
    assert before is not None
    assert after is not None
    refusals = [
        dataclasses.asdict(one.settings.scanners["clamd"].settings)["refusal"]  # type: ignore[attr-defined]
        for one in (before, after)
    ]
    assert refusals[0] == ""
    assert "192.0.2.7:3310" in refusals[1]
