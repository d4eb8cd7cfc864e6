"""Parent proxies: where a request is sent on, and what that does not change."""

from __future__ import annotations

import dataclasses

import pytest

from sluicegate.address import SocketAddress
from sluicegate.gate.settings import ServiceSettings
from sluicegate.gate.web.parent_proxy import ParentProxy
from sluicegate.names import HostPattern
from tests.flows.entry_kit import Names
from tests.flows.web_kit import RULES, SITE, Origin, Visit, browse, get, reply, web_settings

PARENT = SocketAddress.parse("10.7.7.7:3128")


def through(*parents: ParentProxy) -> ServiceSettings:
    return dataclasses.replace(web_settings(), parent_proxies=parents)


def visit(*wanted: bytes, origin: Origin | None = None, names: Names | None = None) -> Visit:
    plan = through(ParentProxy(PARENT))
    return browse(*wanted, origin=origin, plan=plan, address=PARENT, names=names)


def test_requests_go_to_the_parent_with_their_whole_url() -> None:
    found = visit(get("/a?b"), get("/c", "other.example"))
    assert found.statuses == [200, 200]
    assert found.origin.lines == [
        "GET http://site.example/a?b HTTP/1.1",
        "GET http://other.example/c HTTP/1.1",
    ]
    assert [one.field("Host") for one in found.origin.seen] == ["site.example", "other.example"]
    assert {record.server for record in found.gate.requests} == {str(PARENT)}
    assert found.gate.requests[0].url == "http://site.example/a"


@pytest.mark.parametrize(("address", "status"), [("10.9.9.9", 403), ("127.0.0.1", 403)])
def test_a_parent_is_no_way_around_the_judgement_of_addresses(address: str, status: int) -> None:
    names = Names().put("site.example", address)
    found = visit(get(), names=names)
    assert (found.statuses, found.origin.connections) == ([status], 0)
    assert found.reasons[0].startswith("address-denied")


def test_a_host_that_no_rule_allows_is_not_asked_of_the_parent() -> None:
    found = visit(get("/", "evil.example"))
    assert (found.statuses, found.origin.connections) == ([403], 0)


def test_only_the_hosts_that_a_parent_serves_go_there() -> None:
    only = ParentProxy(PARENT, (HostPattern.parse("other.example"),))
    found = browse(get("/x"), plan=through(only), address=SITE)
    assert found.origin.lines == ["GET /x HTTP/1.1"]


def test_what_a_parent_asks_of_the_gate_is_not_asked_of_the_client() -> None:
    origin = Origin([reply(b"", 'Proxy-Authenticate: Basic realm="x"', status="407 Who")])
    found = visit(get(), origin=origin)
    assert found.statuses == [502]
    assert found.answers[0].field("Proxy-Authenticate") is None


def test_rules_about_content_hold_behind_a_parent() -> None:
    policy = """
[[rule]]
name = "no-zip"
action = "deny"
to = ["site.example"]
protocols = ["tcp:80"]
content_types = ["application/zip"]
""" + RULES.replace('"web"', '"all"')
    plan = dataclasses.replace(web_settings(policy), parent_proxies=(ParentProxy(PARENT),))
    answers = [reply(b"PK", "Content-Type: application/zip"), reply(b"ok", "Content-Type: text/a")]
    found = browse(get(), get(), plan=plan, origin=Origin(answers), address=PARENT)
    assert found.statuses == [403, 200]
