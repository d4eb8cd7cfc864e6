"""A real directory: who is let in, with which groups, and that nothing unclear lets anybody in."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.clock import SystemClock
from sluicegate.errors import DirectoryFailed
from sluicegate.identity import (
    DirectoryServer,
    DirectorySettings,
    DirectoryUser,
    DistinguishedName,
    GroupName,
)
from sluicegate.identity.ldap_lookup import find_user
from sluicegate.identity.ldap_pool import LdapPool
from tests.pki import authority

from .ldap_parts import BASE, GROUPS, PEOPLE, SEARCH_PASSWORD, SEARCHER, Slapd, slapd_server

pytestmark = pytest.mark.either_driver

CLOCK = SystemClock()
LOOPBACK = SocketAddress.parse("127.0.0.1:1")


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd_server(tmp_path_factory.mktemp("slapd") / "one") as server:
        yield server


def name(text: str) -> DistinguishedName:
    return DistinguishedName.parse(text)


def plan(slapd: Slapd, *, starts_tls: bool = False, **changes: Any) -> DirectorySettings:
    port = slapd.plain_port if starts_tls else slapd.tls_port
    settings = DirectorySettings(
        servers=(DirectoryServer("127.0.0.1", port, starts_tls=starts_tls),),
        base=name(PEOPLE),
        user_filter="(&(objectClass=inetOrgPerson)(uid={user}))",
        user_attribute="uid",
        bind_name=SEARCHER,
        bind_password=SEARCH_PASSWORD.encode(),
        ca_pem=authority("directory").pem,
        group_attribute="memberOf",
        group_base=name(GROUPS),
        connect_timeout_s=30.0,
    )
    return dataclasses.replace(settings, **changes)


def ask(
    settings: DirectorySettings, username: str, password: bytes | None, *, seconds: float = 60
) -> DirectoryUser | None:
    """Ask once, over connections of this question alone."""
    pool = LdapPool(settings, CLOCK)
    addresses = {one: [LOOPBACK.with_port(one.port)] for one in settings.servers}
    try:
        return find_user(pool, addresses, username, password, CLOCK.monotonic() + seconds)
    finally:
        pool.close()


def failure(*arguments: Any, **options: Any) -> str:
    with pytest.raises(DirectoryFailed) as caught:
        ask(*arguments, **options)
    return caught.value.cause


@pytest.mark.parametrize("starts_tls", [False, True])
def test_right_password_gives_the_user_with_its_groups(slapd: Slapd, starts_tls: bool) -> None:
    found = ask(plan(slapd, starts_tls=starts_tls), "ann", b"open sesame")
    assert found == DirectoryUser(
        "ann", ("staff",), f"uid=ann,{PEOPLE}", (f"cn=Domain Users,{GROUPS}",)
    )


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("ann", b"open sesame "), ("ann", b""), ("ann", b"\x00"), ("ann", b"\xff\xfe"),
        ("nobody", b"open sesame"), ("nopass", b"x"), ("nopass", b""),
        ("*", b"open sesame"), ("a*", b"open sesame"), ("ann)(uid=*", b"open sesame"),
        ("*)(objectClass=*", b"open sesame"), ("ann\x00", b"open sesame"),
        ("\\61nn", b"open sesame"), ("ann)(|(uid=*)", b"open sesame"),
        ("{user}", b"open sesame"), ("{dn}", b"open sesame"), ("", b"open sesame"),
        ("annä", b"open sesame"), ("ann ", b"open sesame "), ("ann,ou=people", b"open sesame"),
    ],
)  # fmt: skip
def test_q7_whoever_is_not_exactly_a_user_is_nobody(
    slapd: Slapd, username: str, password: bytes
) -> None:
    """Below the check of names, which none of the odd ones would pass."""
    assert ask(plan(slapd), username, password) is None


def test_name_is_the_directorys_whatever_case_the_client_wrote(slapd: Slapd) -> None:
    for written in ("BOB", "bob", "Bob"):
        found = ask(plan(slapd), written, b"another word")
        assert found is not None
        assert found.name == "Bob"


def test_groups_elsewhere_count_for_nothing(slapd: Slapd) -> None:
    found = ask(plan(slapd), "ann", b"open sesame")
    assert found is not None
    assert "admins" not in found.groups
    everywhere = ask(plan(slapd, group_base=name(BASE)), "ann", b"open sesame")
    assert everywhere is not None
    assert "admins" in everywhere.groups


def test_rules_may_call_a_group_by_another_name(slapd: Slapd) -> None:
    names = (GroupName("everybody", name(f"CN=domain  users,{GROUPS}")),)
    found = ask(plan(slapd, group_names=names), "ann", b"open sesame")
    assert found is not None
    assert (found.groups, found.unnamed) == (("everybody", "staff"), ())


GROUP_FILTER = "(&(objectClass=groupOfNames)(member={dn}))"


@pytest.mark.parametrize(
    "how", [{"group_attribute": "memberOf"}, {"group_attribute": "", "group_filter": GROUP_FILTER}]
)
@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (0, {"level0", "round"}),
        (1, {"level0", "level1", "round", "about"}),
        (3, {"level0", "level1", "level2", "level3", "round", "about"}),
        (9, {f"level{depth}" for depth in range(6)} | {"round", "about"}),
    ],
)
def test_nested_groups_are_followed_as_deep_as_is_said_and_round_no_more_than_once(
    slapd: Slapd, how: dict[str, str], depth: int, expected: set[str]
) -> None:
    found = ask(plan(slapd, nested_groups_depth=depth, **how), "bob", b"another word")
    assert found is not None
    assert set(found.groups) == expected


@pytest.mark.parametrize(
    "how", [{"group_attribute": "memberOf"}, {"group_attribute": "", "group_filter": GROUP_FILTER}]
)
def test_q7_an_entry_with_an_odd_name_is_bound_and_searched_for_as_it_is(
    slapd: Slapd, how: dict[str, str]
) -> None:
    found = ask(plan(slapd, **how), "odd", b"odd word")
    assert found is not None
    assert found.groups == ("odd-ones", "staff")


def test_two_entries_for_one_name_let_nobody_in(slapd: Slapd) -> None:
    by_mail = plan(slapd, user_filter="(mail=same@example.org)")
    assert "more than one entry" in failure(by_mail, "twin", b"twin word")


def test_a_user_may_come_by_another_attribute_and_is_called_by_its_own(slapd: Slapd) -> None:
    found = ask(plan(slapd, user_filter="(mail={user})"), "ann@example.org", b"open sesame")
    assert found is not None
    assert found.name == "ann"


def test_an_entry_of_two_names_is_whom_the_client_named_or_else_nobody(slapd: Slapd) -> None:
    settings = plan(slapd)
    found = ask(settings, "second-name", b"two words")
    assert found is not None
    assert found.name == "second-name"
    by_surname = dataclasses.replace(settings, user_filter="(sn=two-names)")
    assert "2 values of uid" in failure(by_surname, "whoever", b"two words")


def test_a_user_is_found_without_a_password_where_something_else_vouches(slapd: Slapd) -> None:
    found = ask(plan(slapd), "ann", None)
    assert found is not None
    assert found.groups == ("staff",)
    assert ask(plan(slapd), "nobody", None) is None


CLOSED = [
    ({"bind_password": b"wrong"}, "refuses the password of bind_dn"),
    ({"base": name("ou=nowhere,dc=example,dc=org")}, "noSuchObject"),
    ({"base": name("ou=far,ou=people,dc=example,dc=org")}, "referral"),
    ({"bind_name": "", "bind_password": b""}, "insufficientAccessRights"),
    ({"ca_pem": authority("another").pem}, "certificate"),
    ({"ca_pem": ""}, "certificate"),
    ({"tls_name": "other.names.test"}, "mismatch"),
    ({"tls_name": "evil.ldap.names.test"}, "mismatch"),
    ({"group_attribute": "", "group_filter": "(member={dn})", "group_base": name("dc=x")},
     "noSuchObject"),
]  # fmt: skip


@pytest.mark.parametrize("starts_tls", [False, True])
@pytest.mark.parametrize(("changes", "cause"), CLOSED)
def test_what_is_unclear_is_a_failure_with_its_cause(
    slapd: Slapd, starts_tls: bool, changes: dict[str, Any], cause: str
) -> None:
    said = failure(plan(slapd, starts_tls=starts_tls, **changes), "ann", b"open sesame")
    assert cause in said
    assert "open sesame" not in said
    assert SEARCH_PASSWORD not in said


def test_the_certificates_name_may_be_another_than_the_urls(slapd: Slapd) -> None:
    assert ask(plan(slapd, tls_name="ldap.names.test"), "ann", b"open sesame") is not None


def test_a_connection_that_died_is_made_again(slapd: Slapd) -> None:
    settings = plan(slapd)
    pool = LdapPool(settings, CLOCK)
    addresses = {settings.servers[0]: [LOOPBACK.with_port(slapd.tls_port)]}
    for _ in range(2):
        found = find_user(pool, addresses, "ann", b"open sesame", CLOCK.monotonic() + 5)
        assert found is not None
        slapd.stop()
        slapd.start()
    pool.close()


def test_another_server_answers_for_one_that_is_down_and_the_first_is_avoided(
    slapd: Slapd,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        down = DirectoryServer("127.0.0.1", closed.getsockname()[1])
    settings = plan(slapd)
    settings = dataclasses.replace(settings, servers=(down, *settings.servers))
    assert ask(settings, "ann", b"open sesame") is not None
    only_down = dataclasses.replace(settings, servers=(down,))
    assert "refused" in failure(only_down, "ann", b"open sesame")


def test_a_dial_that_is_not_allowed_is_not_made(slapd: Slapd) -> None:
    settings = plan(slapd)
    asked: list[SocketAddress] = []
    pool = LdapPool(settings, CLOCK, lambda address: bool(asked.append(address)))
    with pytest.raises(DirectoryFailed, match=r"\[system\]"):
        find_user(
            pool, {settings.servers[0]: [LOOPBACK.with_port(slapd.tls_port)]}, "ann", b"x",
            CLOCK.monotonic() + 60,
        )  # fmt: skip
    assert asked == [LOOPBACK.with_port(slapd.tls_port)]


class BadServer:
    """Accepts, then does as it is told."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(20)
                with contextlib.suppress(OSError):
                    self._behave(client)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)


def silent(client: socket.socket) -> None:
    while client.recv(4096):
        pass


def trickling(client: socket.socket) -> None:
    """Begin an answer of a kilobyte, and send a byte of it now and then."""
    client.recv(4096)
    client.sendall(b"\x30\x82\x04\x00")
    waiting = threading.Event()
    while True:
        waiting.wait(0.05)
        client.sendall(b"\x00")


def endless(client: socket.socket) -> None:
    """Announce a message of two gigabytes, and send it."""
    client.recv(4096)
    client.sendall(b"\x30\x84\x7f\xff\xff\xff")
    while True:
        client.sendall(bytes(65536))


def babbling(client: socket.socket) -> None:
    client.recv(4096)
    client.sendall(b"\x30\x05\x02\x01\x01\x77\x00" * 3 + b"HTTP/1.1 400 Bad Request\r\n\r\n")
    silent(client)


def refusing_tls(client: socket.socket) -> None:
    """Answer StartTLS with 52, unavailable."""
    client.recv(4096)
    client.sendall(bytes.fromhex("300c02010178070a01340400 0400"))
    silent(client)


def stripping(client: socket.socket) -> None:
    """Answer StartTLS with success, and go on in clear."""
    request = client.recv(4096)
    number = request[4]
    client.sendall(bytes([0x30, 0x0C, 2, 1, number, 0x78, 7, 10, 1, 0, 4, 0, 4, 0]))
    client.recv(4096)
    client.sendall(bytes([0x30, 0x0C, 2, 1, number + 1, 0x61, 7, 10, 1, 0, 4, 0, 4, 0]))
    silent(client)


@pytest.mark.parametrize("starts_tls", [False, True])
@pytest.mark.parametrize("behave", [silent, trickling, endless, babbling, refusing_tls, stripping])
def test_a_server_that_misbehaves_lets_nobody_in_and_takes_no_longer_than_it_may(
    slapd: Slapd, behave: Callable[[socket.socket], None], starts_tls: bool
) -> None:
    server = BadServer(behave)
    settings = plan(slapd, starts_tls=starts_tls)
    settings = dataclasses.replace(
        settings, servers=(DirectoryServer("127.0.0.1", server.port, starts_tls=starts_tls),)
    )
    began = CLOCK.monotonic()
    assert failure(settings, "ann", b"open sesame", seconds=1)
    assert CLOCK.monotonic() - began < 30  # a trickle would take 50 s, the others for ever
    server.close()


def test_a_silent_server_among_others_costs_its_share_of_the_time_only(slapd: Slapd) -> None:
    server = BadServer(silent)
    settings = plan(slapd, connect_timeout_s=3.0)
    first = DirectoryServer("127.0.0.1", server.port)
    settings = dataclasses.replace(settings, servers=(first, *settings.servers))
    assert ask(settings, "ann", b"open sesame", seconds=30) is not None
    server.close()


def test_settings_do_not_show_their_password(slapd: Slapd) -> None:
    assert SEARCH_PASSWORD not in repr(plan(slapd))
