"""Groups A to D of the hostile cases against policies of every form, in every entry mode.

``test_entry_hostile`` has the cases against one plain rule; here the same are tried on what else a
policy may say: objects, exceptions, URLs, conditions that a tunnel does not show, learning.
"""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import ipaddress

import pytest

from sluicegate.filterapi import EntryMode
from sluicegate.testing import address_corpus
from tests.flows import entry_kit
from tests.flows.entry_kit import MODES, REFUSED, UNKNOWN, WEB, Ask, Names, proxy_settings, visit

every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(autouse=True, params=entry_kit.CARRIAGES)
def carriage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every case be asked in clear and inside TLS."""
    monkeypatch.setattr(entry_kit, "carriage", request.param)


OBJECTS = """
[objects.networks]
inner = ["10.9.0.0/16", "@one"]
one = ["192.0.2.7"]
documents = ["93.184.216.0/24"]
[objects.names]
sites = ["a.example.org", "*.b.example.org"]
[objects.urls]
pages = ["https://u.example.org/*"]
deep = ["https://d.example.org/x/*"]
"""
TCP = 'protocols = ["tcp"]\n'
FORMS = {
    "except": OBJECTS + f'[[rule]]\nname = "all"\nto = ["*"]\nto_except = ["@sites", "@inner"]\n{TCP}',
    "protocols except": OBJECTS + '[[rule]]\nname = "all"\nto = ["*"]\nprotocols_except = ["@smtp"]\nprotocols = []\n',
    "objects too": OBJECTS + f'[[rule]]\nname = "all"\nto = ["*", "@sites", "@pages"]\n{TCP}',
    "behind a refusal": OBJECTS + f'[[rule]]\nname = "no"\naction = "deny"\nto = ["@sites"]\nprotocols = []\n[[rule]]\nname = "all"\nto = ["*"]\n{TCP}',
    "behind others": OBJECTS + "".join(f'[[rule]]\nname = "r{n}"\nto = ["h{n}.example.org"]\n{TCP}' for n in range(20)) + f'[[rule]]\nname = "all"\nto = ["*"]\n{TCP}',
}  # fmt: skip
each_form = pytest.mark.parametrize("form", FORMS)
ADDRESSES = [case for case in address_corpus() if not case.own and not case.nat64_prefixes]
SPECIAL = [case for case in ADDRESSES if not case.expect.is_public]


@every_mode
@each_form
def test_a_special_addresses_are_refused_whatever_form_a_rule_for_everything_has(
    mode: EntryMode, form: str
) -> None:
    asked = [Ask(mode, case.input) for case in SPECIAL]
    found = visit(*asked, plan=proxy_settings(FORMS[form]))
    assert [reply.code for reply in found.replies] == [REFUSED[mode]] * len(SPECIAL)
    assert (found.dialled, dict(found.asked)) == ([], {})


@every_mode
@each_form
def test_a_names_that_lead_to_special_addresses_are_refused_too(mode: EntryMode, form: str) -> None:
    names = Names()
    for number, case in enumerate(SPECIAL):
        names.put(f"n{number}.example.net", str(ipaddress.ip_address(case.input)))
    asked = [Ask(mode, f"n{number}.example.net") for number in range(len(SPECIAL))]
    found = visit(*asked, plan=proxy_settings(FORMS[form]), names=names)
    assert [reply.code for reply in found.replies] == [REFUSED[mode]] * len(SPECIAL)
    assert found.dialled == []


# what the rule says, what the client asks for, whether it is dialled
NAMED = [
    ('to = ["@inner"]', "10.9.9.9", True),
    ('to = ["@inner"]', "192.0.2.7", True),
    ('to = ["@inner"]', "10.8.9.9", False),
    ('to = ["@inner"]\nto_except = ["10.9.9.9"]', "10.9.9.9", False),
    ('to = ["@inner"]\nto_except = ["10.9.9.0/24"]', "10.9.9.9", False),
    ('to = ["@inner"]\nto_except = ["10.9.9.8"]', "10.9.9.9", True),
    ('to = ["10.0.0.0/8", "64:ff9b::/96"]\nto_except = ["@inner"]', "64:ff9b::a09:909", False),
    ('to = ["10.0.0.0/8", "64:ff9b::/96"]\nto_except = ["@one"]', "64:ff9b::a09:909", True),
    ('to = ["@inner"]', "::ffff:10.9.9.9", False),
    ('to = ["@inner"]', "0x0a.9.9.9", False),
    ('to = ["@inner"]', "010.9.9.9", False),
    ('to = ["*"]\nto_except = ["93.184.216.0/24"]', WEB.host, False),
    ('to = ["*"]\nto_except = ["93.184.217.0/24"]', WEB.host, True),
    ('to = ["@pages"]', WEB.host, False),
    (f'to = ["https://{WEB.host}/*"]', WEB.host, True),
    (f'to = ["https://{WEB.host}/x"]', WEB.host, False),
    (f'to = ["http://{WEB.host}/*"]', WEB.host, False),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(("says", "host", "is_dialled"), NAMED)
def test_a_addresses_are_reached_only_where_objects_and_exceptions_leave_them(
    mode: EntryMode, says: str, host: str, is_dialled: bool
) -> None:
    plan = proxy_settings(f'{OBJECTS}[[rule]]\nname = "some"\n{says}\n{TCP}')
    found = visit(Ask(mode, host), plan=plan, serve=())
    assert bool(found.dialled) is is_dialled
    assert is_dialled or found.reply.code != 0


# what the rule says, the host, whether it is let through
SPELLINGS = [
    ('to = ["@sites"]', "a.example.org", True),
    ('to = ["@sites"]', "A.Example.ORG.", True),
    ('to = ["@sites"]', "x.b.example.org", True),
    ('to = ["@sites"]', "b.example.org", False),
    ('to = ["@sites"]', "xb.example.org", False),
    ('to = ["@sites"]', "a.example.org.evil.example", False),
    ('to = ["@sites"]', "a.example.org..", False),
    ('to = ["@sites"]', "a.example.org\x0b.evil.example", False),
    ('to = ["@sites"]', "evil.example#.b.example.org", False),
    ('to = ["@sites"]', "evil.example@a.example.org", False),
    ('to = ["@sites"]', "a.example.org@evil.example", False),
    ('to = ["@sites"]', "a%2eexample.org", False),
    ('to = ["@sites"]', "\uff41.example.org", True),
    ('to = ["@sites"]', "a\u3002example\u3002org", True),
    ('to = ["@sites"]', "@sites", False),
    ('to = ["*"]\nto_except = ["@sites"]', "a.example.org", False),
    ('to = ["*"]\nto_except = ["@sites"]', "A.EXAMPLE.ORG.", False),
    ('to = ["*"]\nto_except = ["@sites"]', "\uff41.example.org", False),
    ('to = ["*"]\nto_except = ["@sites"]', "x.y.b.example.org", False),
    ('to = ["*"]\nto_except = ["@sites"]', "b.example.org", True),
    ('to = ["*"]\nto_except = ["@sites"]', "aa.example.org", True),
    ('to = ["@pages"]', "u.example.org", True),
    ('to = ["@pages"]', "U.example.org.", True),
    ('to = ["@pages"]', "x.u.example.org", False),
    ('to = ["@deep"]', "d.example.org", False),
    ('to = ["*"]\nto_except = ["@deep"]', "d.example.org", False),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(("says", "host", "passes"), SPELLINGS)
def test_b_spellings_get_around_neither_objects_nor_exceptions(
    mode: EntryMode, says: str, host: str, passes: bool
) -> None:
    names = Names()
    for name in ("a.example.org", "x.b.example.org", "b.example.org", "aa.example.org",
                 "u.example.org", "x.u.example.org", "d.example.org", "x.y.b.example.org"):  # fmt: skip
        names.put(name, WEB.host)
    plan = proxy_settings(f'{OBJECTS}[[rule]]\nname = "some"\n{says}\n{TCP}')
    found = visit(Ask(mode, host), plan=plan, names=names)
    if mode is EntryMode.HTTP_CONNECT and not host.isascii():
        passes = False  # a target is ASCII (RFC 3986): there is no such request
    assert (found.reply.code == 0) is passes
    assert bool(found.asked) is passes
    assert bool(found.dialled) is passes


REFUSAL = '[[rule]]\nname = "no"\naction = "{action}"\n{says}\nprotocols = []\n'
REST = f'[[rule]]\nname = "rest"\nto = ["*"]\n{TCP}'
# what a rule before refuses, what a.example leads to, whether it is reached
LEADS = [
    ('to = ["@sites"]', ["a.example. 60 CNAME x.b.example.org.", "x.b.example.org. 60 A 93.184.216.34"], False),
    ('to = ["@documents"]', ["a.example. 60 A 93.184.216.34"], False),
    ('to = ["@documents"]\nto_except = ["93.184.216.34"]', ["a.example. 60 A 93.184.216.34"], True),
    ('to = ["@documents"]\nto_except = ["93.184.216.35"]', ["a.example. 60 A 93.184.216.34"], False),
    ('to = ["*"]\nto_except = ["a.example"]', ["a.example. 60 CNAME x.b.example.org.", "x.b.example.org. 60 A 93.184.216.34"], True),
    ('to = ["*", "@documents"]\nto_except = ["a.example"]', ["a.example. 60 A 93.184.216.34"], False),
    ('to = ["@sites"]\nclients_except = ["10.0.0.0/8"]', ["a.example. 60 CNAME x.b.example.org.", "x.b.example.org. 60 A 93.184.216.34"], True),
    ('to = ["@sites"]\nenabled = false', ["a.example. 60 CNAME x.b.example.org.", "x.b.example.org. 60 A 93.184.216.34"], True),
    ('to = ["@sites"]\nusers = ["ann"]', ["a.example. 60 CNAME x.b.example.org.", "x.b.example.org. 60 A 93.184.216.34"], False),
    ('to = ["@sites"]\nmethods = ["GET"]', ["a.example. 60 CNAME x.b.example.org.", "x.b.example.org. 60 A 93.184.216.34"], False),
    ('to = ["@documents"]\ncontent_types = ["@application"]', ["a.example. 60 A 93.184.216.34"], False),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(("says", "rows", "passes"), LEADS)
def test_c_what_a_name_leads_to_is_held_against_every_form_of_refusal(
    mode: EntryMode, says: str, rows: list[str], passes: bool
) -> None:
    plan = proxy_settings(OBJECTS + REFUSAL.format(action="deny", says=says) + REST)
    found = visit(Ask(mode, "a.example"), plan=plan, names=Names().put("a.example", *rows))
    assert (found.reply.code == 0) is passes
    assert passes or found.reply.code in {REFUSED[mode], UNKNOWN[mode]}
    assert bool(found.dialled) is passes


@every_mode
def test_c_exception_of_the_rule_that_allows_counts_for_what_a_name_leads_to(
    mode: EntryMode,
) -> None:
    names = Names().put("a.example", WEB.host)
    names.put(
        "c.example", "c.example. 60 CNAME x.b.example.org.", f"x.b.example.org. 60 A {WEB.host}"
    )
    for says, host in [
        ('to_except = ["@documents"]', "a.example"),
        ('to_except = ["@sites"]', "c.example"),
    ]:
        plan = proxy_settings(f'{OBJECTS}[[rule]]\nname = "all"\nto = ["*"]\n{says}\n{TCP}')
        found = visit(Ask(mode, host), plan=plan, names=names)
        assert found.reply.code in {REFUSED[mode], UNKNOWN[mode]}
        assert found.dialled == []


# what the rules say, the port, whether the tunnel is there
TUNNELS = [
    ('to = ["*"]\nprotocols = ["@https"]', 443, True),
    ('to = ["*"]\nprotocols = ["@https"]', 80, False),
    ('to = ["*"]\nprotocols = ["@https", "tcp:8000-8999"]\nprotocols_except = ["tcp:8080"]', 8080, False),
    ('to = ["*"]\nprotocols = []\nprotocols_except = ["@smtp"]', 25, False),
    ('to = ["*"]\nprotocols = ["udp:443"]', 443, False),
    # a tunnel shows no request: a rule about requests does not open one
    ('to = ["*"]\nmethods = ["GET"]\nprotocols = ["tcp"]', 443, False),
    ('to = ["*"]\npaths = ["/*"]\nprotocols = ["tcp"]', 443, False),
    ('to = ["*"]\npaths = [{ pattern = ".*" }]\nprotocols = ["tcp"]', 443, False),
    ('to = ["*"]\ncontent_types = ["text/*"]\nprotocols = ["tcp"]', 443, False),
    ('to = ["https://a.example/x"]\nprotocols = ["tcp"]', 443, False),
    ('to = ["https://a.example/*"]\nprotocols = ["tcp"]', 443, True),
    ('to = ["https://a.example/*"]\nprotocols = ["tcp"]', 8443, False),
    ('to = ["*"]\nexpires = 2001-01-01T00:00:00Z\nprotocols = ["tcp"]', 443, False),
    ('to = ["*"]\nenabled = false\nprotocols = ["tcp"]', 443, False),
    ('to = ["*"]\nclients_except = ["10.0.0.0/8"]\nprotocols = ["tcp"]', 443, False),
    ('to = ["*"]\nusers = ["*"]\nprotocols = ["tcp"]', 443, False),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(("says", "port", "passes"), TUNNELS)
def test_d_tunnels_are_there_only_where_everything_that_a_rule_says_holds(
    mode: EntryMode, says: str, port: int, passes: bool
) -> None:
    names = Names().put("a.example", WEB.host)
    plan = proxy_settings(f'[[rule]]\nname = "some"\n{says}\n')
    found = visit(Ask(mode, "a.example", port), plan=plan, names=names)
    assert (found.reply.code == 0) is passes
    assert (bool(found.asked), bool(found.dialled)) == (passes, passes)


# a rule that refuses by what a tunnel does not show, in front of one that allows
HIDDEN = [
    'to = ["*"]\nmethods = ["POST"]',
    'to = ["a.example"]\npaths = ["/upload/*"]',
    'to = ["*"]\ncontent_types = ["@application"]',
    'to = ["https://a.example/upload/*"]',
    'to = ["*"]\nto_except = ["https://a.example/x"]',
]


@every_mode
@pytest.mark.parametrize("says", HIDDEN)
def test_d_tunnel_in_which_something_refused_could_hide_is_refused(
    mode: EntryMode, says: str
) -> None:
    names = Names().put("a.example", WEB.host)
    plan = proxy_settings(REFUSAL.format(action="deny", says=says) + REST)
    found = visit(Ask(mode, "a.example"), plan=plan, names=names)
    assert (found.reply.code, found.reasons) == (REFUSED[mode], ["cannot-be-judged"])
    assert (found.dialled, dict(found.asked)) == ([], {})


@every_mode
def test_p1_empty_policy_lets_nobody_speak(mode: EntryMode) -> None:
    found = visit(
        Ask(mode, "a.example"), plan=proxy_settings('[objects.names]\nx = ["a.example"]\n')
    )
    assert found.reply.code != 0
    assert (found.dialled, dict(found.asked)) == ([], {})
