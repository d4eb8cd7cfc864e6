"""Clients of proxy listeners in every entry mode, and DNS servers in memory, for whole gates."""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from sluicegate.address import SocketAddress
from sluicegate.app.time_zones import find_time_zone
from sluicegate.documents import Findings
from sluicegate.filterapi import EntryMode
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.settings import (
    EntrySettings,
    Installation,
    ListenerSettings,
    ServiceSettings,
)
from sluicegate.identity import HashCost, User, Users, hash_password
from sluicegate.names.packets import Query
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.policy import PolicySnapshot, parse_policy
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import CLIENT, ENTRY, LIMITS, Gate, echoes, play
from tests.flows.tls_kit import inside_tls, with_tls
from tests.unit.resolver_kit import answer

CARRIAGES = ("clear", "tls")
"""What clients speak their protocol in."""

carriage = "clear"
"""Of ``visit``; modules of tests that are about every entry mode set it by a fixture."""

MODES = (EntryMode.SOCKS4, EntryMode.SOCKS5, EntryMode.HTTP_CONNECT)
WEB = SocketAddress.parse("93.184.216.34:443")
WEB6 = SocketAddress.parse("[2606:2800:220:1::34]:443")
DNS = SocketAddress.parse("192.0.2.53:53")

CHEAP = HashCost(7168, 1, 1)
ANN = User("ann", hash_password(b"open sesame", CHEAP), ("staff",))

BOB = User("bob", hash_password(b"another word", CHEAP))

RULES = """
[[rule]]
name = "web"
action = "allow"
listener = "proxy"
clients = ["10.0.0.0/8", "fd00::/8"]
to = ["*"]
protocols = ["tcp:443"]
"""


def rules(text: str) -> PolicySnapshot:
    """Compile a policy; the listener and clients of a rule may be left out.

    Where it says nothing of TLS, nothing is looked for.
    """
    findings = Findings()
    # What clients of these tests say on port 443 is no TLS, but where a test is about that.
    lines: list[str] = [] if "tls" in text else ['tls = "off"']
    for block in text.strip().split("[[rule]]"):
        if not block.strip():
            continue
        lines.append("[[rule]]" if "name =" in block or "to =" in block else block)
        if lines[-1] != "[[rule]]":
            continue
        for key, default in _DEFAULTS.items():
            if not any(line.split("=")[0].strip() == key for line in block.splitlines()):
                lines.append(f"{key} = {default.format(len(lines))}")
        lines.append(block)
    parsed = parse_policy("\n".join(lines), "policy.toml", findings, time_zone=find_time_zone)
    assert parsed is not None, findings.errors
    return PolicySnapshot(parsed.policy)


_DEFAULTS = {
    "name": '"rule-{}"',
    "action": '"allow"',
    "listener": '"proxy"',
    "clients": '["10.0.0.0/8", "fd00::/8"]',
    "protocols": '["tcp:443"]',
}


def proxy_settings(
    policy: str = RULES,
    *,
    authenticate: Authenticate = Authenticate.OFF,
    protocols: Sequence[EntryProtocol] = (
        EntryProtocol.SOCKS4,
        EntryProtocol.SOCKS5,
        EntryProtocol.HTTP_CONNECT,
    ),
    users: Sequence[User] = (ANN,),
    filters: Sequence[Installation] = (),
    use_mixed_answers: bool = False,
    own: Sequence[str] = ("10.0.0.1",),
    address: SocketAddress = ENTRY,
) -> ServiceSettings:
    entry = EntrySettings(frozenset(protocols), authenticate)
    return ServiceSettings(
        (ListenerSettings("proxy", address, entry=entry),),
        rules(policy),
        tuple(filters),
        LIMITS,
        users=Users(users),
        resolver=ResolverSettings((DNS,), use_mixed_answers=use_mixed_answers, mix_case=False),
        own_addresses=tuple(map(ipaddress.ip_address, own)),
    )


class Names:
    """A DNS server in memory; notes every question that reaches it."""

    def __init__(self, **records: Sequence[str]) -> None:
        self.records = {name.replace("_", "."): list(rows) for name, rows in records.items()}
        self.asked: Counter[str] = Counter()
        self.fail: Callable[[str], str | None] = lambda _name: None

    def put(self, name: str, *rows: str) -> Names:
        """Let a name have records: addresses, or whole rows."""
        self.records[name] = list(rows)
        return self

    async def ask_udp(self, server: SocketAddress, query: Query) -> bytes:
        return self._answer(query)

    async def ask_tcp(self, server: SocketAddress, query: Query) -> bytes:
        return self._answer(query)

    def _answer(self, query: Query) -> bytes:
        name = query.question.name
        self.asked[name] += 1
        failure = self.fail(name)
        if failure == "silent":
            raise TimeoutError
        if failure is not None:
            return answer(query.wire, rcode=failure)
        rows = self.records.get(name)
        if rows is None:
            return answer(query.wire, rcode="NXDOMAIN")
        kind = query.question.record_type.name
        found: list[str] = []
        for row in rows:
            if " " in row:
                if f" {kind} " in row or " CNAME " in row:
                    found.append(row)
            elif (":" in row) == (kind == "AAAA"):
                found.append(f"{name}. 60 {kind} {row}")
        return answer(query.wire, *found)


@dataclasses.dataclass(frozen=True)
class Ask:
    """What one client asks for, in one mode."""

    mode: EntryMode
    host: str | bytes
    port: int = 443
    user: str = ""
    password: str = ""
    early: bytes = b""

    @property
    def octets(self) -> bytes:
        return self.host.encode() if isinstance(self.host, str) else self.host

    def wire(self) -> bytes:
        """The whole handshake and what follows it, at once."""
        return b"".join(self.parts()) + self.early

    def parts(self) -> list[bytes]:
        """The handshake, message by message."""
        return {
            EntryMode.SOCKS4: self._socks4,
            EntryMode.SOCKS5: self._socks5,
            EntryMode.HTTP_CONNECT: self._connect,
        }[self.mode]()

    def _socks4(self) -> list[bytes]:
        port = self.port.to_bytes(2, "big")
        try:
            packed = ipaddress.IPv4Address(self.octets.decode()).packed
            return [bytes([4, 1]) + port + packed + b"me\0"]
        except ValueError:
            return [bytes([4, 1]) + port + bytes([0, 0, 0, 1]) + b"me\0" + self.octets + b"\0"]

    def _socks5(self) -> list[bytes]:
        method = 2 if self.user else 0
        parts = [bytes([5, 1, method])]
        if self.user:
            name, password = self.user.encode(), self.password.encode()
            parts.append(bytes([1, len(name)]) + name + bytes([len(password)]) + password)
        try:
            address = ipaddress.ip_address(self.octets.decode())
            kind = 1 if address.version == 4 else 4
            where = bytes([kind]) + address.packed
        except ValueError:
            where = bytes([3, len(self.octets)]) + self.octets
        parts.append(b"\5\1\0" + where + self.port.to_bytes(2, "big"))
        return parts

    def _connect(self) -> list[bytes]:
        host = self.octets
        if host.count(b":") > 1 and not host.startswith(b"["):
            host = b"[" + host + b"]"
        target = host + b":%d" % self.port
        head = b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n"
        if self.user:
            token = base64.b64encode(f"{self.user}:{self.password}".encode())
            head += b"Proxy-Authorization: Basic " + token + b"\r\n"
        return [head + b"\r\n"]


@dataclasses.dataclass
class Reply:
    """What a client was told, in words that all modes share."""

    code: int = -1
    """0 for granted; else the reply code of SOCKS 5, 91 of SOCKS 4, the status of HTTP."""
    text: bytes = b""
    tunnelled: bytes = b""

    @property
    def is_granted(self) -> bool:
        return self.code == 0


async def read_reply(stream: PeerStream, ask: Ask) -> Reply:
    """Read the answers to a whole handshake."""
    if ask.mode is EntryMode.SOCKS4:
        data = await stream.receive_exactly(8)
        return Reply(-1 if len(data) < 8 else 0 if data[1] == 90 else data[1], data)
    if ask.mode is EntryMode.HTTP_CONNECT:
        head = await stream.receive_until(b"\r\n\r\n")
        if not head:
            return Reply()
        status = int(head.split(b" ")[1])
        if status == 200:
            return Reply(0, head)
        return Reply(status, head + await stream.receive_all())
    chosen = await stream.receive_exactly(2)
    if chosen[1:] == b"\xff" or len(chosen) < 2:
        return Reply(0xFF if chosen else -1, chosen)
    if chosen[1] == 2:
        verdict = await stream.receive_exactly(2)
        if verdict != b"\1\0":
            return Reply(0x101, verdict)
    data = await stream.receive_exactly(10)
    return Reply(data[1] if len(data) == 10 else -1, data)


def asks(
    ask: Ask,
    then: Callable[[PeerStream], Coroutine[Any, Any, bytes]] | None = None,
    cuts: Sequence[int] = (),
    sleep: Callable[[float], Coroutine[Any, Any, None]] | None = None,
) -> Callable[[PeerStream], Coroutine[Any, Any, Reply]]:
    """Be a client that asks; ``then`` goes on in the tunnel."""

    async def peer(stream: PeerStream) -> Reply:
        wire, start = ask.wire(), 0
        for cut in (*cuts, len(wire)):
            await stream.send_all(wire[start:cut])
            if sleep is not None and cut < len(wire):
                await sleep(0.01)
            start = cut
        try:
            reply = await read_reply(stream, ask)
            if reply.is_granted and then is not None:
                reply.tunnelled = await then(stream)
        except OSError as error:
            return Reply(-1, str(error).encode())
        stream.close()
        return reply

    return peer


async def says_hello(stream: PeerStream) -> bytes:
    """Send a word, end the stream, return the echo."""
    await stream.send_all(b"hello")
    stream.end_stream()
    return await stream.receive_all()


def carried(
    peer: Callable[[PeerStream], Coroutine[Any, Any, Any]],
) -> Callable[[PeerStream], Coroutine[Any, Any, Any]]:
    """Let a client do what it does in the carriage of the test."""
    return inside_tls(peer) if carriage == "tls" else peer


def carried_plan(plan: ServiceSettings) -> ServiceSettings:
    """Let the proxy listeners of a plan speak the carriage of the test."""
    return with_tls(plan) if carriage == "tls" else plan


@dataclasses.dataclass
class Visit:
    """What came of several clients at one gate, one after the other."""

    gate: Any
    replies: list[Reply]
    dialled: list[SocketAddress]
    asked: Counter[str]

    @property
    def reply(self) -> Reply:
        """The only one."""
        (reply,) = self.replies
        return reply

    @property
    def reasons(self) -> list[str]:
        """Why each was decided as it was."""
        return [record.reason for record in self.gate.decisions]


REFUSED = {EntryMode.SOCKS4: 91, EntryMode.SOCKS5: 2, EntryMode.HTTP_CONNECT: 403}
"""What each mode says to what policy refuses."""

MALFORMED = {EntryMode.SOCKS4: 91, EntryMode.SOCKS5: 1, EntryMode.HTTP_CONNECT: 400}
UNKNOWN = {EntryMode.SOCKS4: 91, EntryMode.SOCKS5: 4, EntryMode.HTTP_CONNECT: 502}
NEEDS_USER = {EntryMode.SOCKS4: 91, EntryMode.SOCKS5: 2, EntryMode.HTTP_CONNECT: 407}


def visit(
    *wanted: Ask,
    plan: ServiceSettings | None = None,
    names: Names | None = None,
    serve: Sequence[SocketAddress] = (WEB, WEB6),
    source: SocketAddress | None = CLIENT,
    **options: Any,
) -> Visit:
    """Let clients ask, one after the other, with an echo behind each of ``serve``."""
    plan = carried_plan(plan or proxy_settings())
    names = names or Names()
    replies: list[Reply] = []
    dialled: list[SocketAddress] = []

    def watch(gate: Gate) -> None:
        connect = gate.backend.connect

        def noting(operation: Any, sock: Any, address: SocketAddress) -> None:
            dialled.append(address)
            connect(operation, sock, address)

        gate.backend.connect = noting  # type: ignore[method-assign]

    async def scenario(gate: Gate) -> None:
        for address in serve:
            gate.serve(echoes, address=address)
        for ask in wanted:
            peer = carried(asks(ask, says_hello))
            client = gate.call(peer, source=source)
            (reply,) = await gate.ended(client)
            if isinstance(reply, OSError):
                reply = Reply(-1, str(reply).encode())  # reset before it was heard
            assert isinstance(reply, Reply), reply
            replies.append(reply)
        await gate.idle()

    gate = play(scenario, plan, exchange=names, prepare=watch, **options)
    return Visit(gate, replies, dialled, names.asked)
