"""``sluicegate simulate``: what another policy would have decided about a log."""

from __future__ import annotations

import gzip
import json
import pathlib
from typing import Any

import pytest

from sluicegate.audit import ServiceRecord
from sluicegate.audit.records import Record
from sluicegate.audit.store import LogPosition
from sluicegate.clock import SystemClock
from sluicegate.policy_limits import SIMULATION_GROUPS_MAX
from sluicegate.testing.clock import ManualClock
from tests.unit.inquiry_kit import NOON, POLICY, Decisions, Folder, rule
from tests.unit.store.store_kit import open_store


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Folder:
    return Folder(tmp_path)


def simulated(folder: Folder, policy: str, *records: Record, log: object = None) -> dict[str, Any]:
    if log is None:
        folder.write_log(records)
    new = folder.write_policy(policy, "new.toml")
    more = ("--log", log) if log is not None else ()
    return folder.told("simulate", "--policy", new, *more)


def groups_of(told: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    return [
        (one["change"], one["rule_before"], one["rule_after"], one["count"])
        for one in told["groups"]
    ]


def test_same_policy_changes_nothing(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    told = simulated(
        folder,
        POLICY,
        make("www.example.org:443"),
        make("a.social.example.org:443", "denied", reason="denied-by-rule", rule="no-social"),
        make("192.0.2.10:21", listener="ftp", rule="ftp", reason="published", entry=""),
        make("www.example.org:22", "denied"),
        make("", "denied", client="172.16.0.1:5", reason="client-not-listed", entry=""),
        make("udp-associate", "denied", client="10.0.0.9:7", transport="udp"),
    )
    assert (told["decisions"], told["unchanged"], told["changed"]) == (6, 6, 0)
    assert told["not_replayed"] == {}
    assert told["by_name_only"] == 1


def test_changes_are_grouped_by_the_rules_before_and_after(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    policy = (
        rule("no-web", "www.example.org", action='"deny"')
        + rule("social", "*.social.example.org")
        + rule("all", "*")
    )
    told = simulated(
        folder,
        policy,
        *(make("www.example.org:443") for _ in range(5)),
        *(
            make(f"{n}.social.example.org:443", "denied", reason="denied-by-rule", rule="no-social")
            for n in range(4)
        ),
        make("other.example.org:443"),
        make("192.0.2.10:21", listener="ftp", rule="ftp", reason="published", entry=""),
    )
    assert groups_of(told) == [
        ("now-denied", "web", "no-web", 5),
        ("now-allowed", "no-social", "social", 4),
        ("other-rule", "web", "all", 1),
        ("now-denied", "ftp", "", 1),
    ]
    assert [len(group["examples"]) for group in told["groups"]] == [1, 3, 1, 1]
    first = told["groups"][0]
    assert (first["first"], first["last"]) == (NOON + 1, NOON + 5)


def test_other_filters_of_the_same_rule_are_a_change_when_the_old_policy_is_known(
    folder: Folder,
) -> None:
    policy = POLICY.replace('["ftp_access"]', '["ftp_access", "exe_block"]')
    known, unknown = Decisions(folder.policy_hash()).make, Decisions().make
    published = {"listener": "ftp", "rule": "ftp", "reason": "published", "entry": ""}
    told = simulated(folder, policy, known("x:1", **published), unknown("x:1", **published))
    (group,) = told["groups"]
    assert (group["change"], group["filters_before"], group["filters_after"]) == (
        "other-filters", ["ftp_access"], ["ftp_access", "exe_block"],
    )  # fmt: skip
    assert (told["unchanged"], told["other_policy"]) == (1, 1)


def test_schedules_are_asked_at_the_time_of_the_record(folder: Folder) -> None:
    make = Decisions().make
    office = (
        '[objects.schedules.office]\ntime_zone = "Europe/Berlin"\n'
        'weekly = ["mon-fri 09:00-17:00"]\n' + rule("web", "*", schedule='"office"')
    )
    day = 86400
    times = [NOON, NOON + day, NOON + 3 * day, NOON + 4 * day, NOON + 6 * day, NOON + 6 * day - 7]
    told = simulated(folder, office, *(make("a.example.org:443", time=time) for time in times))
    # Friday is the last; Saturday is not; and a record that comes late has its own time.
    assert groups_of(told) == [("now-denied", "web", "", 1)]
    assert told["unchanged"] == 5


def test_addresses_of_the_record_are_judged_again(folder: Folder) -> None:
    make = Decisions().make
    lines = [
        json.dumps({**_fields(make("in.example.org:443")), "addresses": ["10.7.7.7"]}),
        json.dumps({**_fields(make("in.example.org:443")), "addresses": ["93.184.216.34"]}),
        json.dumps(_fields(make("in.example.org:443"))),
    ]
    folder.log.write_text("".join(f"{line}\n" for line in lines))
    told = simulated(folder, POLICY, log=folder.log)
    (group,) = told["groups"]
    assert (group["change"], group["reason_after"]) == ("now-denied", "address-denied")
    assert (told["unchanged"], told["by_name_only"]) == (2, 1)


def _fields(record: Record) -> dict[str, Any]:
    from sluicegate.audit.lines import encode_record

    fields: dict[str, Any] = json.loads(encode_record(record))
    return fields


NOT_REPLAYED = [
    ({"reason": "limit connections_max", "rule": "web"}, "refused by a limit"),
    ({"reason": "no virus", "filter": "av", "rule": "web"}, "refused by a filter"),
    ({"reason": "host-ipv4-form", "target": "0x7f.1:80"}, "its destination has no reading"),
    ({"reason": "dns-no-such-name: x", "rule": "web"}, "its name could not be looked up"),
    ({"reason": "handshake too slow", "target": ""}, "refused by something else than the policy"),
    ({"listener": "gone"}, "its listener is not in the configuration"),
    ({"client": "nobody"}, "its client is no address"),
    ({"primary": "b-0-0"}, "another connection announced it, and it follows that one"),
    ({"reason": "client-not-listed", "target": ""},
     "its client was turned away before it named a destination"),
    ({"reason": "address-denied: 10.0.0.1 is private", "rule": "web"},
     "refused for what its name led to, which its record does not have"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "why"), NOT_REPLAYED)
def test_what_cannot_be_decided_again_is_counted_with_its_reason(
    folder: Folder, fields: dict[str, Any], why: str
) -> None:
    told = simulated(
        folder, POLICY, Decisions().make(**{"target": "a.b:443", "verdict": "denied", **fields})
    )
    assert told["not_replayed"] == {why: 1}
    assert told["unchanged"] + told["changed"] == 0


def test_users_have_the_groups_of_the_users_file_and_nobody_is_given_any(folder: Folder) -> None:
    make = Decisions().make
    told = simulated(
        folder,
        rule("web", "*", users='["group:staff"]'),
        make("a.example.org:443", user="bob"),
        make("a.example.org:443", user="eve"),
        make("a.example.org:443"),
    )
    assert told["unchanged"] == 1
    assert groups_of(told) == [("now-denied", "web", "", 1)]
    assert list(told["not_replayed"].values()) == [1]


def test_lines_that_are_no_decisions_are_passed_over(folder: Folder) -> None:
    make = Decisions().make
    folder.write_log([make("a.example.org:443"), ServiceRecord(time=NOON, event="ready")])
    with folder.log.open("ab") as log:
        log.write(b'not json decision\n{"kind":"decision","verdict":"maybe","time":1}\n')
        log.write(b'{"kind":"decision","verdict":"denied","time":"x"}\n{"kind":"decision"')
    assert simulated(folder, POLICY, log=folder.log)["decisions"] == 1


def test_rotated_and_compressed_files_are_read_oldest_first(folder: Folder) -> None:
    make = Decisions().make
    oldest = folder.write_log([make("a.example.org:443")], "old")
    folder.log.with_name("records.jsonl.2.gz").write_bytes(gzip.compress(oldest.read_bytes()))
    folder.write_log([make("a.example.org:443")], "records.jsonl.1")
    folder.write_log([make("a.example.org:443")])
    new = folder.write_policy(POLICY, "new.toml")
    assert folder.told("simulate", "--policy", new)["decisions"] == 3
    folder.log.with_name("records.jsonl.2.gz").write_bytes(b"\x1f\x8bnonsense")
    result = folder.invoke("simulate", "--policy", new)
    assert result.exit_code == 2
    assert "records.jsonl.2.gz: cannot be read" in result.stderr


def test_change_is_an_exit_code_on_demand(folder: Folder) -> None:
    folder.write_log([Decisions().make("a.example.org:443")])
    same = folder.write_policy(POLICY.replace('name = "web"', 'name = "renamed"'), "same.toml")
    other = folder.write_policy(rule("web", "b.example.org"), "other.toml")
    flag = "--fail-on-change"
    assert folder.invoke("simulate", "--policy", same, flag).exit_code == 0
    assert folder.invoke("simulate", "--policy", other, flag).exit_code == 1
    assert folder.invoke("simulate", "--policy", other).exit_code == 0
    wrong = folder.write_policy("[[rule]\n", "wrong.toml")
    assert folder.invoke("simulate", "--policy", wrong, flag).exit_code == 2


def test_text_says_what_changes_and_nothing_of_a_client_reaches_the_terminal_raw(
    folder: Folder,
) -> None:
    hostile = "a\x1b[2Jb\u202e\n\u2028.example.org:443"
    make = Decisions().make
    folder.write_log([
        make("www.example.org:443", rule="w\x1b[1meb"),
        make(hostile, "denied", reason="host-\x1b[3m-form", user="\x07"),
        make("www.example.org:443", rule=hostile, user="\x1b]0;x\x07", client="10.1.2.3:5"),
    ])  # fmt: skip
    new = folder.write_policy(rule("none", "b.example.org"), "new.toml")
    said = folder.invoke("simulate", "--policy", new).stdout
    assert "allowed then, refused by this policy: 2" in said
    assert "not decided again: 1" in said
    assert [one for one in said if not one.isprintable() and one != "\n"] == []


def test_since_leaves_out_what_is_older(folder: Folder) -> None:
    folder.write_log([Decisions().make("a.example.org:443", time=5.0)])
    new = folder.write_policy(POLICY, "new.toml")
    assert folder.told("simulate", "--policy", new, "--since", "1d")["decisions"] == 0
    assert folder.invoke("simulate", "--policy", new, "--since", "soon").exit_code == 2


def test_groups_are_bounded_and_every_record_is_counted(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SIMULATION_GROUPS_MAX > 100
    monkeypatch.setattr("sluicegate.app.inquiry.simulation.SIMULATION_GROUPS_MAX", 2)
    monkeypatch.setattr("sluicegate.app.inquiry.simulation.SIMULATION_ANSWERS_MAX", 2)
    make = Decisions().make
    records = [make(f"n{n}.example.org:443", rule=f"r{n}") for n in range(7)]
    told = simulated(folder, rule("none", "b.example.org"), *records)
    assert sorted(group["count"] for group in told["groups"]) == [1, 1, 5]
    assert told["changed"] == 7


def test_changes_are_counted_by_client(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    folder.write_log(make("a.example.org:443", client=f"10.0.0.{1 + n % 2}:9") for n in range(3))
    told = folder.told("simulate", "--policy", folder.write_policy("", "new.toml"))
    assert told["clients"] == [
        {"client": "10.0.0.1", "changes": {"now-denied": 2}},
        {"client": "10.0.0.2", "changes": {"now-denied": 1}},
    ]
    assert (told["is_complete"], told["first"], told["last"]) == (True, NOON + 1, NOON + 3)


def test_reading_ends_when_time_is_up_and_says_how_far_it_came(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ticking(SystemClock):
        ticks = 0.0

        def monotonic(self) -> float:
            Ticking.ticks += 1.0
            return Ticking.ticks

    monkeypatch.setattr("sluicegate.cli.simulate.SystemClock", Ticking)
    make = Decisions(folder.policy_hash()).make
    folder.write_log(make("a.example.org:443") for _ in range(9))
    new = folder.write_policy("", "new.toml")
    told = folder.told("simulate", "--policy", new, "--seconds-max", "3")
    assert (told["decisions"], told["is_complete"], told["last"]) == (3, False, NOON + 3)


def test_store_is_read_where_the_gate_has_one(folder: Folder) -> None:
    folder.config.write_text('[log]\nstore = "sqlite"\n' + folder.config.read_text())
    make = Decisions(folder.policy_hash()).make
    records = [make("a.example.org:443") for _ in range(3)]
    path = folder.write_log(records)
    store = open_store(folder.log.parent / "records", ManualClock(wall=NOON))
    lines = path.read_bytes().splitlines()
    store.append(lines, LogPosition(path.stat().st_ino, path.stat().st_size))
    store.close()
    path.write_bytes(b"x" * path.stat().st_size)  # what is stored is not read from there again
    told = folder.told("simulate", "--policy", folder.write_policy("", "new.toml"), "--since", "1d")
    assert groups_of(told) == [("now-denied", "web", "", 3)]


def test_proposed_texts_are_tried_in_place_of_those_on_disk(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    folder.write_log([make("a.example.org:443")])
    proposed = folder.write_policy(json.dumps({"policy.toml": ""}), "proposed.json")
    told = folder.told("simulate", "--proposed", proposed)
    assert groups_of(told) == [("now-denied", "web", "", 1)]


@pytest.mark.parametrize("arguments", [(), ("--policy", "policy.toml", "--proposed", "-")])
def test_exactly_one_policy_is_tried(folder: Folder, arguments: tuple[str, ...]) -> None:
    named = [str(folder.path / one) if one.endswith("toml") else one for one in arguments]
    result = folder.invoke("simulate", *named)
    assert result.exit_code == 2
    assert "--proposed" in result.stderr
