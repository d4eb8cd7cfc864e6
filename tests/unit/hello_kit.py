"""ClientHellos piece by piece, for tests of who reads them and of who judges them."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence

HRR_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
SERVER_NAME, GROUPS, SIGNATURES, ALPN, PADDING, PSK = 0, 10, 13, 16, 21, 41
EARLY_DATA, VERSIONS, KEY_SHARE, ECH = 42, 43, 51, 0xFE0D

Extension = tuple[int, bytes]


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size, "big") + content


def numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def sni(*names: bytes | str, kind: int = 0) -> Extension:
    raw = [name.encode() if isinstance(name, str) else name for name in names]
    return SERVER_NAME, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in raw))


def alpn(*names: bytes) -> Extension:
    return ALPN, vector(2, b"".join(vector(1, name) for name in names))


def versions(*values: int) -> Extension:
    return VERSIONS, vector(1, numbers(*values))


def groups(*values: int) -> Extension:
    return GROUPS, vector(2, numbers(*values))


def key_shares(*shares: tuple[int, bytes]) -> Extension:
    listed = b"".join(numbers(group) + vector(2, key) for group, key in shares)
    return KEY_SHARE, vector(2, listed)


def ech_outer(payload: bytes = bytes(144), key: bytes = bytes(32)) -> Extension:
    return ECH, b"\0" + numbers(1, 1) + b"\x2a" + vector(2, key) + vector(2, payload)


def body(
    extensions: Sequence[Extension] | None = (),
    *,
    version: int = 0x0303,
    session_id: bytes = bytes(32),
    suites: Iterable[int] = (0x1301, 0xC02B),
    compressions: bytes = b"\0",
) -> bytes:
    """Return what is in the message of a hello; None for extensions: the block is left out."""
    listed = b""
    if extensions is not None:
        listed = vector(2, b"".join(numbers(kind) + vector(2, raw) for kind, raw in extensions))
    return (
        version.to_bytes(2, "big")
        + bytes(range(32))
        + vector(1, session_id)
        + vector(2, numbers(*suites))
        + vector(1, compressions)
        + listed
    )


def message(content: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + vector(3, content)


def records(
    content: bytes, *sizes: int, kind: int = 22, version: bytes = b"\x03\x01", rest: int = 1 << 14
) -> bytes:
    """Cut a message into records: of these sizes first, then as long as they may be."""
    found, at = b"", 0
    for size in sizes:
        found += bytes([kind]) + version + vector(2, content[at : at + size])
        at += size
    while at < len(content):
        found += bytes([kind]) + version + vector(2, content[at : at + rest])
        at += rest
    return found


def hello(*extensions: Extension, **said: object) -> bytes:
    """Return a whole hello in one record."""
    return records(message(body(extensions, **said)))  # type: ignore[arg-type]


def hello_to(name: str, *extensions: Extension) -> bytes:
    """Return a hello of TLS 1.3 that names a server."""
    return hello(
        sni(name),
        versions(0x0304, 0x0303),
        groups(29, 23),
        key_shares((29, bytes(32))),
        alpn(b"h2", b"http/1.1"),
        *extensions,
    )


def browser_hello(name: str, *, ech: Extension | None = None) -> bytes:
    """Return a hello as Chromium sends it: GREASE everywhere, a post-quantum key, ECH's shape."""
    return hello(
        (0x2A2A, b""),
        sni(name),
        (23, b""),
        (0xFF01, b"\0"),
        groups(0x1A1A, 4588, 29, 23, 24),
        (11, b"\x01\0"),
        (35, b""),
        alpn(b"h2", b"http/1.1"),
        (5, b"\x01\0\0\0\0"),
        (SIGNATURES, vector(2, numbers(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501))),
        (18, b""),
        key_shares((0x1A1A, b"\0"), (4588, bytes(1216)), (29, bytes(32))),
        (45, b"\x01\x01"),
        versions(0x3A3A, 0x0304, 0x0303),
        (27, b"\x02\0\x02"),
        (17613, b"\0\x03\x02h2"),
        ech or ech_outer(),
        (0x5A5A, b"\0"),
        suites=(0x4A4A, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030),
    )


def openssl_hello(name: str | None, *, protocols: Sequence[str] = ("h2", "http/1.1")) -> bytes:
    """Return the hello of the interpreter's own OpenSSL."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake does not end without a server")


def server_hello(*, asks_again: bool = False, size: int = 1 << 14) -> bytes:
    """Return the first record or records of a server."""
    random = HRR_RANDOM if asks_again else bytes(range(100, 132))
    content = b"\x03\x03" + random + vector(1, bytes(32)) + numbers(0x1301) + b"\0"
    content += vector(2, numbers(VERSIONS) + vector(2, numbers(0x0304)))
    return records(message(content, kind=2), version=b"\x03\x03", rest=size)


CHANGE_OF_CIPHER = b"\x14\x03\x03\x00\x01\x01"
EARLY = b"\x17\x03\x03\x00\x20" + bytes(32)
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"
