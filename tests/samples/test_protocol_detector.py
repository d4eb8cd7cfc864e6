"""The protocol detector: first bytes of many protocols, in pieces, and rules that list them."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.filters.protocol_detector import (
    ProtocolDetector,
    ProtocolDetectorSettings,
    detect,
)
from sluicegate.filterapi import Side, StreamFilter
from tests.samples.sample_kit import SEEDS, exchange, notes

CLIENT_SAYS = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "tls"),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http"),
    (b"PROPFIND / HTTP/1.1\r\n", "unknown"),
    (b"POST /x HTTP/1.1\r\n", "http"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "ssh"),
    (b"\x05\x01\x00", "socks5"),
    (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "socks4"),
    (b"\x13BitTorrent protocol\0\0", "bittorrent"),
    (b"EHLO early.talker\r\n", "unknown"),
    (b"get / http/1.1\r\n", "unknown"),
    (b"\0", "unknown"),
]
SERVER_SAYS = [
    (b"SSH-2.0-dropbear\r\n", "ssh"),
    (b"220 mail.example ESMTP ready\r\n", "smtp"),
    (b"220-mail.example smtp\r\n220 go on\r\n", "smtp"),
    (b"220 (vsFTPd 3.0.3)\r\n", "ftp"),
    (b"220 hello\r\n", "unknown"),
    (b"220 " + b"x" * 600, "unknown"),
    (b"+OK pop3 ready\r\n", "pop3"),
    (b"* OK IMAP4rev1\r\n", "imap"),
    (b"554 no\r\n", "unknown"),
]
BOTH = [(Side.CLIENT, *one) for one in CLIENT_SAYS] + [(Side.SERVER, *one) for one in SERVER_SAYS]


@pytest.mark.parametrize(("side", "start", "protocol"), BOTH)
def test_first_bytes_name_the_protocol(side, start, protocol):
    assert detect(side, start) == protocol


@given(st.sampled_from([Side.CLIENT, Side.SERVER]), st.sampled_from(BOTH), st.binary(max_size=700))
def test_verdict_on_a_beginning_stands_whatever_follows(side, known, noise):
    stream = (known[1] if known[0] is side else b"") + noise
    verdicts = [detect(side, stream[:length]) for length in range(1, len(stream) + 1)]
    decided = [verdict for verdict in verdicts if verdict is not None]
    assert len(set(decided)) <= 1
    assert verdicts == [None] * (len(verdicts) - len(decided)) + decided


def test_no_stream_is_held_for_long():
    for side in (Side.CLIENT, Side.SERVER):
        for start in (b"", b"220", b"PRI", b"\x13BitTorrent"):
            assert detect(side, start.ljust(600, b"x")) is not None


def detector(*allow: str) -> partial[StreamFilter]:
    return partial(ProtocolDetector, ProtocolDetectorSettings.model_validate({"allow": allow}))


@pytest.mark.parametrize("seed", SEEDS)
def test_listed_protocol_passes_whole_and_is_recorded(seed):
    request, page = b"GET / HTTP/1.1\r\n\r\n" + b"x" * 5000, b"HTTP/1.1 200 OK\r\n\r\n" * 500
    done = exchange(detector("http"), request, page, seed=seed)
    # Who hears first is a matter of chance: a server that begins with HTTP is refused.
    if done.outcome == ("released", ""):
        assert (done.at_server, done.at_client) == (request, page)
        assert notes(done.gate) == [("http allowed", {"protocol": "http", "seen_from": "client"})]
    else:
        assert done.outcome == ("refused", "unknown is not on the rule's list")
        assert done.at_client in (b"<104>", b"<32>")


@pytest.mark.parametrize("seed", SEEDS)
def test_protocol_that_is_not_listed_reaches_nobody(seed):
    done = exchange(detector("tls", "ssh"), b"GET / HTTP/1.1\r\n\r\n", seed=seed)
    assert done.at_server in (b"<104>", b"<32>")
    assert done.outcome == ("refused", "http is not on the rule's list")
    assert notes(done.gate) == [("http refused", {"protocol": "http", "seen_from": "client"})]


def test_server_that_speaks_first_decides():
    done = exchange(detector("smtp"), b"", b"220 mail.example ESMTP\r\n")
    assert done.at_client == b"220 mail.example ESMTP\r\n"
    assert notes(done.gate) == [("smtp allowed", {"protocol": "smtp", "seen_from": "server"})]


def test_rule_has_a_list_of_its_own():
    refused = exchange(detector("http"), b"SSH-2.0-x\r\n", rule={"allow": ["tls"]})
    assert refused.outcome == ("refused", "ssh is not on the rule's list")
    passed = exchange(detector("http"), b"SSH-2.0-x\r\n", rule={"allow": ["ssh"]})
    assert passed.at_server == b"SSH-2.0-x\r\n"


def test_nothing_passes_without_a_list():
    assert exchange(detector(), b"GET / HTTP/1.1\r\n\r\n").outcome[0] == "refused"


def test_stream_that_ends_in_the_middle_of_a_beginning_is_refused():
    done = exchange(detector("ssh"), b"SS")
    assert done.outcome == ("refused", "unknown is not on the rule's list")


def test_connection_without_a_byte_is_none_of_its_business():
    assert exchange(detector()).outcome == ("released", "")
