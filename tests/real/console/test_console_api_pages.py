"""The console's API for what its pages show and change: policy, queries, authority, the program."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sluicegate.console.roles import Role
from sluicegate.console.tokens import Tokens
from sluicegate.console_limits import LOGIN_BURST
from tests.kernel.test_gate_process import echoed
from tests.real.console.console_kit import PASSWORD, ConsoleGate, csrf_of

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

API = "/api/v1"
PROOF = {"name": "administrator", "password": PASSWORD}
LATE = """
[[publish]]
name = "late"
listener = "echo"
server = "127.0.0.1:1"
clients = ["127.0.0.0/16"]
"""


@pytest.fixture(scope="module", autouse=True)
def clients(gate: ConsoleGate) -> None:
    """Have decisions in the store."""
    for _ in range(4):
        with gate.connect() as client:
            assert echoed(client, b"hello") == b"hello"
    gate.wait_until_stored("kind:decision", 4)


@pytest.fixture(scope="module")
def programs(gate: ConsoleGate) -> dict[Role, httpx.Client]:
    tokens = Tokens(gate.folder / "state" / "console")
    made: dict[Role, httpx.Client] = {}
    for role in Role:
        made[role] = gate.program()
        made[role].headers["authorization"] = f"Bearer {tokens.add(f'program-{role}', role)}"
    return made


@pytest.fixture
def program(programs: dict[Role, httpx.Client]) -> httpx.Client:
    """An administrator's."""
    return programs[Role.ADMINISTRATOR]


def answered(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def change_of(program: httpx.Client, text: str, **more: Any) -> dict[str, Any]:
    """Return the body of a change from what is in force."""
    base = answered(program.get(f"{API}/policy"))["texts"]
    return {"files": [{"name": "policy.toml", "text": text}], "base": base, **more}


# -- the policy --------------------------------------------------------------------------------


def test_rules_come_with_what_they_decided(program: httpx.Client) -> None:
    found = answered(program.get(f"{API}/policy", params={"days": 1}))
    (row,) = found["rows"]
    assert (row["rule"]["name"], row["allowed"], row["refused"]) == ("echo", 4, 0)
    assert row["last"] > 0
    assert not row["is_unused"]
    assert found["unknown"] == ""


def test_policy_is_checked_tried_changed_and_rolled_back(
    gate: ConsoleGate, program: httpx.Client, restored: str
) -> None:
    text = restored.replace("127.0.0.0/8", "192.0.2.0/24")
    files = [{"name": "policy.toml", "text": text}]
    checked = answered(program.post(f"{API}/policy/check", json={"files": files}))
    assert checked["checked"]["changed"] == ["echo"]
    plus = [line["text"] for line in checked["differences"][0]["lines"] if line["mark"] == "+"]
    assert "192.0.2.0/24" in "".join(plus)

    tried = answered(program.post(f"{API}/policy/trial", json={"files": files}))
    assert tried["changed"] >= 4
    assert {group["change"] for group in tried["groups"]} == {"now-denied"}

    before = answered(program.get(f"{API}/policy/versions/current"))["version"]["number"]
    body = change_of(program, text, note="TICKET-4711", proof=PROOF)
    changed = answered(program.post(f"{API}/policy/change", json=body))
    assert (gate.folder / "policy.toml").read_text() == text
    versions = answered(program.get(f"{API}/policy/versions", params={"limit": 1}))
    assert versions["rows"][0]["note"] == "TICKET-4711"
    assert versions["next"] == changed["version"]["number"]
    older = answered(program.get(f"{API}/policy/versions", params={"cursor": versions["next"]}))
    assert before in [row["number"] for row in older["rows"]]

    path = f"{API}/policy/versions/{before}"
    found = answered(program.get(f"{path}/differences"))
    minus = [line["text"] for line in found["files"][0]["lines"] if line["mark"] == "-"]
    assert "192.0.2.0/24" in "".join(minus)
    assert answered(program.get(path))["files"] == [{"name": "policy.toml", "text": restored}]

    back = {"version": str(before), "base": versions["texts"], "proof": PROOF}
    answered(program.post(f"{API}/policy/roll-back", json=back))
    assert (gate.folder / "policy.toml").read_text() == restored
    record = gate.operated("policy-roll-back")
    assert (record["by"], record["origin"]) == ("token program-administrator", "api")
    assert gate.operated("confirm")["subjects"] == ["administrator"]


def test_covered_and_unused_rules_are_told_apart(
    gate: ConsoleGate, program: httpx.Client, restored: str
) -> None:
    body = change_of(program, restored + LATE, proof=PROOF)
    answered(program.post(f"{API}/policy/change", json=body))
    for state, names in (("all", ["echo", "late"]), ("covered", ["late"]), ("unused", ["late"])):
        found = answered(program.get(f"{API}/policy", params={"state": state}))
        assert [row["rule"]["name"] for row in found["rows"]] == names, state
    first = answered(program.get(f"{API}/policy", params={"limit": 1}))
    assert (first["total"], first["next"]) == (2, 1)
    second = answered(program.get(f"{API}/policy", params={"limit": 1, "cursor": 1}))
    assert [row["rule"]["name"] for row in second["rows"]] == ["late"]


def test_wrong_policy_is_no_change(gate: ConsoleGate, program: httpx.Client, restored: str) -> None:
    text = restored.replace("server =", "sever =")
    files = [{"name": "policy.toml", "text": text}]
    checked = answered(program.post(f"{API}/policy/check", json={"files": files}))
    assert "sever" in str(checked["checked"]["errors"])
    body = change_of(program, text, proof=PROOF)
    assert "sever" in answered(program.post(f"{API}/policy/change", json=body), 409)["detail"]
    stale = change_of(program, "# mine\n" + restored, proof=PROOF) | {"base": "0" * 64}
    answered(program.post(f"{API}/policy/change", json=stale), 409)
    answered(program.post(f"{API}/policy/trial", json={"files": files}), 409)
    assert (gate.folder / "policy.toml").read_text() == restored


@pytest.mark.parametrize("path", ["", "/differences"])
def test_version_that_is_not_kept_is_not_found(program: httpx.Client, path: str) -> None:
    refused = answered(program.get(f"{API}/policy/versions/4711{path}"), 404)
    assert "not kept" in refused["detail"]


# -- the password ------------------------------------------------------------------------------


PROOFS: tuple[dict[str, str] | None, ...] = (
    None,
    {"name": "administrator", "password": ""},
    {"name": "operator", "password": PASSWORD},  # right, but without the role
    {"password": PASSWORD},  # nobody's
    {"name": "administrator", "password": "wrong"},
    {"name": "nobody", "password": PASSWORD},
)
TRIED = 3
"""Of these, wrong passwords."""


def test_token_without_an_administrator_s_password_does_nothing(own_gate: ConsoleGate) -> None:
    before = (own_gate.folder / "policy.toml").read_text()
    program = own_gate.program()
    token = Tokens(own_gate.folder / "state" / "console").add("program", Role.ADMINISTRATOR)
    program.headers["authorization"] = f"Bearer {token}"
    change = change_of(program, "# mine\n" + before)
    for proof in PROOFS:
        body = change if proof is None else change | {"proof": proof}
        answer = program.post(f"{API}/policy/change", json=body)
        assert answer.status_code == 403, f"{proof}: {answer.text}"
    back = {"version": "1", "base": change["base"]}
    for path, body in (("/policy/roll-back", back), ("/authority/export", {})):
        answered(program.post(f"{API}{path}", json=body), 403)
        wrong = body | {"proof": PROOFS[TRIED + 1]}
        answered(program.post(f"{API}{path}", json=wrong), 403)
    assert TRIED + 2 == LOGIN_BURST, "and now even the right one waits"
    wrong = change | {"proof": PROOFS[TRIED + 1]}
    for _ in range(10 * LOGIN_BURST):  # slowly is one more every ten seconds
        if program.post(f"{API}/policy/change", json=wrong).status_code == 429:
            break
    answered(program.post(f"{API}/policy/change", json=change | {"proof": PROOF}), 429)
    assert (own_gate.folder / "policy.toml").read_text() == before


def test_browser_s_session_needs_its_token_and_no_password_given_a_moment_ago(
    gate: ConsoleGate, restored: str
) -> None:
    program = gate.logged_in("administrator")
    csrf = csrf_of(program.get("/").text)
    body = change_of(program, "# mine\n" + restored)
    answered(program.post(f"{API}/policy/change", json=body), 403)
    # Its password was given a moment ago, at the log-in.
    answered(program.post(f"{API}/policy/change", json=body, headers={"x-csrf-token": csrf}))
    assert gate.operated("policy-change", by="administrator")["origin"] == "console"


# -- the rest ----------------------------------------------------------------------------------


def test_query_is_saved_listed_and_removed(programs: dict[Role, httpx.Client]) -> None:
    program = programs[Role.OPERATOR]
    query = {"title": "Refused today", "text": "verdict:denied"}
    answered(program.post(f"{API}/queries", json=query))
    (row,) = answered(program.get(f"{API}/queries"))["rows"]
    assert row == query | {"by": "token program-operator"}
    answered(program.post(f"{API}/queries", json=query | {"text": "verdikt:x"}), 409)
    answered(program.post(f"{API}/queries/remove", json={"title": "Refused today"}))
    answered(program.post(f"{API}/queries/remove", json={"title": "Refused today"}), 404)
    assert answered(program.get(f"{API}/queries"))["rows"] == []


def test_gate_without_an_authority_says_so(gate: ConsoleGate, program: httpx.Client) -> None:
    assert answered(program.get(f"{API}/authority"))["chain"] == []


def test_program_tells_of_itself(gate: ConsoleGate, program: httpx.Client) -> None:
    about = answered(program.get(f"{API}/about"))
    assert (about["origin"], about["has_store"]) == (gate.origin, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("DELETE", "/policy", 405), ("GET", "/policy/versions/a/b", 404)],
)
def test_what_is_no_operation_is_a_problem(
    program: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = program.request(method, f"{API}{path}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
