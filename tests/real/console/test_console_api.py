"""The console's API: what programs read and do with a token, held to its own document."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from requests.adapters import HTTPAdapter
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from sluicegate.console.api.operations import OPEN_DOCUMENT, OPERATIONS
from sluicegate.console.entries import ENTRIES
from sluicegate.console.roles import Role
from sluicegate.console.tokens import Tokens
from tests.kernel.test_gate_process import echoed
from tests.real.console.console_kit import ConsoleGate, csrf_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

API = "/api/v1"
EXAMPLES = 8
"""For each operation and mode: a document of a dozen operations is tried in some seconds."""

ASK_S = 0.2
"""Between questions whether something is there: others ask, too, and all of them are counted."""


@pytest.fixture
def many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every program at an address of its own: each may ask a hundred things at once."""
    numbers = itertools.count()
    make = HTTPAdapter.init_poolmanager

    def make_at_next(self: HTTPAdapter, *sizes: Any, **options: Any) -> None:
        number = next(numbers)
        host = f"127.1.{number // 250}.{number % 250 + 1}"
        make(self, *sizes, source_address=(host, 0), **options)

    monkeypatch.setattr(HTTPAdapter, "init_poolmanager", make_at_next)


@pytest.fixture(scope="module")
def tokens(gate: ConsoleGate) -> dict[Role, str]:
    made = Tokens(gate.folder / "state" / "console")
    return {role: made.add(f"program-{role}", role) for role in Role}


@pytest.fixture
def program(gate: ConsoleGate, tokens: dict[Role, str]) -> httpx.Client:
    client = gate.program()
    client.headers["authorization"] = f"Bearer {tokens[Role.OPERATOR]}"
    del client.headers["origin"]
    return client


@pytest.fixture(scope="module")
def document(gate: ConsoleGate) -> dict[str, Any]:
    made: dict[str, Any] = gate.program().get(f"{API}/openapi.json").json()
    return made


def test_document_is_an_openapi_document_of_all_operations(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    named = {one["operationId"] for path in document["paths"].values() for one in path.values()}
    assert named == {one.name for one in OPERATIONS}
    assert OPEN_DOCUMENT.role is None
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


NO_PAGES = ("/login", "/logout", "/confirm", "/first")
"""How people begin and end sessions: programs have tokens."""

OPERATIONS_OF: dict[tuple[str, str], tuple[str, ...]] = {
    ("GET", "/"): ("readStatus", "readTotals", "readTop"),
    ("GET", "/connections"): ("listConnections",),
    ("GET", "/connections/end"): ("kill",),
    ("POST", "/connections/end"): ("kill",),
    ("GET", "/sessions"): ("listSessions",),
    ("GET", "/log"): ("searchRecords", "readTotals", "listQueries"),
    ("GET", "/log/record"): ("readRecord", "explainRecord"),
    ("POST", "/log/queries"): ("saveQuery",),
    ("POST", "/log/queries/remove"): ("removeQuery",),
    ("GET", "/alerts"): ("listAlerts",),
    ("GET", "/alerts/one"): ("readAlert", "searchRecords"),
    ("POST", "/alerts/acknowledge"): ("acknowledgeAlerts",),
    ("GET", "/policy"): ("readPolicy",),
    ("GET", "/policy/edit"): ("readPolicyVersion",),
    ("POST", "/policy/edit"): ("readPolicyVersion",),
    ("POST", "/policy/review"): ("checkPolicy",),
    ("POST", "/policy/try"): ("tryPolicy",),
    ("POST", "/policy/save"): ("changePolicy",),
    ("POST", "/policy/rollback"): ("rollBackPolicy",),
    ("GET", "/policy/history"): ("listPolicyVersions",),
    ("GET", "/policy/version"): ("readPolicyVersion", "comparePolicyVersions"),
    ("GET", "/filters"): ("listFilters",),
    ("GET", "/scanners"): ("listScanners",),
    ("GET", "/transfers"): ("listTransfers",),
    ("GET", "/authority"): ("readAuthority",),
    ("POST", "/authority/export"): ("exportCertificate",),
    ("GET", "/status"): ("readStatus",),
    ("GET", "/about"): ("readProgram",),
}
"""What a program asks in place of a page, or of an action of one."""

PROVED = {"/policy/save", "/policy/rollback"}
"""What takes the password within its form; of other entries it is asked for before."""


def test_every_page_and_action_is_in_the_api_with_the_same_rights() -> None:
    by_name = {one.name: one for one in OPERATIONS}
    pages = [
        one
        for one in ENTRIES
        if not one.is_api and not one.is_live and not one.path.startswith(NO_PAGES)
    ]
    assert {(one.method, one.path) for one in pages} == set(OPERATIONS_OF)
    for page in pages:
        for name in OPERATIONS_OF[page.method, page.path]:
            operation = by_name[name]
            if page.method == "POST" and operation.method == "POST":
                assert operation.role == page.role, name
                has_proof = page.needs_password or page.path in PROVED
                assert operation.needs_proof is has_proof, name
            else:
                assert operation.role is not None, name


def test_program_finds_a_connection_and_ends_it(gate: ConsoleGate, program: httpx.Client) -> None:
    with gate.connect() as client:
        assert echoed(client, b"hello") == b"hello"
        host, port = client.getsockname()[:2]
        row = find_connection(program, f"{host}:{port}")
        asked = {"identifiers": [row["connection"]]}
        assert program.post(f"{API}/kill", json=asked).json() == {"killed": asked["identifiers"]}
        with pytest.raises(ConnectionError):
            client.recv(1)
    record = gate.operated("kill")
    assert (record["by"], record["origin"]) == ("token program-operator", "api")


def find_connection(program: httpx.Client, client: str) -> dict[str, Any]:
    """Wait until a connection is shown: what is open is asked every two seconds for everybody."""

    def rows() -> list[dict[str, Any]]:
        answer = program.get(f"{API}/connections", params={"filter": client})
        # Requests come too fast sometimes.
        return list(answer.json()["rows"]) if answer.status_code == 200 else []

    return wait_until(rows, f"{client} is not shown", ASK_S)[0]


def test_records_come_in_parts_that_follow_on_one_another(
    gate: ConsoleGate, program: httpx.Client
) -> None:
    gate.wait_until_stored("kind:service", 2)
    whole = program.get(f"{API}/records", params={"limit": 500}).json()["rows"]
    numbers: list[int] = []
    cursor: dict[str, int] = {}
    while True:
        part = program.get(f"{API}/records", params={"limit": 2, **cursor}).json()
        numbers += [row["number"] for row in part["rows"]]
        if part["next"] is None:
            break
        cursor = {"cursor": part["next"]}
    ours = [number for number in numbers if number <= whole[0]["number"]]
    assert ours == [row["number"] for row in whole]


def test_decision_is_explained(gate: ConsoleGate, program: httpx.Client) -> None:
    with gate.connect() as client:
        assert echoed(client, b"hello") == b"hello"
    gate.wait_until_stored("kind:decision", 1)
    found = {"query": "kind:decision", "limit": 1}
    (row,) = program.get(f"{API}/records", params=found).json()["rows"]
    told = program.get(f"{API}/records/{row['number']}/explanation").json()
    assert told["why_not"] == ""
    assert (told["explanation"]["allowed"], told["explanation"]["rule"]["name"]) == (True, "echo")


def test_status_is_followed(program: httpx.Client) -> None:
    with program.stream("GET", f"{API}/events") as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("event:")) == "event: status"
        assert '"phase":"ready"' in next(lines)


@pytest.mark.parametrize(
    ("header", "status"),
    [("", 401), ("Bearer x", 401), ("Basic YTpi", 401), ("Bearer", 401), ("Bearer sgt_", 401)],
)
def test_who_shows_no_token_is_told_so(gate: ConsoleGate, header: str, status: int) -> None:
    answer = gate.program().get(f"{API}/status", headers={"authorization": header})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_token_that_was_removed_is_worth_nothing(gate: ConsoleGate) -> None:
    tokens = Tokens(gate.folder / "state" / "console")
    shown = tokens.add("short-lived", Role.VIEWER)
    header = {"authorization": f"Bearer {shown}"}
    assert gate.program().get(f"{API}/status", headers=header).status_code == 200
    assert shown not in (gate.folder / "state" / "console" / "tokens.json").read_text()
    tokens.remove("short-lived")
    assert gate.program().get(f"{API}/status", headers=header).status_code == 401


def test_removed_token_hears_no_more(gate: ConsoleGate) -> None:
    known = Tokens(gate.folder / "state" / "console")
    program = gate.program()
    program.headers["authorization"] = f"Bearer {known.add('listener', Role.VIEWER)}"
    with program.stream("GET", f"{API}/events") as answer:
        lines = answer.iter_lines()
        assert any(line.startswith("event:") for line in lines), "it hears while it is one"
        assert known.remove("listener")
        left = list(itertools.islice(lines, 20))
    assert len(left) < 20, "what was on its way, and no more"


def test_token_may_what_its_role_may(gate: ConsoleGate, tokens: dict[Role, str]) -> None:
    for role, token in tokens.items():
        header = {"authorization": f"Bearer {token}"}
        asked = {"identifiers": ["c-none"]}
        killing = gate.program().post(f"{API}/kill", json=asked, headers=header)
        assert (killing.status_code == 403) is (role < Role.OPERATOR)
        reloading = gate.program().post(f"{API}/reload", json={}, headers=header)
        assert (reloading.status_code == 403) is (role < Role.ADMINISTRATOR)


def test_token_opens_no_page(gate: ConsoleGate, tokens: dict[Role, str]) -> None:
    header = {"authorization": f"Bearer {tokens[Role.ADMINISTRATOR]}"}
    assert gate.program().get("/log", headers=header).status_code == 303


def test_browser_s_session_needs_its_token_to_change_something(gate: ConsoleGate) -> None:
    program = gate.logged_in("operator")
    asked = {"identifiers": ["c-none"]}
    assert program.post(f"{API}/kill", json=asked).status_code == 403
    csrf = csrf_of(program.get("/").text)
    done = program.post(f"{API}/kill", json=asked, headers={"x-csrf-token": csrf})
    assert done.json() == {"killed": []}


@pytest.mark.usefixtures("many_addresses")
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_operations_answer_as_their_document_says(
    gate: ConsoleGate,
    tokens: dict[Role, str],
    document: dict[str, Any],
    mode: GenerationMode,
) -> None:
    """It takes what the document allows, refuses what it does not, and answers as it says."""
    schema = schemathesis.openapi.from_dict(copy.deepcopy(document))
    header = {"Authorization": f"Bearer {tokens[Role.ADMINISTRATOR]}"}
    tried: set[str] = set()
    for found in schema.exclude(operation_id="followStatus").get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            answer = case.call(base_url=f"{gate.origin}{API}", headers=header)
            # Not every text is a query; which ones are, no schema says.
            is_query = case.operation.label == "GET /records"
            excluded = [positive_data_acceptance] if is_query else []
            case.validate_response(answer, excluded_checks=excluded)

        try:
            check()
            tried.add(operation.label)
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "there is nothing that it would not take"
    assert len(tried) >= len(OPERATIONS) // 2
