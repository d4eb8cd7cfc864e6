"""``sluicegate why``: what was decided, by whom, and what the policy says of it now."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from sluicegate.audit import (
    AlertRecord,
    ConnectionRecord,
    FilterFailureRecord,
    LimitRecord,
    NoteRecord,
    TransferRecord,
)
from sluicegate.policy_limits import HISTORY_RECORDS_MAX
from tests.unit.inquiry_kit import NOON, POLICY, Decisions, Folder, rule


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Folder:
    return Folder(tmp_path)


def end(connection: str, **fields: Any) -> ConnectionRecord:
    known: dict[str, Any] = {
        "time": NOON + 9, "connection": connection, "session": "s-1", "client": "10.1.2.3:5",
        "listener": "proxy", "rule": "web", "server": "93.184.216.34:443", "started": NOON,
        "duration_s": 1.0, "outcome": "released", "reason": "",
    }  # fmt: skip
    return ConnectionRecord(**{**known, **fields})


def transfer(connection: str, **fields: Any) -> TransferRecord:
    known: dict[str, Any] = {
        "time": NOON + 8, "connection": connection, "session": "s-1", "client": "10.1.2.3:5",
        "rule": "ftp", "name": "setup.exe", "direction": "download", "protocol": "ftp",
        "verdict": "refused", "reason": "Windows (PE) executable", "bytes": 300,
        "filter": "exe_block",
    }  # fmt: skip
    return TransferRecord(**{**known, **fields})


def test_connection_is_explained_by_the_policy_that_decided(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    folder.write_log([
        make("a.example.org:443"),
        make("a.social.example.org:443", "denied", reason="denied-by-rule", rule="no-social"),
        make("b.example.org:443"),
    ])  # fmt: skip
    told = folder.told("why", "b-0-2")
    assert (told["decision"]["rule"], told["cause"]) == ("no-social", "policy")
    assert not told["policy_changed"]
    assert told["explanation"]["rule"]["name"] == "no-social"
    assert told["explanation"]["at"] == NOON + 2
    said = folder.invoke("why", "b-0-2").stdout
    assert "denied on " in said
    assert "The policy is the same now." in said


def test_policy_that_has_changed_since_is_said_so(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    folder.write_log([make("a.example.org:443", session="s-1"), end("b-0-1")])
    folder.write_policy(rule("other", "b.example.org"))
    told = folder.told("why", "s-1")
    assert told["policy_changed"]
    assert told["policy_then"] != told["policy_now"]
    assert told["explanation"]["reason"] == "no-rule"
    assert told["explanation"]["before"][0]["rule"] == "other"
    assert "The policy has changed since" in folder.invoke("why", "b-0-1").stdout


def test_address_that_was_dialled_is_judged_again(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    folder.write_log([
        make("in.example.org:443"),
        end("b-0-1", server="10.9.9.9:443"),
        make("in.example.org:443"),
        end("b-0-2"),
    ])  # fmt: skip
    inner = folder.told("why", "b-0-1")["explanation"]
    assert (inner["allowed"], inner["lookup"]["addresses"][0]["address_class"]) == (
        False,
        "private",
    )
    outer = folder.told("why", "b-0-2")["explanation"]
    assert (outer["allowed"], outer["lookup"]["addresses"][0]["address"]) == (True, "93.184.216.34")


def test_client_means_its_last_decision_and_last_refusal_whatever_refused_it(
    folder: Folder,
) -> None:
    make = Decisions(folder.policy_hash()).make
    folder.write_log([
        make("a.b:80", "denied"),
        make("a.b:80", "denied", client="10.1.2.30:7"),
        make("192.0.2.10:21", listener="ftp", rule="ftp", reason="published", entry=""),
        transfer("b-0-3"),
        make("a.example.org:443", client="[2001:db8::7]:5"),
        make("a.example.org:443"),
    ])  # fmt: skip
    assert folder.told("why", "10.1.2.3")["connection"] == "b-0-5"
    assert folder.told("why", "2001:db8:0::7")["connection"] == "b-0-4"
    last = folder.told("why", "--last-refusal")
    assert (last["connection"], last["records"][0]["filter"]) == ("b-0-3", "exe_block")
    other = folder.told("why", "--last-refusal", "--client", "10.1.2.30")
    assert other["connection"] == "b-0-2"


def test_objects_limits_failures_and_ends_are_told(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    folder.write_log([
        LimitRecord(time=NOON, limit="connections_max", bound=160, count=3, client="10.1.2.3:5"),
        make("192.0.2.10:21", "denied", listener="ftp", rule="ftp",
             reason="limit connections_max", entry=""),
        make("192.0.2.10:21", listener="ftp", rule="ftp", reason="published", entry=""),
        transfer("b-0-2"),
        FilterFailureRecord(
            time=NOON, filter="av", cause="down", action="refused", connection="b-0-2"
        ),
        NoteRecord(time=NOON, filter="av", message="odd", facts={"connection": "b-0-2"}),
        end("b-0-3", primary="b-0-2", listener="ftp"),
        end("b-0-2", listener="ftp", outcome="refused", reason="filter failure: av", filter="av"),
    ])  # fmt: skip
    limited = folder.invoke("why", "b-0-1").stdout
    assert "connections_max (160), 3 times" in limited
    assert "It was a limit that refused it, not the policy." in limited
    said = folder.invoke("why", "b-0-2").stdout
    for text in (
        "setup.exe (download, ftp, 300 B held): refused by exe_block: Windows (PE) executable",
        "av: down (refused)",
        "av: odd",
        "announced  released",
        "end        refused by av: filter failure: av",
        "filters    ftp_access (filter)",
    ):
        assert text in said


def test_alert_is_told_with_the_connection_that_raised_it_and_leads_to_it(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    raised = AlertRecord(
        time=NOON + 10, alert="malware-found", event="raised", severity="error", raising="a-1-1",
        message="malware was found", client="10.1.2.3:5",
        facts={"connection": "b-0-1", "reason": "malware: EICAR"},
    )  # fmt: skip
    folder.write_log([make("a.example.org:443"), end("b-0-1"), raised, make("b.example.org:443")])
    said = folder.invoke("why", "b-0-1").stdout
    assert "malware-found raised: malware was found (a-1-1)" in said
    assert folder.told("why", "a-1-1")["connection"] == "b-0-1"


def test_record_that_cannot_be_asked_about_again_is_shown_with_the_reason(folder: Folder) -> None:
    make = Decisions().make
    folder.write_log([make("0x7f.1:80", "denied", reason="host-ipv4-form")])
    told = folder.told("why", "b-0-1")
    assert (told["explanation"], told["not_explained"]) == (None, "its destination has no reading")
    folder.write_log([make("udp-associate", transport="udp"), make("", "denied", listener="gone")])
    assert "no destination" in folder.told("why", "b-0-2")["not_explained"]
    assert "nothing: its listener is not" in folder.invoke("why", "b-0-3").stdout


def test_schedule_that_has_ended_is_said_to_count_now(folder: Folder) -> None:
    expired = rule("web", "*", expires="2026-12-02T00:00:00Z")
    folder.write_policy(expired)
    make = Decisions(folder.policy_hash()).make
    folder.write_log([make("a.example.org:443", time=NOON)])
    told = folder.told("why", "b-0-1")
    assert told["explanation"]["allowed"]


def test_many_records_of_one_connection_are_counted_when_they_are_not_shown(
    folder: Folder,
) -> None:
    make = Decisions().make
    count = HISTORY_RECORDS_MAX + 5
    folder.write_log([make("x:1", listener="ftp"), *(transfer("b-0-1") for _ in range(count))])
    told = folder.told("why", "b-0-1")
    assert (len(told["records"]), told["records_left_out"]) == (HISTORY_RECORDS_MAX, 5)
    assert "5 earlier records are not shown" in folder.invoke("why", "b-0-1").stdout


def test_what_the_log_does_not_have_is_an_error_with_a_cure(folder: Folder) -> None:
    folder.write_log([Decisions().make("a.b:443")])
    for arguments in (["b-0-9"], ["10.0.0.9"], ["--last-refusal"]):
        result = folder.invoke("why", *arguments)
        assert result.exit_code == 1
        assert "older files are named with --log" in result.stderr
    assert folder.invoke("why").exit_code == 2
    assert folder.invoke("why", "--last-refusal", "--client", "x").exit_code == 2
    folder.log.unlink()
    result = folder.invoke("why", "b-0-9")
    assert (result.exit_code, "there is no log" in result.stderr) == (2, True)


def test_hostile_text_of_records_does_not_reach_the_terminal_raw(folder: Folder) -> None:
    hostile = "a\x1b[2J\u202e\nb\u2028\x07"
    make = Decisions().make
    folder.write_log([
        make("a.b:443", "denied", reason=hostile, user=hostile, rule=hostile, client="10.1.2.3:1",
             session=hostile, filter=hostile),
        transfer("b-0-1", name=hostile, reason=hostile, filter=hostile, protocol=hostile),
        end("b-0-1", server=hostile, reason=hostile, filter=hostile),
        NoteRecord(time=NOON, filter=hostile, message=hostile, facts={"connection": "b-0-1"}),
    ])  # fmt: skip
    folder.write_policy(POLICY)
    result = folder.invoke("why", "b-0-1")
    assert result.exit_code == 0
    assert [one for one in result.output if not one.isprintable() and one != "\n"] == []
    missing = folder.invoke("why", hostile)
    assert "\x1b" not in missing.stderr


def test_hello_that_was_refused_is_told_in_words_and_judged_again(folder: Folder) -> None:
    reason = "tls-sni-mismatch: evil.example"
    folder.write_log([
        Decisions(folder.policy_hash()).make("a.example.org:443"),
        end("b-0-1", outcome="refused", reason=reason, sni="evil.example"),
    ])  # fmt: skip
    told = folder.told("why", "--last-refusal")
    assert told["connection"] == "b-0-1"
    assert (told["explanation"]["allowed"], told["explanation"]["reason"]) == (False, reason)
    assert told["asked_now"] is None
    said = folder.invoke("why", "--last-refusal").stdout
    assert f"refused: {reason}: the ClientHello names another server than" in said
    assert f"with the name evil.example: refused: {reason}" in said


def test_hello_that_would_pass_now_is_said_to(folder: Folder) -> None:
    folder.write_log([
        Decisions(folder.policy_hash()).make("a.example.org:443"),
        end("b-0-1", outcome="refused", reason="tls-sni-mismatch: b.example", sni="b.example"),
    ])  # fmt: skip
    folder.write_policy(rule("web", "*.example.org", tls='{ sni = "any" }'))
    told = folder.told("why", "b-0-1")
    assert told["policy_changed"]
    assert (told["explanation"]["allowed"], told["explanation"]["hello"]["sni"]) == (
        True, "b.example",
    )  # fmt: skip


def test_name_of_a_client_that_named_an_address_is_judged_again(folder: Folder) -> None:
    make = Decisions(folder.policy_hash()).make
    folder.write_log([
        make("93.184.216.34:443"), end("b-0-1", sni="www.example.org"),
        make("93.184.216.34:443"), end("b-0-2", sni="a.social.example.org"),
    ])  # fmt: skip
    assert folder.told("why", "b-0-1")["explanation"]["allowed"]
    refused = folder.told("why", "b-0-2")["explanation"]
    assert refused["reason"] == "tls-sni-not-allowed: a.social.example.org denied-by-rule"
