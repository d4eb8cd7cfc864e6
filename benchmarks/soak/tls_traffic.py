"""HTTPS in tunnels that a rule opens: HTTP/1.1 and HTTP/2 in turn, bodies held as in `web`."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator

from typing_extensions import override

from benchmarks.inspection.origin import NAME, issue, name_server
from benchmarks.inspection.peers import make_authority
from benchmarks.soak.http2_ends import Answer, Server, fetch_at_once
from benchmarks.soak.kind import Kind, Site, WrongAnswer, check, connection
from benchmarks.soak.web_traffic import EVIL, REQUESTS, answer_web, ask, body_of, wanted


class TlsTraffic(Kind):
    """A tunnel for each exchange; what is fetched in it is held, or refused."""

    name = "tls"
    clients = 6

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._origin_authority = issue(site.folder)
        self._names_port = 0
        self._ca = make_authority(site.folder)
        self._http1, self._http2 = (self._trusting(name) for name in ("http/1.1", "h2"))

    def _trusting(self, protocol: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._ca / "ca.pem"))
        context.set_alpn_protocols([protocol])
        return context

    @override
    def main_toml(self) -> str:
        assert self._names_port, "its server runs when the gate is started"
        return (
            self.listener('entry = "proxy"')
            + f'[ca]\ndir = "{self._ca}"\n[tls]\nauthorities = ["{self._origin_authority}"]\n'
            f'[resolver]\nservers = ["127.0.0.1:{self._names_port}"]\n'
        )

    @override
    def policy_toml(self) -> str:
        port = self.site.server_port
        return (
            f'[[rule]]\nname = "{self.name}"\naction = "allow"\nlistener = "{self.name}"\n'
            f'clients = ["127.0.0.0/8"]\nto = ["{NAME}", "127.0.0.1"]\nprotocols = ["tcp:{port}"]\n'
            f'tls = {{ ports = [{port}], mode = "inspect" }}\nfilters = ["guard"]\n'
        )

    @override
    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncGenerator[object]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.load_cert_chain(self.site.folder / "origin.pem", self.site.folder / "origin.key")
        with name_server() as self._names_port:
            server = await asyncio.start_server(
                serve_web, "127.0.0.1", self.site.server_port, backlog=512, ssl=context
            )
            async with server:
                yield server

    @override
    async def one(self, client: str, number: int) -> int:
        target = f"{NAME}:{self.site.server_port}"
        async with connection(self.site.gate_port, client) as (reader, writer):
            writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(head.partition(b"\r\n")[0].decode())
            places = [wanted(place) for place in range(number * REQUESTS, (number + 1) * REQUESTS)]
            if number % 2 == 0:
                await writer.start_tls(self._http2, server_hostname=NAME)
                answers = await fetch_at_once(reader, writer, target, [path for path, _ in places])
                return sum(
                    check_answer(answer, expected)
                    for answer, (_, expected) in zip(answers, places, strict=True)
                )
            await writer.start_tls(self._http1, server_hostname=NAME)
            count = 0
            for path, expected in places:
                request = f"GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n"
                count += await ask(reader, writer, request, expected)
            return count


def check_answer(answer: Answer, expected: bytes | None) -> int:
    """Compares, as `ask` does; returns the bytes.

    Raises:
        WrongAnswer: It is not what was expected.
    """
    if expected is not None:
        return check(bytes(answer.body), expected)
    if answer.status != "403" or EVIL in answer.body:
        raise WrongAnswer(f"{answer.status} is the answer for what is to be refused")
    return len(answer.body)


async def serve_web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves a connection until its client leaves, however it does."""
    encrypted: ssl.SSLObject = writer.get_extra_info("ssl_object")
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        if encrypted.selected_alpn_protocol() == "h2":
            await Server(lambda path: body_of(path.encode())).serve(reader, writer)
        else:
            await answer_web(reader, writer)
    writer.close()
