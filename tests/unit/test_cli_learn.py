"""``sluicegate learn``: rules from evidence, and that they allow the evidence and nothing else."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import pathlib
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.app.inquiry.asked import Asked
from sluicegate.app.inquiry.evidence import Evidence
from sluicegate.app.inquiry.offline_gate import OfflineGate
from sluicegate.app.inquiry.past import PastDecision, ask_again
from sluicegate.app.inquiry.proposal import propose, write_rules
from sluicegate.app.load import load
from sluicegate.audit.lines import encode_record
from sluicegate.audit.query import LogLine
from sluicegate.audit.records import DecisionRecord
from sluicegate.documents import Findings
from tests.unit.inquiry_kit import NOON, POLICY, Decisions, Folder


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Folder:
    return Folder(tmp_path)


LEARNED = {"reason": "learning", "rule": "learn:runner"}


def proposed(folder: Folder, *records: DecisionRecord, arguments: tuple[str, ...] = ()) -> str:
    folder.write_log(records)
    result = folder.invoke("learn propose", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def rules_of(folder: Folder, text: str) -> list[tuple[Any, ...]]:
    """Read a proposal behind the policy, and return what its rules say."""
    folder.write_policy(POLICY + text, "new.toml")
    gate = gate_of(folder.config, folder.path / "new.toml")
    return [
        (
            [str(one) for one in rule.clients],
            rule.to.texts(),
            [str(one) for one in rule.protocols],
            rule.users,
        )
        for rule in gate.policy.policy.rules
        if rule.name.startswith("learned-")
    ]


def gate_of(config: pathlib.Path, policy: pathlib.Path) -> OfflineGate:
    findings = Findings()
    loaded = load(config, findings, policy_path=policy)
    assert [str(error) for error in findings.errors] == []
    assert loaded is not None
    return OfflineGate(loaded)


def test_clients_with_the_same_wishes_share_a_rule_and_ports_are_merged(folder: Folder) -> None:
    make = Decisions().make
    text = proposed(
        folder,
        *(
            make(f"{host}.example.org:{port}", client=f"10.9.0.{client}:5", **LEARNED)
            for host, port, client in itertools.product("ab", (22, 8000, 8001, 8002), (1, 2))
        ),
        make("c.example.org:22", client="10.9.0.1:5", **LEARNED),
    )
    assert rules_of(folder, text) == [
        (
            ["10.9.0.1/32", "10.9.0.2/32"],
            ["a.example.org", "b.example.org"],
            ["tcp:22", "tcp:8000-8002"],
            None,
        ),
        (["10.9.0.1/32"], ["c.example.org"], ["tcp:22"], None),
    ]
    assert "# 16 times, by 2 clients, 2026-12-01 12:00 UTC to 2026-12-01 12:00 UTC" in text
    assert "#   a.example.org: 8 times, from 10.9.0.1, 10.9.0.2" in text
    assert 'owner = ""' in text


def test_users_datagrams_and_addresses_have_rules_of_their_own(folder: Folder) -> None:
    make = Decisions().make
    text = proposed(
        folder,
        make("a.example.org:53", transport="udp", **LEARNED),
        make("udp-associate", transport="udp", **LEARNED),
        make("a.example.org:22", user="bob", **LEARNED),
        make("93.184.216.34:22", **LEARNED),
        make("[2606:4700::1]:22", **LEARNED),
    )
    found = rules_of(folder, text)
    assert (["10.1.2.3/32"], ["a.example.org"], ["udp:53"], None) in found
    assert (["10.1.2.3/32"], ["a.example.org"], ["tcp:22"], ("bob",)) in found
    assert (["10.1.2.3/32"], ["2606:4700::1/128", "93.184.216.34/32"], ["tcp:22"], None) in found
    assert len(found) == 3
    assert text.count("# Named as addresses: nothing says what is behind them.") == 1


def test_wildcards_are_suggested_in_comments_and_never_over_a_public_suffix(
    folder: Folder,
) -> None:
    make = Decisions().make
    names = [f"{n}.{parent}:22" for n in "abc" for parent in ("files.example.org", "co.uk")]
    text = proposed(folder, *(make(name, **LEARNED) for name in [*names, "x.y.test:22"]))
    assert '# 3 names below files.example.org; if all of them are meant: to = ["*.files' in text
    assert "*.co.uk" not in text
    assert "*.y.test" not in text
    assert not any("*" in one for _, to, _, _ in rules_of(folder, text) for one in to)


def test_what_was_refused_is_evidence_on_demand_only_and_never_what_is_not_public(
    folder: Folder,
) -> None:
    make = Decisions().make
    records = (
        make("a.example.org:22", "denied"),
        make("b.example.org:22", "denied", reason="denied-by-rule", rule="no-social"),
        make("169.254.169.254:80", "denied"),
        make("0x7f.1:22", "denied"),
    )
    assert rules_of(folder, proposed(folder, *records)) == []
    text = proposed(folder, *records, arguments=("--denied",))
    assert [to for _, to, _, _ in rules_of(folder, text)] == [["a.example.org"]]
    assert "# once, 1 of them refused, by 1 client, " in text
    left_out = folder.invoke("learn propose", "--denied").stderr
    assert "an address that is not public: write such a rule by hand" in left_out
    assert "1 rules from 1 decisions" in left_out


def test_clients_and_time_choose_the_evidence(folder: Folder) -> None:
    make = Decisions().make
    records = (
        make("a.example.org:22", **LEARNED),
        make("b.example.org:22", client="10.9.0.1:5", **LEARNED),
    )
    text = proposed(folder, *records, arguments=("--client", "10.9.0.0/16"))
    assert [to for _, to, _, _ in rules_of(folder, text)] == [["b.example.org"]]
    assert folder.invoke("learn propose", "--client", "10.9.0.1/16").exit_code == 2


def test_output_is_a_new_file_and_no_old_one_is_written_over(folder: Folder) -> None:
    folder.write_log([Decisions().make("a.example.org:22", **LEARNED)])
    path = folder.path / "learned.toml"
    assert folder.invoke("learn propose", "-o", path).stdout == ""
    assert "learned-a.example.org" in path.read_text()
    again = folder.invoke("learn propose", "-o", path)
    assert (again.exit_code, "there is such a file already" in again.stderr) == (2, True)


def test_names_of_rules_are_not_taken_twice(folder: Folder) -> None:
    folder.write_policy(POLICY.replace("no-social", "learned-a.example.org"))
    make = Decisions().make
    text = proposed(
        folder,
        make("a.example.org:22", **LEARNED),
        make("a.example.org:23", client="10.9.9.9:1", **LEARNED),
    )
    assert [line for line in text.splitlines() if line.startswith("name")] == [
        'name = "learned-a.example.org-2"',
        'name = "learned-a.example.org-3"',
    ]


def test_hostile_records_put_nothing_into_the_proposal(folder: Folder) -> None:
    hostile = 'x"]\n[[rule]]\nname = "evil"\x1b[2J'
    make = Decisions().make
    text = proposed(
        folder,
        make(hostile, **LEARNED),
        make("a.example.org:22", user=hostile, **LEARNED),
        make("a.example.org:22", client=hostile, **LEARNED),
        make("a.example.org:22", listener=hostile, **LEARNED),
    )
    assert "evil" not in text
    assert rules_of(folder, text) == []


def test_more_than_anybody_would_review_is_refused_with_a_cure(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.app.inquiry.evidence.LEARNED_DESTINATIONS_MAX", 1)
    make = Decisions().make
    folder.write_log([make("a.b:1", **LEARNED), make("a.b:2", **LEARNED)])
    result = folder.invoke("learn propose")
    assert (result.exit_code, "--client" in result.stderr) == (1, True)


def test_status_shows_what_learns_and_until_when(folder: Folder) -> None:
    assert "nothing learns" in folder.invoke("learn status").stdout
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)
    folder.write_policy(
        f'{POLICY}[[learn]]\nname = "runner"\nclients = ["10.9.0.0/16"]\n'
        f"until = {until:%Y-%m-%dT%H:%M:%SZ}\n"
    )
    said = folder.invoke("learn status").stdout
    assert "runner" in said
    assert "for 1 d 23 h more" in said
    told = folder.told("learn status")
    assert (told["running"], told["entries"][0]["clients"]) == (False, ["10.9.0.0/16"])


# -- the proposal allows the evidence, and nothing else by name -----------------------------------

CLIENTS = ("10.9.0.1", "10.9.0.2", "2001:db8::7")
HOSTS = ("a.example.net", "b.example.net", "c.d.example.net", "93.184.216.34", "[2606:4700::1]")
PORTS = (22, 23, 24, 8080)
PROTOCOLS = ("", "udp")
USERS = ("", "bob")

wishes = st.sets(
    st.tuples(
        st.sampled_from(CLIENTS),
        st.sampled_from(HOSTS),
        st.sampled_from(PORTS),
        st.sampled_from(PROTOCOLS),
        st.sampled_from(USERS),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(wishes)
def test_proposal_allows_all_of_its_evidence_and_nothing_else(
    wanted: set[tuple[str, str, int, str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(pathlib.Path(name))
        empty = folder.write_policy("", "empty.toml")
        make = Decisions().make
        everything = {
            wish: make(
                f"{wish[1]}:{wish[2]}",
                client=f"[{wish[0]}]:5" if ":" in wish[0] else f"{wish[0]}:5",
                transport=wish[3],
                user=wish[4],
                **LEARNED,
            )
            for wish in itertools.product(CLIENTS, HOSTS, PORTS, PROTOCOLS, USERS)
        }
        gate = gate_of(folder.config, empty)
        evidence = Evidence(gate)
        for wish in wanted:
            evidence.take(past_of(everything[wish]))
        text = "\n".join(write_rules(propose(evidence.seen), (), NOON))
        after = gate_of(folder.config, folder.write_policy(text, "proposed.toml"))
        for wish, record in everything.items():
            asked = ask_again(past_of(record), after)
            assert isinstance(asked, Asked)
            # A rule for whoever comes from an address is also for users who come from it.
            is_meant = wish in wanted or (*wish[:4], "") in wanted
            assert after.decide(asked).is_allowed == is_meant, (wish, text)


def past_of(record: DecisionRecord) -> PastDecision:
    raw = encode_record(record)
    past = PastDecision.of(LogLine(raw, json.loads(raw)))
    assert past is not None
    return past
