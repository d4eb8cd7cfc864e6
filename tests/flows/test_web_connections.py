"""Web connections as connections: who asks, when they end, and what is recorded of them."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import errno

import pytest

from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.policy import FloodBounds
from sluicegate.port.backend import RawSocket
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import ANN, BOB, Names, rules
from tests.flows.gate_kit import Gate, play
from tests.flows.tls_kit import inside_tls, with_tls
from tests.flows.web_kit import (
    OTHER,
    RULES,
    SITE,
    Message,
    Origin,
    asks,
    browse,
    get,
    read_message,
    reply,
    web_settings,
)

NAMES = {"site_example": ["93.184.216.34"]}


def basic(name: str, password: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


ANN_SAYS = basic("ann", "open sesame")
BOB_SAYS = basic("bob", "another word")
STAFF = RULES + 'users = ["ann"]\n'


# -- who asks --------------------------------------------------------------------------------------

CREDENTIALS = [
    # what the listener asks for, what the client sends, status, reason
    (Authenticate.REQUIRED, (), 407, "credentials-needed"),
    (Authenticate.REQUIRED, (ANN_SAYS,), 200, "allowed-by-rule"),
    (Authenticate.REQUIRED, (basic("ann", "wrong"),), 407, "wrong-password"),
    (Authenticate.REQUIRED, (BOB_SAYS,), 403, "no-rule"),
    (Authenticate.REQUIRED, ("Proxy-Authorization: Bearer x",), 407, "credentials-needed"),
    (Authenticate.REQUIRED, ("Proxy-Authorization: Basic !",), 400, "malformed-request"),
    (Authenticate.REQUIRED, (ANN_SAYS, ANN_SAYS), 400, "malformed-request"),
    (Authenticate.OPTIONAL, (), 407, "user-needed"),
    (Authenticate.OPTIONAL, (ANN_SAYS,), 200, "allowed-by-rule"),
    (Authenticate.OFF, (ANN_SAYS,), 403, "user-needed"),
]


@pytest.mark.parametrize(("authenticate", "fields", "status", "reason"), CREDENTIALS)
def test_who_asks_is_asked_for_with_407(
    authenticate: Authenticate, fields: tuple[str, ...], status: int, reason: str
) -> None:
    plan = web_settings(STAFF, authenticate=authenticate, users=(ANN, BOB))
    found = browse(get("/", "site.example", *fields), plan=plan)
    assert (found.statuses, found.reasons) == ([status], [reason])
    challenge = found.answers[0].field("Proxy-Authenticate")
    assert (challenge is not None) is (status == 407)
    assert all(one.field("Proxy-Authorization") is None for one in found.origin.seen)
    assert (found.origin.connections == 1) is (status == 200)


def test_every_request_is_its_own_users() -> None:
    plan = web_settings(STAFF, authenticate=Authenticate.OPTIONAL, users=(ANN, BOB))
    wanted = [get("/", "site.example", *says) for says in ((), (ANN_SAYS,), (BOB_SAYS,), ())]
    found = browse(*wanted, get("/", "site.example", ANN_SAYS), plan=plan)
    assert found.statuses == [407, 200, 403, 407, 200]
    assert [one.user for one in found.gate.requests] == ["", "ann", "bob", "", "ann"]


def test_credentials_are_verified_once_a_connection_and_again_after_a_reload() -> None:
    plan = web_settings(STAFF, authenticate=Authenticate.REQUIRED, users=(ANN, BOB))
    statuses: list[int] = []

    async def peer(stream: PeerStream) -> None:
        for _ in range(2):
            await stream.send_all(get("/", "site.example", ANN_SAYS))
            answer = await read_message(stream, is_response=True)
            assert answer is not None
            statuses.append(answer.status)
        await stream.receive_all()
        stream.close()

    async def scenario(gate: Gate) -> None:
        gate.serve(Origin().serve, address=SITE)
        client = gate.call(peer)
        await gate.until(lambda: len(statuses) == 2)
        await gate.service.apply(dataclasses.replace(plan, users=type(plan.users)((BOB,))))
        late = gate.call(asks(get("/", "site.example", ANN_SAYS)))
        (answers,) = await gate.ended(late)
        statuses.extend(one.status for one in answers)
        gate.service.kill(gate.service.connections()[0].connection, "enough")
        await gate.ended(client)

    play(scenario, plan, exchange=Names(**NAMES))
    assert statuses == [200, 200, 407]


def test_requests_of_a_flood_are_refused_with_429_and_counted() -> None:
    found = browse(*[get()] * 5, flood=FloodBounds(requests_per_minute=3))
    assert found.statuses == [200, 200, 200, 429, 429]
    assert found.reasons[-1] == "limit requests_per_minute"


# -- policy ----------------------------------------------------------------------------------------

ABOUT_REQUESTS = """
[[rule]]
name = "no-admin"
action = "deny"
to = ["site.example"]
protocols = ["tcp:80"]
paths = ["/admin/*", "/admin"]

[[rule]]
name = "read"
to = ["site.example"]
protocols = ["tcp:80"]
methods = ["GET", "HEAD"]

[[rule]]
name = "api"
to = ["http://site.example/api/*"]
protocols = ["tcp:80"]
methods = ["POST"]
"""

ASKED = [
    # method, path, status, rule
    ("GET", "/", 200, "read"),
    ("HEAD", "/x", 200, "read"),
    ("GET", "/admin", 403, "no-admin"),
    ("GET", "/admin/x", 403, "no-admin"),
    ("GET", "//admin/x", 403, "no-admin"),
    ("GET", "/%61dmin/x", 403, "no-admin"),
    ("GET", "/a/../admin", 403, "no-admin"),
    ("GET", "/admin%2fx", 403, "no-admin"),
    ("GET", "/ADMIN", 200, "read"),
    ("DELETE", "/", 403, ""),
    ("POST", "/api/x", 200, "api"),
    ("POST", "/x", 403, ""),
]


@pytest.mark.parametrize(("method", "path", "status", "rule"), ASKED)
def test_rules_about_methods_and_paths_hold_for_requests(
    method: str, path: str, status: int, rule: str
) -> None:
    found = browse(get(path, method=method), plan=web_settings(ABOUT_REQUESTS))
    assert found.statuses == [status]
    assert found.gate.requests[0].rule == rule or status == 403


def test_rules_about_content_hold_for_answers() -> None:
    policy = """
[[rule]]
name = "no-zip"
action = "deny"
to = ["site.example"]
protocols = ["tcp:80"]
content_types = ["application/zip"]
""" + RULES.replace('"web"', '"all"')
    answers = [reply(b"PK", "Content-Type: application/zip"), reply(b"ok", "Content-Type: text/a")]
    found = browse(get(), get(), plan=web_settings(policy), origin=Origin(answers))
    assert found.statuses == [403, 200]
    assert "no-zip" in found.reasons[0]


def test_a_rule_that_resets_says_nothing() -> None:
    policy = RULES.replace('name = "web"', 'name = "web"\naction = "reset"')
    found = browse(get(), plan=web_settings(policy))
    assert found.answers == []
    assert found.gate.requests[0].reason == "denied-by-rule"


# -- the end ---------------------------------------------------------------------------------------


async def waits(stream: PeerStream) -> bytes:
    """Ask, and read until the end."""
    received = b""
    try:
        await stream.send_all(get())
        while piece := await stream.receive():
            received += piece
    except OSError as error:
        received += f"<{error.errno}>".encode()
    stream.close()
    return received


async def never_answers(stream: PeerStream) -> None:
    await stream.receive_until(b"\r\n\r\n")
    asked.append(0)
    await stream.receive_all()


asked: list[int] = []


def test_an_idle_client_is_closed_in_time() -> None:
    found = browse(peer=waits, web_idle_timeout_s=3.0)
    assert found.answers.endswith(b"hello")
    assert found.gate.ends[0].outcome == "released"


def test_a_drain_lets_answers_end_and_closes_what_waits() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(Origin().serve, address=SITE)
        client = gate.call(waits)
        await gate.until(lambda: gate.requests)
        await gate.service.drain(10)
        (told,) = await gate.ended(client)
        assert told.endswith(b"hello")

    play(scenario, web_settings(), exchange=Names(**NAMES))


@pytest.mark.parametrize("how", ["kill", "stop", "policy"])
def test_a_request_that_waits_is_told_why_it_ends(how: str) -> None:
    asked.clear()

    async def scenario(gate: Gate) -> None:
        gate.serve(never_answers, address=SITE)
        client = gate.call(waits)
        await gate.until(lambda: asked)
        if how == "kill":
            (view,) = gate.service.connections()
            assert gate.service.kill(view.connection, "killed by test")
        elif how == "policy":
            other = rules(RULES.replace("site.example", "x.example"))
            await gate.service.apply(dataclasses.replace(web_settings(), policy=other))
        else:
            await gate.service.stop()
        (told,) = await gate.ended(client)
        assert told.startswith(b"HTTP/1.1 403 "), told

    gate = play(scenario, web_settings(), exchange=Names(**NAMES))
    (record,) = gate.requests
    assert (record.verdict, record.outcome) == ("allowed", "refused")


def test_a_change_of_policy_leaves_idle_clients_alone_and_holds_for_their_next_request() -> None:
    statuses: list[int] = []
    open_still: list[PeerStream] = []

    async def peer(stream: PeerStream) -> None:
        await stream.send_all(get())
        answer = await read_message(stream, is_response=True)
        assert answer is not None
        statuses.append(answer.status)
        open_still.append(stream)

    async def scenario(gate: Gate) -> None:
        gate.serve(Origin().serve, address=SITE)
        await gate.ended(gate.call(peer))
        other = rules(RULES.replace("site.example", "x.example"))
        await gate.service.apply(dataclasses.replace(web_settings(), policy=other))
        assert gate.service.connection_count == 1
        (stream,) = open_still

        async def again() -> Message | None:
            await stream.send_all(get())
            answer = await read_message(stream, is_response=True)
            stream.close()
            return answer

        late = gate.peers.spawn("again", again())
        (answer,) = await gate.ended(late)
        statuses.append(answer.status)
        await gate.idle()

    play(scenario, web_settings(), exchange=Names(**NAMES))
    assert statuses == [200, 403]


def test_inside_tls_it_is_the_same() -> None:
    found = browse(
        peer=inside_tls(asks(get("/a"), get("/b"))), plan=with_tls(web_settings()), names=None
    )
    assert found.statuses == [200, 200]


def test_a_client_that_leaves_ends_its_request() -> None:
    asked.clear()

    async def peer(stream: PeerStream) -> None:
        await stream.send_all(get())
        stream.close()

    async def scenario(gate: Gate) -> None:
        gate.serve(never_answers, address=SITE)
        await gate.ended(gate.call(peer))
        await gate.idle()

    gate = play(scenario, web_settings(), exchange=Names(**NAMES), half_closed_timeout_s=5.0)
    (record,) = gate.requests
    assert record.outcome == "failed"


# -- descriptors -----------------------------------------------------------------------------------


def test_a_request_waits_for_a_descriptor_until_another_one_has_ended() -> None:
    """The second client is there, and no descriptor for its server."""

    async def scenario(gate: Gate) -> None:
        held: list[PeerStream] = []

        async def serve(stream: PeerStream) -> None:
            while await read_message(stream) is not None:
                held.append(stream)

        gate.serve(serve, address=SITE)
        first = gate.call(asks(get("/1")))
        await gate.until(lambda: held)
        gate.network.descriptors_max = len(gate.network.open_sockets) + 2
        second = gate.call(asks(get("/2")))
        await asyncio.sleep(2)
        assert not second.is_done
        await held.pop().send_all(reply(b"1"))
        await gate.until(lambda: held)
        await held.pop().send_all(reply(b"2"))
        gate.network.descriptors_max = 1 << 20
        found = await gate.ended(first, second)
        assert [[one.body for one in answers] for answers in found] == [[b"1"], [b"2"]]

    gate = play(scenario, web_settings(), exchange=Names(site_example=["93.184.216.34"]))
    assert [record.outcome for record in gate.requests] == ["released"] * 2


def test_a_server_connection_that_waits_is_closed_for_a_dial_without_a_descriptor() -> None:
    idle: list[int] = []

    def prepare(gate: Gate) -> None:
        create = gate.backend.create_socket

        def create_socket(family: int) -> RawSocket:
            idle.append(gate.service.web.pool.idle_count)
            if idle.count(1) == 1 and idle[-1]:
                raise OSError(errno.EMFILE, "none left")
            return create(family)

        gate.backend.create_socket = create_socket  # type: ignore[method-assign]

    async def scenario(gate: Gate) -> None:
        gate.serve(Origin().serve, address=SITE)
        gate.serve(Origin().serve, address=OTHER)
        client = gate.call(asks(get(), get("/", "other.example")))
        (answers,) = await gate.ended(client)
        assert [one.status for one in answers] == [200, 200]

    names = Names(site_example=["93.184.216.34"], other_example=["93.184.216.35"])
    play(scenario, web_settings(), exchange=names, prepare=prepare)
    assert idle[-2:] == [1, 0]


def test_a_request_that_finds_no_descriptor_in_time_is_told() -> None:
    async def scenario(gate: Gate) -> None:
        async def stays(stream: PeerStream) -> None:
            await read_message(stream)
            await stream.receive()

        gate.serve(stays, address=SITE)

        async def client(stream: PeerStream) -> int:
            await stream.send_all(get())
            answer = await read_message(stream, is_response=True)
            stream.close()
            assert answer is not None
            return answer.status

        holding = gate.call(client)
        await gate.until(lambda: gate.service.web.pool)
        gate.network.descriptors_max = len(gate.network.open_sockets) + 2
        assert await gate.ended(gate.call(client)) == [504]
        gate.network.descriptors_max = 1 << 20
        assert not holding.is_done

    gate = play(scenario, web_settings(), exchange=Names(site_example=["93.184.216.34"]))
    assert gate.requests[0].ended == "server wait for a descriptor ETIMEDOUT"


def test_a_connection_whose_requests_were_all_refused_has_no_server_on_record() -> None:
    found = browse(get("/", "evil.example"), get("/", "evil.example"))
    (end,) = found.gate.ends
    assert (found.statuses, end.server) == ([403, 403], "")


def test_a_request_refused_for_what_its_name_leads_to_was_denied() -> None:
    found = browse(get(), names=Names(site_example=["10.9.9.9"]))
    (record,) = found.gate.requests
    assert (record.verdict, record.outcome, record.rule) == ("denied", "refused", "web")
    assert record.reason.startswith("address-denied")
    assert (record.ended, record.addresses) == ("", ("10.9.9.9",))
    assert (found.gate.service.allowed, found.gate.service.denied) == (0, 1)
