"""Whatever ClientHello we accept, nginx finds the same name in it where it only looks, too.

Its stream module ``ssl_preread`` has a reader of its own, for gateways that do not open TLS. It
takes what we refuse in places; that is why only what we accept is compared.
"""

from __future__ import annotations

import contextlib
import pathlib
import socket
import subprocess
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.protocols.tls_hello import HelloReader, TlsRefused
from tests.ports import free_port
from tests.unit.hello_kit import (
    PADDING,
    Extension,
    alpn,
    body,
    browser_hello,
    groups,
    hello,
    hello_to,
    key_shares,
    message,
    openssl_hello,
    records,
    sni,
    versions,
)
from tests.waiting import wait_until

INSTALL = "apt-get install --yes nginx-light libnginx-mod-stream"
NGINX = pathlib.Path("/usr/sbin/nginx")
MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
PATIENCE_S = 60.0

CONFIGURATION = """\
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ }}
stream {{
  server {{
    listen 127.0.0.1:{port};
    ssl_preread on;
    preread_buffer_size 64k;
    preread_timeout 60s;
    return "name=$ssl_preread_server_name\\nalpn=$ssl_preread_alpn_protocols\\n";
  }}
}}
"""


class Nginx:
    """nginx as a gateway that says what it has read."""

    def __init__(self, port: int) -> None:
        self.port = port

    def listens(self) -> bool:
        """Tell whether it takes connections."""
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port), PATIENCE_S).close()
            return True
        return False

    def read(self, *pieces: bytes) -> tuple[str, str]:
        """Return the name and the protocols in a hello; both empty where it finds none."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as client:
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := client.recv(4096):
                    said += piece
        lines = said.decode("latin-1").split("\n")
        return lines[0].removeprefix("name="), lines[1].removeprefix("alpn=")


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    if not (NGINX.exists() and MODULE.exists()):
        pytest.fail(f"nginx with its stream module is missing: {INSTALL}", pytrace=False)
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(CONFIGURATION.format(module=MODULE, folder=folder, port=port))
    command = [str(NGINX), "-c", str(path), "-p", str(folder), "-e", str(folder / "error.log")]
    with subprocess.Popen(command) as process:
        try:
            wait_until(Nginx(port).listens, "nginx does not listen")
            yield Nginx(port)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def check_agreement(nginx: Nginx, data: bytes) -> None:
    """Compare the readings of what we accept."""
    try:
        ours = HelloReader().read(data)
    except TlsRefused:
        return
    assert ours is not None
    name, protocols = nginx.read(data)
    # (Some versions write it in lower case.)
    assert name.lower() == (ours.server_name or "").lower()
    assert protocols == ",".join(one.decode("latin-1") for one in ours.alpn)


@pytest.mark.parametrize(
    "data",
    [
        openssl_hello("www.example.com"),
        browser_hello("www.example.com"),
        hello_to("b.example", (PADDING, bytes(15000))),
        hello(versions(0x0304)),
        hello(sni("WWW.Example.com"), alpn(b"h2")),
        records(message(body([sni("a.example"), alpn(b"http/1.1")])), 30, 40),
    ],
    ids=["openssl", "browser", "padded", "no name", "capitals", "records"],
)
def test_hellos_of_clients_are_read_alike(nginx: Nginx, data: bytes) -> None:
    assert HelloReader().read(data) is not None
    check_agreement(nginx, data)


EXTENSIONS = st.sampled_from(
    [
        alpn(b"h2"),
        alpn(b"http/1.1", b"h2"),
        versions(0x0304, 0x0303),
        groups(29, 23),
        key_shares((29, bytes(range(32)))),
        (PADDING, bytes(40)),
        (0x2A2A, b""),
        *(sni(name) for name in ("www.example.com", "B.Example", "a.example.", "192.0.2.1")),
        sni("a.example", "b.example"),
        sni("a.example", kind=1),
        (0, b""),
        (0, sni("a.example")[1] + sni("b.example")[1]),
    ]
)


@settings(max_examples=300)
@given(
    extensions=st.lists(EXTENSIONS, max_size=6, unique_by=lambda one: one[0]),
    sizes=st.lists(st.integers(1, 60), max_size=3),
    at=st.integers(-300, 300),
    put_in=st.binary(max_size=2),
)
def test_what_we_accept_has_one_name_for_nginx(
    *,
    extensions: Sequence[Extension],
    sizes: Sequence[int],
    at: int,
    put_in: bytes,
    nginx: Nginx,
) -> None:
    content = body(extensions)
    if 0 <= at < len(content):
        content = content[:at] + put_in + content[at + len(put_in) :]
    check_agreement(nginx, records(message(content), *sizes))
