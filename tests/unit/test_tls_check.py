"""What rules say of ClientHellos: tables, defaults, what is refused at load, what is hashed."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import re

import pytest

from sluicegate.names import canonical_host
from sluicegate.policy import Policy, PolicySnapshot
from sluicegate.policy.changes import compare_policies
from sluicegate.policy.tls_check import (
    TLS_MEANINGS,
    EchAnswer,
    HelloFacts,
    OddAnswer,
    SniCheck,
    TlsCheck,
    judge_hello,
)
from sluicegate.protocols.tls_hello import EchKind, TlsFault
from tests.repo.source_tree import DOCS
from tests.unit.policy_kit import errors, policy, rule

STRICT = TlsCheck(ports=(443,))


def publish(tls: str) -> str:
    keys = f"tls = {tls}\n" if tls else ""
    return f'[[publish]]\nname = "p"\nlistener = "web"\nserver = "192.0.2.1:8443"\nclients = ["10.0.0.0/8"]\n{keys}'


def check_of(text: str) -> TlsCheck | None:
    return policy(text).all_rules[0].tls


CHECKS: list[tuple[str, str, TlsCheck | None]] = [
    ("443 is held to everything", rule(), STRICT),
    ("another port to nothing", rule(protocols='["tcp:8443"]'), None),
    ("datagrams to nothing", rule(protocols='["udp:443"]'), None),
    ("@https", rule(protocols='["@https"]'), STRICT),
    ("all ports, with 443", rule(protocols='["tcp"]'), STRICT),
    ("off", rule(tls='"off"'), None),
    ("off, as a table", rule(tls="{ check = false }"), None),
    ("on, as a table", rule(tls="{}"), STRICT),
    ("one key", rule(tls='{ ech = "outer" }'), TlsCheck((443,), ech=EchAnswer.OUTER)),
    ("every key", rule(tls='{ ports = [443], sni = "any", without_sni = "allow", address_as_sni = "allow", ech = "outer", not_tls = "allow", version_min = "1.2" }'),
     TlsCheck((443,), SniCheck.ANY, OddAnswer.ALLOW, OddAnswer.ALLOW, EchAnswer.OUTER, OddAnswer.ALLOW, 0x0303)),
    ("other ports", rule(protocols='["tcp:8000-8999"]', tls="{ ports = [8443, 443, 8443] }"), TlsCheck((8443,))),
    ("a rule that denies", rule(action='"deny"'), None),
    ("off in general", 'tls = "off"\n' + rule(), None),
    ("off in general, and a rule that wants it", 'tls = "off"\n' + rule(tls="{}"), STRICT),
    ("in general", '[tls]\nech = "outer"\nports = [443, 8443]\n' + rule(protocols='["tcp"]'), TlsCheck((443, 8443), ech=EchAnswer.OUTER)),
    ("in general, and a rule that says it itself", '[tls]\nech = "outer"\nnot_tls = "allow"\n' + rule(tls='{ ech = "refuse" }'),
     TlsCheck((443,), not_tls=OddAnswer.ALLOW)),
    ("off in general, whose other keys hold", '[tls]\ncheck = false\nech = "outer"\n' + rule(tls="{}"), TlsCheck((443,), ech=EchAnswer.OUTER)),
    ("a publication that says nothing", publish(""), None),
    ("a publication that says nothing, in general on", "[tls]\ncheck = true\n" + publish(""), None),
    ("a publication, off", publish('"off"'), None),
    ("a publication of any name", publish('{ sni = "any" }'), TlsCheck(sni=SniCheck.ANY)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "check"), [case[1:] for case in CHECKS], ids=[case[0] for case in CHECKS]
)
def test_what_rules_want(text: str, check: TlsCheck | None) -> None:
    assert check_of(text) == check


def test_publication_names_its_server() -> None:
    found = check_of(publish('{ names = ["a.example.org", "*.b.example.org"] }'))

    assert found is not None
    assert list(map(str, found.names)) == ["a.example.org", "*.b.example.org"]
    assert found.covers(8443)


WRONG: list[tuple[str, str]] = [
    (rule(tls='"on"'), "tls: is 'on', must be a table, or 'off' (for example { ech = \"outer\" })"),
    (rule(tls="true"), "tls: is true, must be a table"),
    (rule(tls='{ sni = "same" }'), "tls.sni: is \"same\", must be 'match' or 'any'"),
    (rule(tls='{ ech = "allow" }'), "tls.ech: is \"allow\", must be 'refuse' or 'outer'"),
    (rule(tls='{ version_min = "1.4" }'), 'tls.version_min: is "1.4"'),
    (rule(tls="{ ports = [] }"), "tls.ports: is [], must be a list of at least 1"),
    (rule(tls="{ ports = [0] }"), "tls.ports[0]: is 0, must be at least 1"),
    (rule(tls="{ snl = 1 }"), "tls.snl: unknown key (did you mean 'sni'?)"),
    (rule(tls='{ names = ["a.example.org"] }'), "tls.names: unknown key"),
    (rule(tls="{ ports = [8443] }"), "tls: is about connections to 8443, and the rule allows none there"),
    (rule(protocols='["tcp:8443"]', tls="{}"), "tls: is about connections to 443, and the rule allows none there"),
    (rule(action='"deny"', tls='"off"'), "tls: a rule that denies has no connections"),
    (publish("{}"), "tls.names: is missing: nobody asks for a published server by name"),
    (publish('{ names = ["A.example.org"] }'), "tls.names[0]: 'A.example.org' is not canonical"),
    (publish('{ names = ["192.0.2.1"] }'), "tls.names[0]: '192.0.2.1' is no name"),
    (publish('{ names = ["a..b"] }'), "tls.names[0]: the name has two dots in a row"),
    (publish("{ ports = [443] }"), "tls.ports: unknown key"),
    (publish('{ sni = "any" }') + "http = true\n", "tls: is about TLS that passes as it is, and requests are read here"),
    ('[tls]\nnames = ["a"]\n', "tls.names: unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    found = errors(text)

    assert len(found) == 1
    assert message in found[0]


def test_included_files_have_no_general_table() -> None:
    found = errors("", before=[("a.toml", "[tls]\n")])

    assert len(found) == 1
    assert "tls: unknown key" in found[0]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (rule(), rule(tls="{}"), True),
        (rule(), rule(tls='"off"'), False),
        (rule(), rule(tls='{ ech = "outer" }'), False),
        ('[tls]\nech = "outer"\n' + rule(), rule(tls='{ ech = "outer" }'), True),
        ('[tls]\nversion_min = "1.2"\n' + rule(protocols='["tcp:22"]'), rule(protocols='["tcp:22"]'), True),
        (publish('{ names = ["a.example.org", "b.example.org"] }'), publish('{ names = ["b.example.org", "a.example.org"] }'), True),
        (publish('{ names = ["a.example.org"] }'), publish('{ names = ["b.example.org"] }'), False),
    ],
)  # fmt: skip
def test_hash_covers_what_is_wanted(one: str, other: str, is_same: bool) -> None:
    before, after = policy(one), policy(other)

    assert (PolicySnapshot(before).hash == PolicySnapshot(after).hash) is is_same
    assert bool(compare_policies(before, after).changed) is not is_same


def test_learning_looks_at_nothing() -> None:
    text = '[[learn]]\nname = "l"\nclients = ["10.0.0.0/8"]\nuntil = 2026-12-05T18:00:00Z\n'
    found: Policy = policy(text)

    assert found.learn[0].rule.tls is None


@pytest.mark.parametrize("fault", TlsFault)
def test_every_code_of_the_reader_has_a_meaning(fault: TlsFault) -> None:
    assert TLS_MEANINGS[fault.code] == fault.hint


def test_every_reason_has_a_meaning() -> None:
    host = canonical_host("www.example.org")
    facts = [
        HelloFacts(),
        HelloFacts(True),
        HelloFacts(True, "b.example.org"),
        HelloFacts(True, "192.0.2.1"),
        HelloFacts(True, "a b"),
        HelloFacts(True, "www.example.org", EchKind.OUTER),
    ]
    reasons = [judge_hello(STRICT, one, host).reason for one in facts]
    newest = TlsCheck(version_min=0x0304)
    reasons.append(
        judge_hello(newest, HelloFacts(True, "www.example.org", None, 0x0303), host).reason
    )

    assert all(reason.partition(":")[0] in TLS_MEANINGS for reason in reasons)
    assert len({reason.partition(":")[0] for reason in reasons}) == len(reasons)


def test_reference_lists_every_reason_with_its_meaning() -> None:
    page = (DOCS / "reference" / "log.md").read_text(encoding="utf-8")

    assert [row for row in TLS_MEANINGS.items() if "| `{}` | {} |".format(*row) not in page] == []


def test_policies_on_the_page_say_what_they_mean() -> None:
    page = (DOCS / "howto" / "judge-tls.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    whole = [block for block in blocks if "[[" in block and "[resolver]" not in block]
    keys = [line for block in blocks if "[" not in block for line in block.splitlines()]
    found = [check_of(block) for block in whole]
    found += [check_of(rule(tls=key.partition("= ")[2].partition(" #")[0])) for key in keys]

    assert found == [
        STRICT,
        TlsCheck((993, 465)),
        TlsCheck((443,), without_sni=OddAnswer.ALLOW),
        TlsCheck(version_min=0x0303, names=found[3].names if found[3] else ()),
        TlsCheck((443,), not_tls=OddAnswer.ALLOW),
        None,
    ]
    assert [block for block in blocks if block.startswith("[tls]")] == [
        '[tls]\nech = "outer"                # for every rule that does not say it itself\n'
    ]


def test_underscores_are_compared_as_they_are() -> None:
    host = canonical_host("a_b.example.org", allow_underscore=True)

    assert not judge_hello(STRICT, HelloFacts(True, "A_b.example.org"), host).is_refusal
    assert judge_hello(STRICT, HelloFacts(True, "a-b.example.org"), host).is_refusal
