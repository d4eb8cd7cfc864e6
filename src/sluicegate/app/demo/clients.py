"""The clients of the demonstration: what any client of FTP and HTTP does, and what it saw.

``live`` calls them on a thread. The invariant: an object's bytes are counted and hashed as they
come, and what the gate says in its place is never taken for them.
"""

from __future__ import annotations

import ftplib
import hashlib
import http.client
import ssl
from dataclasses import dataclass
from typing import Final

from sluicegate.address import SocketAddress

__all__ = ["Seen", "fetch_by_ftp", "fetch_by_http", "fetch_by_https", "post_by_http"]

PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client saw of one object."""

    bytes_count: int
    """Bytes of it that came."""
    sha256: str
    """Digest of them, hexadecimal."""
    reply: str
    """The final word of the server, or the gate's in its place."""


def fetch_by_ftp(gate: SocketAddress, path: str) -> Seen:
    """Fetch a file from the server behind a published port."""
    digest, count = hashlib.sha256(), 0

    def take(piece: bytes) -> None:
        nonlocal count
        digest.update(piece)
        count += len(piece)

    with ftplib.FTP(timeout=PATIENCE_S) as ftp:  # noqa: S321 - FTP is what is demonstrated
        ftp.connect(gate.host, gate.port)
        ftp.login()
        try:
            reply = ftp.retrbinary(f"RETR {path}", take, blocksize=1 << 18)
        except ConnectionResetError:
            # The data connection, as announced; the control connection says why.
            reply = _final_reply(ftp)
        except ftplib.error_perm as refusal:
            reply = str(refusal)
    return Seen(count, digest.hexdigest(), reply)


def _final_reply(ftp: ftplib.FTP) -> str:
    try:
        return ftp.getresp()
    except ftplib.Error as refusal:
        return str(refusal)


def fetch_by_http(proxy: SocketAddress, url: str) -> Seen:
    """Fetch an object through a proxy, as a browser; where it is refused, also as a program."""
    seen, is_refused = _ask(proxy, "GET", url, _BROWSER)
    if not is_refused:
        return seen
    again, _ = _ask(proxy, "GET", url, _PROGRAM)
    return Seen(seen.bytes_count + again.bytes_count, seen.sha256, f"{seen.reply}; {again.reply}")


def fetch_by_https(
    proxy: SocketAddress, server: SocketAddress, path: str, authority: str, host: str = ""
) -> Seen:
    """Fetch an object inside TLS, in a tunnel that a proxy opens.

    Args:
        proxy: The proxy.
        server: Where the tunnel leads.
        path: Of the object.
        authority: A file with the authority that the client trusts, and no other.
        host: Another host to ask for inside; empty: the server's.
    """
    context = ssl.create_default_context(cafile=authority)
    connection = http.client.HTTPSConnection(
        proxy.host, proxy.port, timeout=PATIENCE_S, context=context
    )
    connection.set_tunnel(server.host, server.port)
    fields = _BROWSER | ({"Host": host} if host else {})
    try:
        return _exchange(connection, "GET", f"/{path}", fields)[0]
    except (ssl.SSLError, ConnectionError) as error:
        return Seen(0, "", str(error))


def post_by_http(proxy: SocketAddress, url: str, form: bytes) -> Seen:
    """Send a form through a proxy; what is seen is the answer."""
    seen, _ = _ask(proxy, "POST", url, _PROGRAM | _FORM, form)
    return seen


def _ask(
    proxy: SocketAddress, method: str, url: str, fields: dict[str, str], body: bytes | None = None
) -> tuple[Seen, bool]:
    """Send one request; return what came, and whether it was refused."""
    connection = http.client.HTTPConnection(proxy.host, proxy.port, timeout=PATIENCE_S)
    return _exchange(connection, method, url, fields, body)


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    url: str,
    fields: dict[str, str],
    body: bytes | None = None,
) -> tuple[Seen, bool]:
    digest, count = hashlib.sha256(), 0
    try:
        connection.request(method, url, body=body, headers=fields)
        response = connection.getresponse()
        reply = f"{response.status} {response.headers.get_content_type()}"
        is_refused = response.status >= _BAD_REQUEST
        while piece := response.read(1 << 18):
            if not is_refused:
                digest.update(piece)
                count += len(piece)
    finally:
        connection.close()
    return Seen(count, digest.hexdigest(), reply), is_refused


_BAD_REQUEST: Final = 400
_BROWSER: Final = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
_PROGRAM: Final = {"Accept": "application/json"}
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
