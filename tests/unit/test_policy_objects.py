"""Objects, references, includes and lists: what they stand for, and what is refused where."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import pytest

from sluicegate.policy import NetworkRelation, SystemPurpose
from sluicegate.policy.sources import find_includes, find_lists
from tests.unit.policy_kit import errors, policy, read, rule

OBJECTS = """
[objects.networks]
office = ["10.0.0.0/8", "2001:db8:5::/48", "@branch"]
branch = { members = ["192.0.2.0/24"], owner = "network team", comment = "since May" }
blocked = { file = "lists/blocked.txt" }
[objects.names]
packages = ["packages.example.org", "*.files.example.org"]
open = ["*.co.uk", "a.co.uk"]
[objects.urls]
updates = ["https://updates.example.org/stable/*", "http://[2001:db8::1]:8080/a"]
[objects.users]
staff = ["group:staff", "ann"]
[objects.content_types]
reports = ["application/pdf", ".csv", "@images"]
[objects.schedules.work-hours]
time_zone = "Europe/Berlin"
weekly = ["mon-fri 09:00-17:00", "fri 22:00-02:00"]
dates_off = [2026-12-25]
[objects.protocols.ftp]
ports = ["tcp:21"]
secondary = [{ ports = "tcp:1024-65535", direction = "inbound" }]
filters = ["ftp_access"]
[objects.protocols.published]
ports = ["tcp:8443"]
direction = "inbound"
"""
LISTS = {"lists/blocked.txt": "# feed X\n198.51.100.0/24\n\n203.0.113.7 # one\n"}


def one(**keys: str):
    (found,) = policy(OBJECTS + rule(**keys), lists=LISTS).rules
    return found


def test_references_stand_for_everything_below_them() -> None:
    found = one(clients='["@office", "10.9.0.0/16"]', clients_except='["@blocked"]')
    assert [str(network) for network in found.clients] == [
        "10.0.0.0/8", "2001:db8:5::/48", "192.0.2.0/24", "10.9.0.0/16",
    ]  # fmt: skip
    assert [str(network) for network in found.clients_except] == [
        "198.51.100.0/24", "203.0.113.7/32",
    ]  # fmt: skip
    assert found.written["clients"] == ("@office", "10.9.0.0/16")


def test_destinations_take_names_networks_and_urls() -> None:
    found = one(to='["@packages", "@blocked", "@updates", "x.example.org", "192.0.2.1"]')
    assert found.to.texts() == [
        "*.files.example.org", "192.0.2.1/32", "198.51.100.0/24", "203.0.113.7/32",
        "http://[2001:db8::1]:8080/a", "https://updates.example.org/stable/*",
        "packages.example.org", "x.example.org",
    ]  # fmt: skip


def test_protocols_bring_ports_secondary_connections_and_filters() -> None:
    found = one(protocols='["@ftp"]', filters='["exe_block"]')
    assert [str(pattern) for pattern in found.protocols] == ["tcp:21"]
    assert [str(one) for one in found.secondary or ()] == ["tcp:1024-65535 inbound"]
    assert (found.bound_filters, found.filters) == (("ftp_access",), ("ftp_access", "exe_block"))


def test_predefined_protocols_and_types_are_there_without_a_definition() -> None:
    found = policy(rule(protocols='["@dns", "@https"]', content_types='["@documents"]')).rules[0]
    assert [str(pattern) for pattern in found.protocols] == ["tcp:53", "udp:53", "tcp:443"]
    assert found.content_types is not None
    assert found.content_types.covers("application/pdf", "")
    assert found.content_types.covers("", ".docx")
    assert not found.content_types.covers("image/png", ".pdf")


def test_everything_else_of_a_rule_is_read() -> None:
    found = one(
        users='["@staff", "group:ci"]', schedule='"work-hours"', methods='["GET", "HEAD"]',
        paths='["/a/*", { pattern = "/v[0-9]+/.*" }]', content_types='["@reports"]',
        expires="2027-01-31T01:00:00+01:00", enabled="false", listener='["proxy", "other"]',
        limits='{ connections_max = 100, bytes_max = "1 GiB", duration_s = 3600 }',
        to_except='["old.files.example.org"]', protocols_except='["tcp:25"]',
    )  # fmt: skip
    assert found.users == ("group:staff", "ann", "group:ci")
    assert found.schedule is not None
    assert found.schedule.name == "work-hours"
    assert found.methods == ("GET", "HEAD")
    assert [path.matches("/v12/x") for path in found.paths] == [False, True]
    assert found.content_types is not None
    assert found.content_types.texts() >= [".avif"]
    assert found.expires == 1801353600
    assert not found.is_enabled
    assert found.listeners == ("proxy", "other")
    assert (found.limits.connections_max, found.limits.bytes_max) == (100, 1 << 30)
    assert found.to_except.texts() == ["old.files.example.org"]


def test_hours_that_cross_midnight_go_on_the_next_day() -> None:
    schedule = one(schedule='"work-hours"').schedule
    assert schedule is not None
    assert [(span.day, span.start, span.end) for span in schedule.spans if span.day > 3] == [
        (4, 540, 1020), (4, 1320, 1440), (5, 0, 120),
    ]  # fmt: skip


def test_relations_system_purposes_and_learning_are_read() -> None:
    text = (
        OBJECTS
        + """
[[network_rule]]
name = "lab"
from = ["@office"]
to = ["10.30.0.0/16"]
relation = "route"
[[network_rule]]
name = "rest"
from = ["0.0.0.0/0"]
to = ["0.0.0.0/0"]
relation = "nat"
address = "192.0.2.5"
[system]
dns = { to = ["192.0.2.53/32"] }
alerts = { enabled = false }
[[learn]]
name = "runner"
clients = ["@branch"]
until = 2026-12-05T18:00:00Z
listener = "proxy"
"""
    )
    found = policy(text, lists=LISTS)
    assert [one.relation for one in found.network_rules] == [
        NetworkRelation.ROUTE, NetworkRelation.NAT,
    ]  # fmt: skip
    assert str(found.network_rules[1].address) == "192.0.2.5"
    server = found.network_rules[1].address
    assert server is not None
    assert [found.system.allows(purpose, server) for purpose in SystemPurpose] == [
        False, True, True, False, True, True,
    ]  # fmt: skip
    (learn,) = found.learn
    assert (learn.until, learn.listeners) == (1796493600, ("proxy",))


WRONG = [
    # references
    (rule(clients='["@ofice"]'), "rule[0].clients[0]: there is no @ofice in objects.networks (did you mean 'office'?)"),
    (rule(clients='["@packages"]'), "@packages is in objects.names, and this key takes objects.networks"),
    (rule(to='["@staff"]'), "to[0]: @staff is in objects.users, and this key takes objects.names or"),
    (rule(users='["@office"]'), "users[0]: @office is in objects.networks"),
    (rule(protocols='["@gopher"]'), "protocols[0]: there is no @gopher in objects.protocols"),
    (rule(content_types='["@packages"]'), "content_types[0]: @packages is in objects.names"),
    (rule(schedule='"work-hour"'), "schedule: there is no schedule 'work-hour' in objects.schedules (did you mean"),
    (rule(to='["@open"]'), "to[0]: is '*.co.uk' by @open: anybody can register"),
    (rule(to='["https://a.example/x?y=1"]'), "the only wildcard is a final '*'; no query"),
    (rule(to='["https://a.example:443/"]'), "leave :443 out"),
    (rule(to='["https://A.example/"]'), "is not canonical (write the host as 'a.example')"),
    (rule(to='["ftp://a.example/"]'), "which is no URL of a rule"),
    (rule(to='["https://u@a.example/"]'), "which is no URL of a rule"),
    (rule(clients='["@office", "@office"]'), "clients[1]: '@office' is listed twice"),
    # protocols
    (rule(protocols='["@published"]'), "@published is inbound: it is only published"),
    (rule(protocols='["@ftp", "tcp:443"]'), "has protocols that bind different filters"),
    # conditions
    (rule(methods='["get"]'), "methods[0]: is 'get', which is no method"),
    (rule(paths='["a"]'), "the path does not begin with a slash"),
    (rule(paths='["/a/../b"]'), "the path has dot segments"),
    (rule(paths='["/%41"]'), "which is not canonical (write '/A')"),
    (rule(paths='[{ pattern = "(a" }]'), "which is no regular expression: missing )"),
    (rule(paths='[{ pattern = "(?=a)" }]'), "no look-around"),
    (rule(paths='[{ pattern = "((((a{100}){10}){10}){10})" }]'), "which is no regular expression"),
    (rule(paths="[{}]"), "paths[0]: is neither a path nor a pattern"),
    (rule(content_types='["PDF"]'), "content_types[0]: is 'PDF', which is no content type"),
    (rule(expires="2027-01-31T00:00:00"), "expires: is '2027-01-31 00:00:00', which is another instant in each time zone"),
    (rule(expires='"soon"'), "expires: is 'soon', which is no date and time"),
    (rule(limits='{ bytes_max = "1 GB" }'), "limits.bytes_max: is '1 GB', must be a number of bytes"),
    (rule(limits="{ connections = 1 }"), "limits.connections: unknown key (did you mean 'connections_max'?)"),
    (rule(limits="{ connections_max = 0 }"), "limits.connections_max: is 0, must be at least 1"),
    (rule(action='"inspect"'), "a rule that inspects needs filters that look"),
    (rule(action='"reset"', limits="{ connections_max = 1 }"), "limits: a rule that denies has no connections"),
    (rule(action='"drop"'), "action: is \"drop\", must be 'allow', 'deny', 'reset' or 'inspect'"),
    (rule(protocols=""), "protocols: is missing: a rule that allows says what"),
    # objects
    ('[objects.networks]\na = ["@b"]\nb = ["@a"]', "goes round in a circle: @a → @b → @a"),
    ('[objects.networks]\na = ["@a"]', "objects.networks.a[0]: goes round in a circle: @a → @a"),
    ('[objects.networks]\na = ["10.0.0.1/8"]', "objects.networks.a[0]: is '10.0.0.1/8', which is not a network (the network is"),
    ('[objects.networks]\na = { members = ["x"] }', "objects.networks.a.members[0]: is 'x'"),
    ("[objects.networks]\na = {}", "objects.networks.a: has to have members or a file"),
    ('[objects.networks]\na = { fil = "x" }', "fil: unknown key (did you mean 'file'?)"),
    ('[objects.networks]\na = "10.0.0.0/8"', 'objects.networks.a: is "10.0.0.0/8", must be a table'),
    ('[objects.names]\na = ["192.0.2.1"]', "objects.names.a[0]: is '192.0.2.1', an address (put it into"),
    ('[objects.names]\noffice = ["a.example"]\n[objects.networks]\noffice = []', "@office is also in objects.networks"),
    ('[objects.name]\na = ["x"]', "objects.name: unknown key (did you mean 'names'?)"),
    ('[objects.schedules.a]\ntime_zone = "Berlin"\nweekly = ["mon 09:00-10:00"]', "time_zone: is 'Berlin', which is no time zone"),
    ('[objects.schedules.a]\ntime_zone = "../UTC"\nweekly = ["mon 09:00-10:00"]', "which is no time zone"),
    ('[objects.schedules.a]\ntime_zone = "UTC"\nweekly = ["mo 09:00-10:00"]', "weekly[0]: is 'mo 09:00-10:00', which are no hours of a week"),
    ('[objects.schedules.a]\ntime_zone = "UTC"\nweekly = ["mon 09:00-09:00"]', "which is never"),
    ('[objects.schedules.a]\ntime_zone = "UTC"\nweekly = ["mon 09:00-24:01"]', "24:01 is no time of day"),
    ('[objects.schedules.a]\ntime_zone = "UTC"\nweekly = ["mon 09:00-17:00"]\ndates_off = ["x"]', "dates_off[0]: is 'x', which is no date"),
    ('[objects.schedules.a]\nweekly = ["mon 09:00-17:00"]', "objects.schedules.a.time_zone: is missing (for example"),
    ('[objects.protocols.a]\nports = ["tcp:0"]', "objects.protocols.a.ports[0]: is 'tcp:0'"),
    # the rest
    ('[[network_rule]]\nname = "a"\nfrom = ["::/0"]\nto = ["::/0"]\nrelation = "route"\naddress = "192.0.2.5"', "address: is of nat"),
    ('[[network_rule]]\nname = "a"\nfrom = ["::/0"]\nto = ["::/0"]\nrelation = "bridge"', "relation: is \"bridge\", must be 'nat' or 'route'"),
    ("[system]\nftp = {}", "system.ftp: unknown key"),
    ('[[learn]]\nname = "a"\nclients = ["::/0"]', "learn[0].until: is missing"),
    ("rules = 1\n[objects]", "rules: unknown key (did you mean 'rule'?)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_what_does_not_mean_what_it_says_is_refused_with_its_place(
    text: str, expected: str
) -> None:
    found = errors(text if "[objects" in text else OBJECTS + text, lists=LISTS)
    assert expected in "\n".join(found)
    assert all(one.startswith(("policy.toml:", "lists/")) for one in found)


def test_lines_of_a_list_are_named_in_findings() -> None:
    text = '[objects.networks]\na = { file = "lists/a.txt" }\n'
    found = errors(text, lists={"lists/a.txt": "192.0.2.0/24\n# x\n192.0.2.1/24\n"})
    assert found == [
        "lists/a.txt:3: is '192.0.2.1/24', which is not a network (the network is 192.0.2.0/24)"
    ]


def test_rules_of_included_files_stand_before_and_after() -> None:
    before = [("head/1.toml", rule(name='"a"')), ("head/2.toml", rule(name='"b"'))]
    after = [("tail.toml", '[objects.names]\nx = ["x.example.org"]\n' + rule(name='"d"'))]
    found = policy(rule(name='"c"', to='["@x"]'), before=before, after=after)
    assert [one.name for one in found.rules] == ["a", "b", "c", "d"]
    assert found.rules[2].to.texts() == ["x.example.org"]


@pytest.mark.parametrize(
    ("main", "included", "expected"),
    [
        ("", "[system]\n", "policy.d/a.toml:1: system: unknown key"),
        ("", 'include = { after = ["x"] }', "policy.d/a.toml:1: include: unknown key"),
        ("", "[names]\nunderscores = true", "policy.d/a.toml:1: names: unknown key"),
        ("", "[[rule]\n", "policy.d/a.toml:1: not TOML"),
        ("", rule(to='["A"]'), "policy.d/a.toml:5: rule[0].to[0]: is 'A', which no client's"),
        (rule(), rule(), "policy.d/a.toml:2: rule[0].name: the name 'one' is taken by rule[0]"),
        (
            '[objects.names]\na = ["x.example"]',
            '[objects.names]\na = ["y.example"]',
            "policy.d/a.toml:2: objects.names.a: 'a' is defined twice",
        ),
    ],
)
def test_findings_name_the_included_file(main: str, included: str, expected: str) -> None:
    found = errors(main, after=[("policy.d/a.toml", included)])
    assert expected in "\n".join(found)


def test_what_to_read_is_told_from_the_texts() -> None:
    text = 'include = { before = ["a.d"], after = ["b.toml"] }\n' + OBJECTS
    assert find_includes(text) == (["a.d"], ["b.toml"])
    assert list(find_lists(text)) == ["lists/blocked.txt"]
    for wrong in ("x = [", 'include = "a"', "include = { before = 1 }", "objects = 1"):
        assert find_includes(wrong) == ([], [])
        assert list(find_lists(wrong)) == []


def test_rule_whose_lists_are_empty_is_warned_of() -> None:
    text = '[objects.networks]\nnobody = { file = "lists/x.txt" }\n'
    _, findings = read(text + rule(clients='["@nobody"]'), lists={"lists/x.txt": "# none\n"})
    assert findings.errors == []
    assert "clients: is empty" in str(findings.warnings[0])
