"""A loopback server on the entry parsers, and the real clients that talk to it.

It detects the protocol, drives the parser as a gate would, never dials anybody, and serves one
small HTTP answer inside the tunnel. What each client sent is kept, so that tests can cut it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sluicegate.errors import ProtocolError
from sluicegate.protocols.detect import EntryProtocol, detect_protocol
from sluicegate.protocols.entry import Credentials
from sluicegate.protocols.http_connect import HttpConnectParser, HttpConnectRequest
from sluicegate.protocols.http_connect_answer import ConnectAnswer, encode_connect_answer
from sluicegate.protocols.proxy_protocol import ProxyHeader, ProxyHeaderParser
from sluicegate.protocols.socks import SocksReply, SocksRequest
from sluicegate.protocols.socks4 import Socks4Parser
from sluicegate.protocols.socks5 import Socks5Parser, SocksGreeting, SocksMethod
from tests.ports import free_port
from tests.waiting import wait_until

PATIENCE_S = 60.0
INSTALL = "apt-get install --yes curl ncat haproxy openssl proxychains4"
BODY = b"through the tunnel\n"
GOOD = Credentials(b"ann", b"open sesame")


def tool(name: str) -> str:
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.fail(f"{name} is missing: {INSTALL}", pytrace=False)
    return path


@dataclasses.dataclass
class Conversation:
    """One client's connection."""

    received: bytearray = dataclasses.field(default_factory=bytearray)
    protocols: list[EntryProtocol] = dataclasses.field(default_factory=list)
    events: list[object] = dataclasses.field(default_factory=list)
    error: str = ""
    tunnelled: bytes = b""


@dataclasses.dataclass(frozen=True)
class Manners:
    """How the server answers."""

    needs_credentials: bool = False
    socks: SocksReply = SocksReply.SUCCEEDED
    connect: ConnectAnswer = ConnectAnswer.ESTABLISHED


class EntryServer:
    """Serves one connection after the other on a thread of its own."""

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self.conversations: list[Conversation] = []
        self.failures: list[BaseException] = []
        self._ended = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        assert self.failures == []

    def wait_for(self, is_enough: Callable[[list[Conversation]], bool]) -> None:
        """Wait until the conversations that have ended are enough."""
        with self._ended:
            assert self._ended.wait_for(lambda: is_enough(self.conversations), PATIENCE_S)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(PATIENCE_S)
                conversation = Conversation()
                self.conversations.append(conversation)
                try:
                    Entry(client, conversation, self.manners).run()
                except ProtocolError as error:
                    conversation.error = error.hint
                except OSError as error:
                    conversation.error = str(error)
                except BaseException as error:
                    self.failures.append(error)
            with self._ended:
                self._ended.notify_all()


class Entry:
    """What the gate will do with one client, as far as parsers are concerned."""

    def __init__(self, client: socket.socket, conversation: Conversation, manners: Manners) -> None:
        self.client = client
        self.conversation = conversation
        self.manners = manners
        self.early = b""

    def run(self) -> None:
        protocol = self.detect()
        if protocol in {EntryProtocol.PROXY_V1, EntryProtocol.PROXY_V2}:
            self.early = self.parse(ProxyHeaderParser())
            if not isinstance(self.conversation.events[-1], ProxyHeader):
                return
            protocol = self.detect()
        parsers: dict[EntryProtocol, Any] = {
            EntryProtocol.SOCKS4: Socks4Parser,
            EntryProtocol.SOCKS5: Socks5Parser,
            EntryProtocol.HTTP_CONNECT: HttpConnectParser,
        }
        if protocol in parsers:
            self.early = self.parse(parsers[protocol]())
            if not self.answer_request(self.conversation.events[-1]):
                return
        self.serve_http()

    def detect(self) -> EntryProtocol:
        while (protocol := detect_protocol(self.early)) is None:
            self.early += self.receive()
        self.conversation.protocols.append(protocol)
        return protocol

    def parse(self, parser: Any) -> bytes:
        parser.receive_data(self.early)
        try:
            while True:
                while (event := parser.next_event()) is not None:
                    self.conversation.events.append(event)
                    if not self.answer_question(parser, event):
                        return b""
                if not parser.needs_data:
                    return bytes(parser.take_early_data())
                parser.receive_data(self.receive())
        except ProtocolError:
            self.client.sendall(getattr(parser, "refusal", b""))
            raise

    def answer_question(self, parser: Any, event: object) -> bool:
        if isinstance(event, SocksGreeting):
            wanted = (
                SocksMethod.USER_PASSWORD
                if self.manners.needs_credentials
                else SocksMethod.NO_AUTHENTICATION
            )
            method = wanted if event.has_method(wanted) else SocksMethod.NONE_ACCEPTABLE
            self.client.sendall(parser.choose_method(method))
            return method is wanted
        if isinstance(event, Credentials):
            self.client.sendall(parser.answer_credentials(is_accepted=event == GOOD))
            return event == GOOD
        return True

    def answer_request(self, event: object) -> bool:
        if isinstance(event, SocksRequest):
            self.client.sendall(event.encode_reply(self.manners.socks))
            return self.manners.socks is SocksReply.SUCCEEDED
        if isinstance(event, HttpConnectRequest):
            answer = self.manners.connect
            if self.manners.needs_credentials and event.credentials != GOOD:
                answer = ConnectAnswer.CREDENTIALS_NEEDED
            self.client.sendall(encode_connect_answer(answer, "c-1"))
            return answer is ConnectAnswer.ESTABLISHED
        return False

    def serve_http(self) -> None:
        data = self.early
        while b"\r\n\r\n" not in data:
            data += self.receive()
        self.conversation.tunnelled = data
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
        self.client.sendall(head.encode() + BODY)

    def receive(self) -> bytes:
        data = self.client.recv(4096)
        if not data:
            raise OSError("the client ended its stream")
        self.conversation.received += data
        return data


@contextlib.contextmanager
def entry_server(**manners: Any) -> Iterator[EntryServer]:
    server = EntryServer(Manners(**manners))
    try:
        yield server
    finally:
        server.close()


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command = [tool("curl"), "--silent", "--show-error", "--max-time", str(PATIENCE_S), *arguments]
    return subprocess.run(
        command, capture_output=True, check=False, env=environment, timeout=2 * PATIENCE_S
    )


def ncat(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Send one HTTP request through whatever the arguments say; it ends when the server does."""
    request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
    command = [tool("ncat"), *arguments]
    return subprocess.run(
        command, input=request, capture_output=True, check=False, timeout=2 * PATIENCE_S
    )


def proxychains(folder: pathlib.Path, kind: str, port: int, *command: str) -> Any:
    config = folder / f"proxychains-{kind}.conf"
    config.write_text(
        "strict_chain\nproxy_dns\ntcp_read_time_out 60000\ntcp_connect_time_out 60000\n"
        f"[ProxyList]\n{kind} 127.0.0.1 {port} ann secret\n"
    )
    return subprocess.run(
        [tool("proxychains4"), "-q", "-f", str(config), *command],
        capture_output=True, check=False, timeout=2 * PATIENCE_S,
    )  # fmt: skip


@contextlib.contextmanager
def haproxy(
    folder: pathlib.Path, target_port: int, server_options: str, bind: str = "", checks: str = ""
) -> Any:
    """Relay TCP to ``target_port``; yield the port it listens on."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode tcp\n  timeout connect 60s\n  timeout client 60s\n  timeout server 60s\n"
        f"listen relay\n  bind 127.0.0.1:{port} {bind}\n"
        f"  unique-id-format req-%[rand(1000)]\n{checks}"
        f"  server target 127.0.0.1:{target_port} {server_options}\n"
    )
    process = subprocess.Popen(
        [tool("haproxy"), "-q", "-db", "-f", str(config)], stdin=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def self_signed(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Make a certificate with its key in one file, as haproxy wants them."""
    both = folder / "both.pem"
    command = [
        tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-keyout", str(folder / "key.pem"),
        "-out", str(folder / "cert.pem"),
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
    parts = [(folder / part).read_text(encoding="ascii") for part in ("cert.pem", "key.pem")]
    both.write_text("".join(parts), encoding="ascii")
    return both


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    def is_there() -> bool:
        assert process.poll() is None, "haproxy ended"
        # To connect would be an event of the test's own.
        listening = pathlib.Path("/proc/net/tcp").read_text(encoding="ascii")
        return f"0100007F:{port:04X} 00000000:0000 0A" in listening

    wait_until(is_there, "haproxy does not listen")
