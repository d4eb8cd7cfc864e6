"""What real clients send to SOCKS and CONNECT entries, and real peers as PROXY headers."""

from __future__ import annotations

import http.client
import socket

import pytest

from sluicegate.address import SocketAddress
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.protocols.entry import Credentials, Destination, HostKind
from sluicegate.protocols.http_connect import HttpConnectParser, HttpConnectRequest
from sluicegate.protocols.http_connect_answer import ConnectAnswer
from sluicegate.protocols.proxy_protocol import (
    ProxyHeader,
    ProxyHeaderParser,
    encode_proxy_v1,
    encode_proxy_v2,
)
from sluicegate.protocols.proxy_tlv import ProxyTlv, ProxyTlvKind, decode_ssl
from sluicegate.protocols.socks import SocksCommand, SocksReply, SocksRequest
from sluicegate.protocols.socks4 import Socks4Parser
from sluicegate.protocols.socks5 import SocksGreeting
from tests.real.entry_parts import (
    BODY,
    GOOD,
    PATIENCE_S,
    Conversation,
    curl,
    entry_server,
    haproxy,
    ncat,
    proxychains,
    self_signed,
)
from tests.unit.entry_kit import run, run_socks5

NAME = Destination(HostKind.TEXT, b"a.example", 80)
IPV4 = Destination(HostKind.IPV4, bytes((192, 0, 2, 7)), 80)
IPV6 = Destination(HostKind.IPV6, bytes.fromhex("20010db8") + bytes(11) + b"\x01", 80)


def check_cuts(conversation: Conversation) -> None:
    """Feed what was recorded again, cut at each place, and byte by byte: nothing may change."""
    data = bytes(conversation.received)
    parse = {
        EntryProtocol.SOCKS4: lambda cuts: run(Socks4Parser(), data, cuts),
        EntryProtocol.SOCKS5: lambda cuts: run_socks5(data, cuts),
        EntryProtocol.HTTP_CONNECT: lambda cuts: run(HttpConnectParser(), data, cuts),
        EntryProtocol.PROXY_V1: lambda cuts: run(ProxyHeaderParser(), data, cuts),
        EntryProtocol.PROXY_V2: lambda cuts: run(ProxyHeaderParser(), data, cuts),
    }[conversation.protocols[0]]
    whole = parse([])
    assert whole
    assert all(parse([cut]) == whole for cut in range(len(data)))
    assert parse(range(len(data))) == whole


@pytest.mark.parametrize(
    ("option", "scheme", "url", "version", "destination"),
    [
        ("--socks5-hostname", "", "http://a.example/", 5, NAME),
        ("--socks5-hostname", "", "http://192.0.2.7/", 5, IPV4),
        ("--socks5-hostname", "", "http://[2001:db8::1]/", 5, IPV6),
        ("--socks5", "", "http://192.0.2.7/", 5, IPV4),
        ("--socks5", "", "http://[2001:db8::1]/", 5, IPV6),
        ("--socks4", "", "http://192.0.2.7/", 4, IPV4),
        ("--socks4a", "", "http://a.example/", 4, NAME),
        ("--proxy", "socks5h://", "http://A.Example./", 5, None),
        ("--proxy", "socks4a://", "http://a.example:8080/", 4, None),
    ],
)
def test_curl_speaks_socks(option, scheme, url, version, destination):
    with entry_server() as server:
        ended = curl(option, f"{scheme}127.0.0.1:{server.port}", url)

    [conversation] = server.conversations
    assert (ended.stdout, ended.stderr) == (BODY, b"")
    request = conversation.events[-1]
    assert isinstance(request, SocksRequest)
    assert (request.version, request.command) == (version, SocksCommand.CONNECT)
    if destination is not None:
        assert request.destination == destination
    assert conversation.tunnelled.startswith(b"GET / HTTP/1.1\r\n")
    check_cuts(conversation)


def test_curl_sends_the_host_text_as_it_was_typed_to_socks5():
    with entry_server() as server:
        curl("--socks5-hostname", f"127.0.0.1:{server.port}", "http://A.Example./")

    request = server.conversations[0].events[-1]
    assert isinstance(request, SocksRequest)
    assert request.destination.host.lower().rstrip(b".") == b"a.example"


def test_curl_proves_who_it_is_to_socks5():
    with entry_server(needs_credentials=True) as server:
        proxy = f"127.0.0.1:{server.port}"
        good = curl("--socks5-hostname", f"ann:open%20sesame@{proxy}", "http://a.example/")
        option = ("--proxy-user", "ann:wrong words")
        wrong = curl("--socks5-hostname", proxy, *option, "http://a.example/")
        none = curl("--socks5-hostname", proxy, "http://a.example/")

    assert good.stdout == BODY, good.stderr
    assert (wrong.returncode, none.returncode) == (97, 97)  # the proxy handshake failed
    first, second, third = server.conversations
    assert first.events[1] == GOOD
    assert second.events[1:] == [Credentials(b"ann", b"wrong words")]
    [greeting] = third.events
    assert isinstance(greeting, SocksGreeting)
    for conversation in server.conversations:
        assert b"GET" not in conversation.received or conversation is first


@pytest.mark.parametrize("reply", [reply for reply in SocksReply if reply])
def test_curl_understands_every_refusal(reply):
    with entry_server(socks=reply) as server:
        ended = curl("--socks5-hostname", f"127.0.0.1:{server.port}", "http://a.example/")
        older = curl("--socks4a", f"127.0.0.1:{server.port}", "http://a.example/")

    assert (ended.returncode, older.returncode) == (97, 97)
    assert f"({int(reply)})".encode() in ended.stderr
    assert b"(91)" in older.stderr


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        ("http://a.example/", NAME),
        ("http://192.0.2.7:8080/", Destination(HostKind.TEXT, b"192.0.2.7", 8080)),
        ("http://[2001:db8::1]/", Destination(HostKind.BRACKETED, b"2001:db8::1", 80)),
    ],
)
@pytest.mark.parametrize("version", ["--proxy1.0", "--proxy"])
def test_curl_speaks_connect(version, url, destination):
    with entry_server() as server:
        ended = curl(version, f"127.0.0.1:{server.port}", "--proxytunnel", url)

    [conversation] = server.conversations
    assert (ended.stdout, ended.stderr) == (BODY, b"")
    [request] = conversation.events
    assert isinstance(request, HttpConnectRequest)
    assert request.destination == destination
    assert request.is_http_1_1 is (version == "--proxy")
    assert dict(request.fields)[b"user-agent"].startswith(b"curl/")
    check_cuts(conversation)


def test_curl_proves_who_it_is_to_connect():
    with entry_server(needs_credentials=True) as server:
        proxy = ("--proxy", f"127.0.0.1:{server.port}", "--proxytunnel", "http://a.example/")
        good = curl(*proxy, "--proxy-user", "ann:open sesame")
        asked = curl(*proxy, "--proxy-user", "ann:open sesame", "--proxy-anyauth")
        wrong = curl(*proxy, "--proxy-user", "ann:wrong words")
        none = curl(*proxy, "--write-out", "%{http_connect}")

    assert (good.stdout, asked.stdout) == (BODY, BODY)
    assert (wrong.returncode, none.returncode) == (56, 56)  # 407 from the proxy
    assert none.stdout == b"407"
    sent = [one.events[0].credentials for one in server.conversations]
    assert sent == [GOOD, None, GOOD, Credentials(b"ann", b"wrong words"), None]


@pytest.mark.parametrize(
    "answer", [one for one in ConnectAnswer if one is not ConnectAnswer.ESTABLISHED]
)
def test_curl_understands_every_answer(answer):
    with entry_server(connect=answer) as server:
        proxy = ("--proxy", f"127.0.0.1:{server.port}", "--proxytunnel", "http://a.example/")
        ended = curl(*proxy, "--write-out", "%{http_connect}")

    assert (ended.returncode, ended.stdout) == (56, str(answer.status).encode())


def test_curl_asks_for_a_page_without_a_tunnel_and_that_is_not_connect():
    with entry_server() as server:
        curl("--proxy", f"127.0.0.1:{server.port}", "http://a.example/")

    [conversation] = server.conversations
    assert conversation.protocols == [EntryProtocol.HTTP]


def test_python_speaks_connect():
    with entry_server() as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        client.set_tunnel("a.example", 80)
        client.request("GET", "/")
        assert client.getresponse().read() == BODY
        client.close()

    assert server.conversations[0].events[-1].destination == NAME
    check_cuts(server.conversations[0])


@pytest.mark.parametrize(
    ("kind", "protocol", "target", "destination"),
    [
        ("http", EntryProtocol.HTTP_CONNECT, "a.example", NAME),
        ("socks4", EntryProtocol.SOCKS4, "192.0.2.7", IPV4),
        ("socks4", EntryProtocol.SOCKS4, "a.example", NAME),
        ("socks5", EntryProtocol.SOCKS5, "a.example", NAME),
        ("socks5", EntryProtocol.SOCKS5, "192.0.2.7", IPV4),
    ],
)
def test_ncat_speaks_every_protocol(kind, protocol, target, destination):
    with entry_server() as server:
        options = ("--proxy", f"127.0.0.1:{server.port}", "--proxy-type", kind)
        ended = ncat(*options, "--proxy-dns", "remote", target, "80")

    assert BODY in ended.stdout, ended.stderr
    [conversation] = server.conversations
    assert conversation.protocols == [protocol]
    request = conversation.events[-1]
    assert isinstance(request, HttpConnectRequest | SocksRequest)
    if kind == "http" or (kind == "socks5" and target != "a.example"):
        assert request.destination.host in {target.encode(), destination.host}
    else:
        assert request.destination == destination
    check_cuts(conversation)


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_ncat_proves_who_it_is(kind):
    with entry_server(needs_credentials=True) as server:
        options = ("--proxy", f"127.0.0.1:{server.port}", "--proxy-type", kind)
        options = (*options, "--proxy-dns", "remote", "--proxy-auth")
        good = ncat(*options, "ann:open sesame", "a.example", "80")
        wrong = ncat(*options, "ann:wrong words", "a.example", "80")

    assert BODY in good.stdout, good.stderr
    assert (wrong.stdout, wrong.returncode) == (b"", 1)
    assert any(
        GOOD in (event, getattr(event, "credentials", None))
        for conversation in server.conversations  # with http it waits for a 407 first
        for event in conversation.events
    )


@pytest.mark.parametrize("kind", ["socks4", "socks5", "http"])
def test_proxychains_brings_any_program(tmp_path, kind):
    with entry_server() as server:
        ended = proxychains(tmp_path, kind, server.port, "curl", "--silent", "http://192.0.2.7/")

    assert ended.stdout == BODY, ended.stderr
    [conversation] = server.conversations
    assert conversation.events[-1].destination.host in {IPV4.host, b"192.0.2.7"}
    check_cuts(conversation)


def test_curl_sends_a_proxy_header():
    with entry_server() as server:
        ended = curl("--haproxy-protocol", f"http://127.0.0.1:{server.port}/")

    assert ended.stdout == BODY
    [conversation] = server.conversations
    [header] = conversation.events
    assert isinstance(header, ProxyHeader)
    assert header.target == SocketAddress("127.0.0.1", server.port)
    check_cuts(conversation)


@pytest.mark.parametrize(
    ("options", "version", "kinds"),
    [
        ("send-proxy", 1, []),
        ("send-proxy-v2", 2, []),
        (
            "send-proxy-v2 proxy-v2-options crc32c,unique-id",
            2,
            [ProxyTlvKind.UNIQUE_ID],
        ),
    ],
)
def test_haproxy_sends_headers_that_we_read(tmp_path, options, version, kinds):
    with entry_server() as server, haproxy(tmp_path, server.port, options) as port:
        ended = curl("--socks5-hostname", f"127.0.0.1:{port}", "http://a.example/")

    assert ended.stdout == BODY, ended.stderr
    [conversation] = server.conversations
    header, *_, request = conversation.events
    assert isinstance(header, ProxyHeader)
    assert header.version == version
    assert header.target == SocketAddress("127.0.0.1", port)
    assert [tlv.kind for tlv in header.tlvs] == kinds
    assert isinstance(request, SocksRequest)
    check_cuts(conversation)


def test_haproxy_tells_of_the_clients_tls(tmp_path):
    certificate = self_signed(tmp_path, "a.example")
    options = "send-proxy-v2-ssl-cn proxy-v2-options crc32c,authority,ssl,ssl-cipher"
    bind = f"ssl crt {certificate} alpn http/1.1"
    with entry_server() as server, haproxy(tmp_path, server.port, options, bind) as port:
        resolved = ("--resolve", f"a.example:{port}:127.0.0.1")
        ended = curl("--insecure", *resolved, f"https://a.example:{port}/")

    assert ended.stdout == BODY, ended.stderr
    [conversation] = server.conversations
    [header] = conversation.events
    assert isinstance(header, ProxyHeader)
    noted = {tlv.kind: tlv.value for tlv in header.tlvs}
    assert noted[ProxyTlvKind.AUTHORITY] == b"a.example"
    ssl = decode_ssl(noted[ProxyTlvKind.SSL])
    assert ssl.client & 1
    assert any(tlv.value.startswith(b"TLSv1.") for tlv in ssl.tlvs)
    check_cuts(conversation)


def test_haproxys_health_check_is_local(tmp_path):
    options = "check inter 100 send-proxy-v2 check-send-proxy proxy-v2-options crc32c"
    with entry_server() as server, haproxy(tmp_path, server.port, options) as port:
        server.wait_for(
            lambda all_: any(ProxyHeader(2, is_local=True) in one.events for one in all_)
        )
        ended = curl("--socks5-hostname", f"127.0.0.1:{port}", "http://a.example/")

    assert ended.stdout == BODY, ended.stderr


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("source", ["203.0.113.9", "2001:db8::9"])
def test_haproxy_reads_headers_that_we_send(tmp_path, version, source):
    client, target = SocketAddress(source, 4321), SocketAddress("192.0.2.1", 80)
    if version == 1:
        header = encode_proxy_v1(client, target)
    else:
        noted = [ProxyTlv(ProxyTlvKind.AUTHORITY, b"a.example")]
        header = encode_proxy_v2(client, target, noted, has_checksum=True)
    with (
        entry_server() as server,
        haproxy(tmp_path, server.port, "send-proxy-v2", "accept-proxy") as port,
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as peer,
    ):
        peer.sendall(header + b"GET / HTTP/1.1\r\n\r\n")
        assert peer.recv(4096).startswith(b"HTTP/1.1 200")

    [conversation] = server.conversations
    [passed_on] = conversation.events
    assert isinstance(passed_on, ProxyHeader)
    assert (passed_on.source, passed_on.target) == (client, target)
