"""Nobody goes around ``sluicegate.names``: no other resolver, no other opinion of addresses."""

from __future__ import annotations

import ast

from tests.repo.source_tree import Module, package_modules

SYSTEM_RESOLVER = {
    "getaddrinfo", "getfqdn", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo",
}  # fmt: skip
#: Their answers changed between releases of Python; the unspecified address and multicast did not.
OPINIONS = {"is_global", "is_link_local", "is_loopback", "is_private", "is_reserved"}
LENIENT_PARSERS = {"urlparse", "urlsplit", "inet_aton"}
CONNECTORS = {"create_connection", "open_connection"}

#: Modules that may, and why.
EXEMPT = {
    "sluicegate.address": {"inet_aton"},  # packs what ipaddress wrote
    # Of a client that a proxy announces, not of a destination; mapped ones are unwrapped before.
    "sluicegate.protocols.proxy_protocol": {"is_loopback"},
    "sluicegate.audit.sinks.syslog": {
        "create_connection"
    },  # to where the operator has records sent
    # To where the operator has alerts told.
    "sluicegate.app.alerts.mail": {"create_connection"},
    "sluicegate.app.alerts.webhook": {"open_connection"},
    "sluicegate.names.exchange": {"open_connection"},  # to the operator's DNS servers, by literal
}


def test_names_and_addresses_are_read_and_judged_in_one_place() -> None:
    elsewhere = SYSTEM_RESOLVER | OPINIONS | LENIENT_PARSERS | CONNECTORS | {"dns.resolver"}
    used = {
        module.dotted: names
        for module in package_modules()
        if (names := names_used(module) & elsewhere - EXEMPT.get(module.dotted, set()))
    }
    assert used == {}, "ask sluicegate.names"


def names_used(module: Module) -> set[str]:
    asked = {node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
    imported = {
        alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return asked | imported
