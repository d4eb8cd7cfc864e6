"""Whatever ClientHello we accept, other implementations find the same names in it, or none.

OpenSSL (by Python's ``ssl``, as a server) and tlslite-ng are the others: the one answers most
servers' clients, the other shares no code with it. They accept more than we do; that is why only
what we accept is compared.
"""

from __future__ import annotations

import ssl
import subprocess
import warnings
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from sluicegate.protocols.tls_hello import ClientHello, HelloReader, TlsRefused
from tests.unit.hello_kit import (
    ALPN,
    KEY_SHARE,
    PADDING,
    SERVER_NAME,
    SIGNATURES,
    VERSIONS,
    Extension,
    alpn,
    body,
    browser_hello,
    ech_outer,
    groups,
    hello_to,
    key_shares,
    message,
    numbers,
    openssl_hello,
    records,
    sni,
    vector,
    versions,
)

with warnings.catch_warnings():
    # It imports asyncore where that is still there, which says that it will not be.
    warnings.simplefilter("ignore", DeprecationWarning)
    from tlslite.messages import ClientHello as OtherHello
    from tlslite.utils.codec import Parser

NAMES = ("www.example.com", "b.example", "WWW.Example.COM", "a.example.", "192.0.2.1", "x" * 255)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    path = folder / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x"
    subprocess.run(
        [*command.split(), "-keyout", path, "-out", folder / "certificate.pem"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    path.write_bytes(path.read_bytes() + (folder / "certificate.pem").read_bytes())
    return path


class Openssl:
    """OpenSSL as a server: which name it is asked for, and whether it goes on."""

    def __init__(self, certificate: Path) -> None:
        self.names: list[str | None] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.context.set_alpn_protocols(["h2", "http/1.1"])

        def note(_socket: object, name: str | None, _context: object) -> None:
            self.names.append(name)

        self.context.sni_callback = note

    def read(self, data: bytes) -> tuple[bool, str | None, str | None]:
        """Say whether a hello is answered by a server's, for which name, and with which ALPN."""
        self.names.clear()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = self.context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(data)
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            answer = outgoing.read()
            is_answered = answer[:1] == b"\x16"
        except (ssl.SSLError, UnicodeError):
            is_answered = False
        name = self.names[-1] if self.names else None
        return is_answered, name, server.selected_alpn_protocol() if is_answered else None


@pytest.fixture(scope="module")
def openssl(certificate: Path) -> Openssl:
    return Openssl(certificate)


def accepted(data: bytes) -> ClientHello | None:
    try:
        return HelloReader().read(data)
    except TlsRefused:
        return None


def content_of(data: bytes) -> bytes:
    """Return what records carry."""
    found, at = b"", 0
    while at < len(data):
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        found += data[at + 5 : at + 5 + length]
        at += 5 + length
    return found


def read_by_tlslite(data: bytes) -> OtherHello:
    parser = Parser(bytearray(content_of(data)))
    assert parser.get(1) == 1
    return OtherHello().parse(parser)


def compare_with_tlslite(data: bytes, ours: ClientHello) -> None:
    try:
        theirs = read_by_tlslite(data)
    except SyntaxError:
        return  # (what it raises for what it cannot decode)
    assert theirs.client_version == (ours.legacy_version >> 8, ours.legacy_version & 0xFF)
    assert tuple(theirs.cipher_suites) == ours.cipher_suites
    found = [extension.extType for extension in theirs.extensions or ()]
    assert tuple(found) == ours.extensions
    names = theirs.getExtension(SERVER_NAME)
    assert ([bytes(one).decode() for one in names.hostNames] if names else [None]) == [
        ours.server_name
    ]
    protocols = theirs.getExtension(ALPN)
    assert tuple(map(bytes, protocols.protocol_names) if protocols else ()) == ours.alpn
    offered = theirs.getExtension(VERSIONS)
    assert (
        tuple(major << 8 | minor for major, minor in offered.versions if offered)
        if offered
        else (ours.supported_versions == ())
    )
    shares = theirs.getExtension(KEY_SHARE)
    assert tuple(one.group for one in shares.client_shares) == ours.key_shares if shares else True


def check_agreement(data: bytes, openssl: Openssl) -> bool:
    """Compare the readings of a hello; False when OpenSSL does not answer it."""
    ours = accepted(data)
    assert ours is not None
    compare_with_tlslite(data, ours)
    is_answered, name, protocol = openssl.read(data)
    if name is not None:
        assert ours.server_name is not None
        assert name == ours.server_name
    if is_answered:
        assert name == ours.server_name
        assert protocol is None or protocol.encode() in ours.alpn
    return is_answered


@pytest.mark.parametrize(
    "data",
    [
        openssl_hello("www.example.com"),
        openssl_hello(None),
        openssl_hello("b.example", protocols=["http/1.1"]),
        browser_hello("www.example.com"),
        hello_to("b.example"),
        hello_to("www.example.com", (PADDING, bytes(15000))),
    ],
    ids=["openssl", "no name", "one protocol", "browser", "plain", "padded"],
)
def test_hellos_of_clients_are_read_alike(data: bytes, openssl: Openssl) -> None:
    check_agreement(data, openssl)


def test_openssl_answers_what_openssl_sends(openssl: Openssl) -> None:
    assert check_agreement(openssl_hello("www.example.com"), openssl)


USUAL = (
    groups(29, 23),
    (SIGNATURES, vector(2, numbers(0x0403, 0x0804))),
    key_shares((29, bytes(range(32)))),
)
"""What OpenSSL needs to answer."""

EXTENSIONS = st.sampled_from(
    [
        alpn(b"h2"),
        alpn(b"http/1.1", b"h2"),
        versions(0x0304, 0x0303),
        versions(0x0303),
        (0xFF01, b"\0"),
        (23, b""),
        (PADDING, bytes(40)),
        (0x2A2A, b""),
        ech_outer(),
        *(sni(name) for name in NAMES),
        sni("a.example", "b.example"),
        sni("a.example", kind=1),
        sni(b"a\xff"),
        sni("a\0.example"),
        (SERVER_NAME, b""),
        (SERVER_NAME, sni("a.example")[1] + sni("b.example")[1]),
    ]
)


@given(
    usual=st.sampled_from((USUAL, USUAL, USUAL[:2], ())),
    extensions=st.lists(EXTENSIONS, max_size=8, unique_by=lambda one: one[0]),
    version=st.sampled_from((0x0301, 0x0303, 0x0304)),
    sizes=st.lists(st.integers(1, 60), max_size=3),
    at=st.integers(-400, 400),
    put_in=st.binary(max_size=2),
)
def test_what_we_accept_has_one_name_for_all(
    *,
    usual: tuple[Extension, ...],
    extensions: list[Extension],
    version: int,
    sizes: list[int],
    at: int,
    put_in: bytes,
    openssl: Openssl,
) -> None:
    content = body([*usual, *extensions], version=version, suites=(0x1301, 0xC02B))
    if 0 <= at < len(content):
        content = content[:at] + put_in + content[at + len(put_in) :]
    data = records(message(content), *sizes)
    if accepted(data) is not None:
        is_answered = check_agreement(data, openssl)
        event(f"accepted, {'answered' if is_answered else 'not answered'} by OpenSSL")
