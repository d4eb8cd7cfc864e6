"""HTTP requests in the log, asked about again by ``why``, ``simulate`` and ``learn propose``.

The files' policies are those of ``tests/flows/test_web_policy``, and so are the requests: what a
gate decided, the commands have to say of the same files.
"""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from sluicegate.audit import ConnectionRecord, RequestRecord
from tests.flows.test_web_policy import CASES
from tests.unit.inquiry_kit import NOON, Folder

PROXY = '[[listener]]\nname = "proxy"\naddress = "127.0.0.1:3128"\nentry = "proxy"\nauthenticate = "optional"\n'  # noqa: E501
KEYS = 'listener = "proxy"\nclients = ["10.0.0.0/8"]\n'
POLICY = """\
[[rule]]
name = "guard"
action = "deny"
listener = "proxy"
clients = ["10.0.0.0/8"]
to = ["*"]
paths = ["/admin/*"]

[[rule]]
name = "web"
action = "allow"
listener = "proxy"
clients = ["10.0.0.0/8"]
to = ["*"]
protocols = ["tcp:80"]
methods = ["GET", "HEAD"]
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Folder:
    made = Folder(tmp_path)
    made.config.write_text(PROXY)
    made.write_policy(POLICY)
    return made


class Requests:
    """Makes records of requests, all on one connection unless it is said."""

    def __init__(self, policy: str = "0" * 64) -> None:
        self.policy = policy
        self.count = 0

    def make(self, url: str, verdict: str = "allowed", **fields: Any) -> RequestRecord:
        self.count += 1
        known: dict[str, Any] = {
            "time": NOON + self.count,
            "connection": "b-0-1",
            "request": f"b-0-1-{self.count}",
            "session": "s-1",
            "client": "10.1.2.3:40000",
            "listener": "proxy",
            "verdict": verdict,
            "reason": "allowed-by-rule" if verdict == "allowed" else "no-rule",
            "outcome": "released" if verdict == "allowed" else "refused",
            "policy": self.policy,
            "rule": "web" if verdict == "allowed" else "",
            "method": "GET",
            "url": url,
            "status": 200 if verdict == "allowed" else 403,
            "entry": "http",
        }
        return RequestRecord(**{**known, **fields})


REFUSED = {"reason": "denied-by-rule", "rule": "guard"}


# -- why -------------------------------------------------------------------------------------------


def test_a_request_is_explained_by_its_method_and_path(folder: Folder) -> None:
    make = Requests(folder.policy_hash()).make
    folder.write_log([
        make("http://a.example.org/"),
        make("http://a.example.org/admin/x", "denied", **REFUSED),
        make("http://a.example.org/", "denied", method="DELETE"),
        make("http://a.example.org/x"),
    ])  # fmt: skip
    told = folder.told("why", "b-0-1-2")
    assert (told["request"], told["decision"]["rule"], told["cause"]) == (
        "b-0-1-2", "guard", "policy",
    )  # fmt: skip
    assert (told["explanation"]["rule"]["name"], told["explanation"]["allowed"]) == ("guard", False)
    assert not told["policy_changed"]
    assert [one["request"] for one in told["records"]] == ["b-0-1-1", "b-0-1-3", "b-0-1-4"]
    deleted = folder.told("why", "b-0-1-3")
    assert deleted["explanation"]["reason"] == "no-rule"
    lacks = [lack["text"] for one in deleted["explanation"]["before"] for lack in one["lacks"]]
    assert "DELETE is none of its methods" in lacks
    said = folder.invoke("why", "b-0-1-2").stdout
    assert "GET http://a.example.org/admin/x (b-0-1-2)" in said
    assert "also       GET http://a.example.org/x allowed: allowed-by-rule, rule web" in said


@pytest.mark.parametrize("what", ["b-0-1", "s-1", "10.1.2.3"])
def test_a_connection_means_its_last_request(folder: Folder, what: str) -> None:
    make = Requests(folder.policy_hash()).make
    end = ConnectionRecord(
        time=NOON + 9, connection="b-0-1", session="s-1", client="10.1.2.3:40000",
        listener="proxy", rule="web", server="93.184.216.34:80", started=NOON, duration_s=1.0,
        outcome="released", reason="",
    )  # fmt: skip
    folder.write_log([make("http://a.example.org/1"), make("http://a.example.org/2"), end])
    told = folder.told("why", what)
    assert told["request"] == "b-0-1-2"
    assert [one["kind"] for one in told["records"]] == ["request", "connection"]


def test_the_last_refusal_may_be_a_request(folder: Folder) -> None:
    make = Requests(folder.policy_hash()).make
    records = [
        make("http://a.example.org/"),
        make("http://a.example.org/admin/", "denied", **REFUSED),
        make("http://a.example.org/x"),
    ]
    folder.write_log(records)
    assert folder.told("why", "--last-refusal")["request"] == "b-0-1-2"


def test_what_a_requests_name_led_to_is_part_of_what_was_decided(folder: Folder) -> None:
    make = Requests(folder.policy_hash()).make
    folder.write_log([make("http://in.example.org/", outcome="refused", status=403,
                           ended="address-denied: 10.9.9.9 is private")])  # fmt: skip
    told = folder.told("why", "b-0-1")
    assert (told["decision"]["is_allowed"], told["cause"]) == (False, "addresses")


# -- simulate --------------------------------------------------------------------------------------


def simulated(folder: Folder, policy: str, *records: RequestRecord) -> dict[str, Any]:
    folder.write_log(records)
    return folder.told("simulate", "--policy", folder.write_policy(policy, "new.toml"))


def test_requests_are_decided_again_by_their_method_and_path(folder: Folder) -> None:
    make = Requests(folder.policy_hash()).make
    records = [
        make("http://a.example.org/", addresses=("93.184.216.34",)),
        make("http://a.example.org/admin/x", "denied", **REFUSED),
        make("http://a.example.org/", "denied", method="DELETE"),
        make("http://a.example.org:8080/", "denied"),
        make("http://a.example.org/x/../y", "denied"),
        make("http://[2606:2800:220:1::1]/x"),
    ]
    told = simulated(folder, POLICY, *records)
    assert (told["decisions"], told["unchanged"], told["groups"]) == (6, 6, [])
    opened = POLICY.replace('"GET", "HEAD"', '"GET", "DELETE"').replace("/admin/*", "/admin/secret")
    told = simulated(folder, opened, *records)
    assert told["unchanged"] == 4
    groups = [(one["change"], one["rule_before"], one["rule_after"]) for one in told["groups"]]
    assert sorted(groups) == [("now-allowed", "", "web"), ("now-allowed", "guard", "web")]
    assert sorted(one["examples"][0]["target"] for one in told["groups"]) == [
        "DELETE http://a.example.org/",
        "GET http://a.example.org/admin/x",
    ]


def test_requests_that_cannot_be_decided_again_are_counted_with_the_reason(folder: Folder) -> None:
    make = Requests(folder.policy_hash()).make
    told = simulated(
        folder,
        POLICY,
        make("", "denied", reason="malformed-request: no line", method=""),
        make("http://a.example.org/", "denied", reason="limit requests_per_minute"),
        make("http://nx.example.org/", outcome="failed", ended="dns-no-such-name: unknown"),
        make("http://a.example.org/" + "a" * 8192),
    )
    assert told["unchanged"] == told["changed"] == 0
    assert sorted(told["not_replayed"].values()) == [1, 1, 1, 1]


# -- learn -----------------------------------------------------------------------------------------


def test_learned_requests_are_proposed_as_rules(folder: Folder) -> None:
    make = Requests(folder.policy_hash()).make
    learned = {"reason": "learning", "rule": "learn:lab"}
    folder.write_log([make(f"http://a.example.org/{n}", **learned) for n in range(3)])
    result = folder.invoke("learn propose")
    assert result.exit_code == 0, result.output
    assert '"a.example.org"' in result.stdout
    assert '"tcp:80"' in result.stdout


# -- explain ---------------------------------------------------------------------------------------


def url_and_method(request: bytes) -> tuple[str, str]:
    method, target, _ = request.split(b"\r\n")[0].decode().split(" ")
    return target, method


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_explain_and_simulation_say_of_a_request_what_a_gate_did(
    folder: Folder, case: tuple[str, bytes, str]
) -> None:
    policy, request, reason = case
    url, method = url_and_method(request)
    text = ""
    for block in policy.strip().split("[[rule]]"):
        if "name =" in block:
            action = "" if "action =" in block else 'action = "allow"\n'
            text += f"[[rule]]\n{KEYS}{action}{block}"
        else:
            text += block
    folder.write_policy(text)
    result = folder.invoke("explain --from 10.1.2.3", "--url", url, "--method", method, "--json")
    told = folder.told("explain --from 10.1.2.3", "--url", url, "--method", method)
    assert (told["allowed"], told["reason"]) == (not reason, reason or "allowed-by-rule")
    assert (told["method"] == method) == bool(told["path"]), "both, or no reading"
    assert result.exit_code == (1 if reason else 0)
    verdict = "denied" if reason else "allowed"
    rule = "" if told["rule"] is None else told["rule"]["name"]
    shown = url.partition("?")[0]
    record = Requests(folder.policy_hash()).make(
        shown, verdict, method=method, reason=told["reason"], rule=rule
    )
    assert simulated(folder, text, record)["unchanged"] == 1


def test_explain_says_of_a_path_without_a_reading_why_it_has_none(folder: Folder) -> None:
    result = folder.invoke("explain --from 10.1.2.3 --url http://a.example.org/x/..;/admin/")
    assert result.exit_code == 1
    assert "the path has dot segments" in result.stderr
    assert "no HTTP request has been seen" in result.stdout
