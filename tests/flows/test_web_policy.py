"""Group P of the hostile cases over HTTP: rules about methods, paths and URLs, by whole gates.

Each line of a table is one request to a proxy listener; all of a table's come on one kept
connection and on connections of their own. Refused means: answered by the gate, nothing reaches
the server, and a request record says why.
"""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

from typing import Any

import pytest

from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.settings import ServiceSettings
from sluicegate.policy import FloodBounds
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import ANN, BOB
from tests.flows.gate_kit import Gate, with_flood
from tests.flows.tls_kit import inside_tls, with_tls
from tests.flows.web_kit import (
    Message,
    Visit,
    asks,
    browse,
    get,
    read_message,
    web_settings,
)

ALL = '[[rule]]\nname = "web"\nto = ["*"]\nprotocols = ["tcp:80"]\n'
PATHS = (
    '[[rule]]\nname = "open"\nto = ["site.example"]\nprotocols = ["tcp:80"]\npaths = ["/pub/*"]\n'
)
GUARDED = (
    '[[rule]]\nname = "guard"\naction = "deny"\nto = ["*"]\npaths = ["/admin", "/admin/*"]\nprotocols = []\n'
    + ALL
)
METHODS = '[[rule]]\nname = "read"\nto = ["*"]\nprotocols = ["tcp:80"]\nmethods = ["GET", "HEAD"]\n'
URLS = """
[objects.urls]
docs = ["http://site.example/docs/*", "http://site.example/about", "http://other.example:8080/x/*"]
[[rule]]
name = "docs"
to = ["@docs"]
protocols = ["tcp"]
"""
EXCEPT = '[[rule]]\nname = "web"\nto = ["*"]\nto_except = ["http://site.example/private/*"]\nprotocols = ["tcp:80"]\n'
PATTERN = '[[rule]]\nname = "api"\nto = ["site.example"]\nprotocols = ["tcp:80"]\npaths = [{ pattern = "/v[0-9]+/(items|users)/[0-9a-f]{8}" }]\n'
NOCASE = (
    '[[rule]]\nname = "guard"\naction = "deny"\nto = ["*"]\nprotocols = []\npaths = [{ pattern = "(?i)/admin(/.*)?" }]\n'
    + ALL
)

# name: the policy, the request, the reason of the refusal; none: it reaches the server
CASES: dict[str, tuple[str, bytes, str]] = {
    # what is allowed by a path
    "allow: below": (PATHS, get("/pub/a"), ""),
    "allow: the folder": (PATHS, get("/pub/"), ""),
    "allow: not beside it": (PATHS, get("/public/a"), "no-rule"),
    "allow: not without its slash": (PATHS, get("/pub"), "no-rule"),
    "allow: case": (PATHS, get("/PUB/a"), "no-rule"),
    "allow: a query": (PATHS, get("/pub/a?/../../etc"), ""),
    "allow: a query alone": (PATHS, get("?/pub/a"), "no-rule"),
    "allow: no path at all": (PATHS, get(""), "no-rule"),
    "allow: encoded letters": (PATHS, get("/%70ub/a"), ""),
    "allow: many slashes": (PATHS, get("//pub///a"), ""),
    "allow: dot segments out of it": (PATHS, get("/pub/../admin"), "no-rule"),
    "allow: dot segments into it": (PATHS, get("/x/../pub/a"), "no-rule"),
    "allow: a dot segment that changes nothing": (PATHS, get("/pub/./a"), "no-rule"),
    "allow: dot segments at its end": (PATHS, get("/pub/.."), "no-rule"),
    "allow: encoded dot segments": (PATHS, get("/pub/%2e%2e/admin"), "no-rule"),
    "allow: half encoded dot segments": (PATHS, get("/pub/.%2e/admin"), "no-rule"),
    "allow: twice encoded dot segments": (PATHS, get("/pub/%252e%252e/admin"), "no-rule"),
    "allow: dot segments with parameters": (PATHS, get("/pub/..;/admin"), "no-rule"),
    "allow: the same with a name": (PATHS, get("/pub/..;a=b/admin"), "no-rule"),
    "allow: the same, encoded": (PATHS, get("/pub/..%3b/admin"), "no-rule"),
    "allow: an encoded slash": (PATHS, get("/pub/..%2fadmin"), "no-rule"),
    "allow: an encoded slash in a name": (PATHS, get("/pub/a%2fb"), "no-rule"),
    "allow: a twice encoded slash": (PATHS, get("/pub/a%252fb"), "no-rule"),
    "allow: an encoded backslash": (PATHS, get("/pub/..%5cadmin"), "no-rule"),
    "allow: an encoded NUL": (PATHS, get("/pub/a%00.html"), "no-rule"),
    "allow: an overlong dot of UTF-8": (PATHS, get("/pub/%c0%ae%c0%ae/admin"), ""),
    "allow: parameters": (PATHS, get("/pub/a;v=1"), ""),
    "allow: parameters of the folder": (PATHS, get("/pub;v=1/a"), "no-rule"),
    "allow: another host": (PATHS, get("/pub/a", "other.example"), "no-rule"),
    "allow: another port": (PATHS, get("/pub/a", "site.example:81"), "no-rule"),
    "allow: the host in capitals": (PATHS, get("/pub/a", "SITE.Example"), ""),
    "allow: the host with a dot": (PATHS, get("/pub/a", "site.example."), ""),
    # what is refused by a path, before a rule for everything
    "deny: exactly": (GUARDED, get("/admin"), "denied-by-rule"),
    "deny: below": (GUARDED, get("/admin/users"), "denied-by-rule"),
    "deny: with a query": (GUARDED, get("/admin?x"), "denied-by-rule"),
    "deny: encoded letters": (GUARDED, get("/%61dmi%6E"), "denied-by-rule"),
    "deny: many slashes": (GUARDED, get("///admin//users"), "denied-by-rule"),
    "deny: dot segments": (GUARDED, get("/x/../admin"), "cannot-be-judged"),
    "deny: dot segments that lead elsewhere": (GUARDED, get("/x/../y"), "cannot-be-judged"),
    "deny: encoded dot segments": (GUARDED, get("/x/%2e%2e/admin"), "cannot-be-judged"),
    "deny: dot segments with parameters": (GUARDED, get("/x/..;/admin"), "cannot-be-judged"),
    "deny: an encoded slash": (GUARDED, get("/x%2f..%2fadmin"), "cannot-be-judged"),
    "deny: an encoded slash behind": (GUARDED, get("/admin%2fusers"), "cannot-be-judged"),
    "deny: a twice encoded slash": (GUARDED, get("/admin%252fusers"), "cannot-be-judged"),
    "deny: an encoded backslash": (GUARDED, get("/admin%5cusers"), "cannot-be-judged"),
    "deny: an encoded NUL": (GUARDED, get("/admin%00"), "cannot-be-judged"),
    "deny: parameters": (GUARDED, get("/admin;x=y"), "denied-by-rule"),
    "deny: encoded parameters": (GUARDED, get("/admin%3bx=y/users"), "denied-by-rule"),
    "deny: parameters alone in a segment": (GUARDED, get("/;x/admin"), "cannot-be-judged"),
    "deny: case": (GUARDED, get("/Admin"), ""),
    "deny: case, with a pattern without it": (NOCASE, get("/Admin"), "denied-by-rule"),
    "deny: the same below": (NOCASE, get("/aDMIN/x"), "denied-by-rule"),
    "deny: beside it": (GUARDED, get("/administration"), ""),
    "deny: something else": (GUARDED, get("/index.html"), ""),
    "deny: any method": (GUARDED, get("/admin", method="HEAD"), "denied-by-rule"),
    # methods
    "method: one that is listed": (METHODS, get(), ""),
    "method: one that is not": (METHODS, get(method="DELETE"), "no-rule"),
    "method: one that begins so": (METHODS, get(method="GETX"), "no-rule"),
    "method: one that overrides": (METHODS, get("/", "site.example", "X-HTTP-Method-Override: DELETE"), ""),
    # URL sets
    "url: below": (URLS, get("/docs/a"), ""),
    "url: exactly": (URLS, get("/about"), ""),
    "url: beside it": (URLS, get("/about/us"), "no-rule"),
    "url: dot segments out of it": (URLS, get("/docs/../x"), "no-rule"),
    "url: encoded letters": (URLS, get("/%64ocs/a"), ""),
    "url: parameters": (URLS, get("/docs;x/a"), "no-rule"),
    "url: the path of another site": (URLS, get("/docs/a", "other.example"), "no-rule"),
    "url: another port of the site": (URLS, get("/x/a", "other.example"), "no-rule"),
    "except: inside": (EXCEPT, get("/private/a"), "no-rule"),
    "except: encoded": (EXCEPT, get("/%70rivate/a"), "no-rule"),
    "except: parameters": (EXCEPT, get("/private;x/a"), "no-rule"),
    "except: no reading": (EXCEPT, get("/x/../private/a"), "no-rule"),
    "except: outside": (EXCEPT, get("/x"), ""),
    # patterns
    "pattern: all of it": (PATTERN, get("/v1/items/0123abcd"), ""),
    "pattern: more than it": (PATTERN, get("/v1/items/0123abcd/x"), "no-rule"),
    "pattern: less": (PATTERN, get("/v1/items/0123abc"), "no-rule"),
    "pattern: a query": (PATTERN, get("/v1/users/0123abcd?all"), ""),
}  # fmt: skip


def visit(policy: str, request: bytes, *, behind: bytes = b"", tls: bool = False) -> Visit:
    """Ask once, perhaps as the second request of a connection."""
    plan = web_settings(policy)
    requests = [behind, request] if behind else [request]
    if not tls:
        return browse(*requests, plan=plan)
    return browse(plan=with_tls(plan), peer=inside_tls(asks(*requests)))


def line_of(request: bytes) -> str:
    """Return the request line that a server is to see."""
    method, target, version = request.split(b"\r\n")[0].decode().split(" ")
    path = target.removeprefix("http://").partition("?")[0].partition("/")[1:]
    query = target.partition("?")[1:]
    return f"{method} {''.join(path) or '/'}{''.join(query)} {version}"


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("behind", [False, True], ids=["first", "on a kept connection"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_p_each_request_is_judged_by_its_method_path_and_url(
    case: tuple[str, bytes, str], behind: bool, tls: bool
) -> None:
    policy, request, reason = case
    # (Something else, which may be refused too: a connection stays either way.)
    before = get("/else-where") if behind else b""
    found = visit(policy, request, behind=before, tls=tls)
    record = found.gate.requests[-1]
    lines = found.origin.lines[-1:] if not reason else found.origin.lines
    if reason:
        assert (found.statuses[-1], record.verdict, record.reason) == (403, "denied", reason)
        assert not any(line != line_of(before) for line in lines if before)
        assert before or lines == []
    else:
        assert (found.statuses[-1], record.verdict) == (200, "allowed")
        assert lines == [line_of(request)], "it goes on as it came"


@pytest.mark.parametrize(
    "request_",
    [get("/pub/%2"), get("/pub/%zz"), get("/pub/a", method="get"), get("pub/a", "site.example/")],
)
@pytest.mark.parametrize("behind", [False, True], ids=["first", "on a kept connection"])
def test_p_what_is_no_request_reaches_nobody_whatever_its_path(
    request_: bytes, behind: bool
) -> None:
    requests = [get("/pub/first"), request_] if behind else [request_]
    found = browse(*requests, plan=web_settings(PATHS))
    assert found.origin.lines == (["GET /pub/first HTTP/1.1"] if behind else [])
    assert found.statuses[1 if behind else 0 :] in ([], [400])


def test_p3_a_request_on_a_kept_connection_is_judged_by_the_policy_that_came_meanwhile() -> None:
    async def client(stream: PeerStream) -> list[int]:
        statuses: list[int] = []
        for policy in (None, PATHS, GUARDED, ALL):
            if policy is not None:
                await gates[0].service.apply(web_settings(policy))
            await stream.send_all(get("/admin"))
            answer = await read_message(stream, is_response=True)
            statuses.append(0 if answer is None else answer.status)
            if answer is None:
                break
        stream.close()
        return statuses

    gates: list[Gate] = []
    found = browse(plan=web_settings(ALL), peer=client, prepare=gates.append)
    assert found.answers[:2] == [200, 403]
    assert found.origin.lines.count("GET /admin HTTP/1.1") == found.answers.count(200)


USERS = (
    '[[rule]]\nname = "staff"\nto = ["*"]\nusers = ["group:staff"]\npaths = ["/staff/*"]\nprotocols = ["tcp:80"]\n'
    '[[rule]]\nname = "rest"\nto = ["*"]\npaths = ["/pub/*"]\nprotocols = ["tcp:80"]\n'
)
BASIC = {
    "ann": "Proxy-Authorization: Basic YW5uOm9wZW4gc2VzYW1l",
    "bob": "Proxy-Authorization: Basic Ym9iOmFub3RoZXIgd29yZA==",
}


@pytest.mark.parametrize(
    ("path", "who", "status", "reason"),
    [
        ("/staff/a", "ann", 200, "allowed-by-rule"), ("/staff/a", "bob", 403, "no-rule"),
        ("/staff/a", "", 407, "user-needed"), ("/pub/a", "", 200, "allowed-by-rule"),
        ("/staff/../pub/a", "", 407, "user-needed"), ("/staff/../pub/a", "bob", 403, "no-rule"), ("/pub/../staff/a", "ann", 403, "no-rule"),
        ("/staff/a;x", "", 407, "user-needed"), ("/x", "ann", 403, "no-rule"),
    ],
)  # fmt: skip
def test_p_users_and_paths_hold_together(path: str, who: str, status: int, reason: str) -> None:
    plan = web_settings(USERS, authenticate=Authenticate.OPTIONAL, users=(ANN, BOB))
    fields = [BASIC[who]] if who else []
    found = browse(get(path, "site.example", *fields), plan=plan)
    assert (found.statuses, found.gate.requests[0].reason) == ([status], reason)
    assert len(found.origin.lines) == (status == 200)
    assert not any(b"Authorization" in one.head for one in found.origin.seen)


def test_n3_requests_of_a_minute_are_bounded_on_one_connection_and_on_many() -> None:
    async def client(stream: PeerStream) -> list[int]:
        answers: list[Message] = await asks(*[get(f"/{n}") for n in range(5)])(stream)
        return [one.status for one in answers]

    plan: ServiceSettings = with_flood(web_settings(ALL), FloodBounds(requests_per_minute=3))
    statuses: list[Any] = []

    async def again(stream: PeerStream) -> list[int]:
        statuses.extend(await client(stream))
        return statuses

    found = browse(plan=plan, peer=again)
    assert statuses[:3] == [200] * 3
    assert set(statuses[3:]) <= {429}
    assert statuses[3:4] == [429]
    assert len(found.origin.lines) == 3
    assert found.gate.service.flood.view().reached["requests_per_minute"] >= 1


def test_n3_requests_over_several_connections_are_one_count_and_calm_down() -> None:
    plan = with_flood(web_settings(ALL), FloodBounds(requests_per_minute=3))
    statuses: list[int] = []
    gates: list[Gate] = []

    async def one_by_one(stream: PeerStream) -> list[Message]:
        return await asks(get("/a"))(stream)

    async def first(stream: PeerStream) -> list[Message]:
        gate = gates[0]
        answers = await one_by_one(stream)
        gate.peers.spawn("others", visits(gate))
        return answers

    async def visits(gate: Gate) -> None:
        for _ in range(4):
            gate.call(noting)
            await gate.peers.sleep(0.5)
        await gate.peers.sleep(121)
        gate.call(noting)

    async def noting(stream: PeerStream) -> None:
        statuses.extend(one.status for one in await one_by_one(stream))

    async def waits(stream: PeerStream) -> list[Message]:
        answers = await first(stream)
        await gates[0].peers.sleep(130)
        return answers

    browse(plan=plan, peer=waits, prepare=gates.append, within_s=300.0)
    assert statuses == [200, 200, 429, 429, 200]
