"""Group H of the hostile cases, as requests: one line a case, each at every cut of its input."""

from __future__ import annotations

import pytest

from sluicegate.protocols.http1 import Http1Server, HttpFault, HttpProtocolError, Response
from tests.unit.http1.http1_kit import every_cut, fault_of, requests_of, serve

F = HttpFault
HOST = b"Host: a.example\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
TE = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def get(lines: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + HOST + lines + b"\r\n"


def line(text: bytes) -> bytes:
    return text + b"\r\n" + HOST + b"\r\n"


def post(lines: bytes, body: bytes = b"") -> bytes:
    return POST + lines + b"\r\n" + body


#: Refused as heads: no event may come before the fault.
HEADS: list[tuple[str, bytes, HttpFault]] = [
    (
        "H1",
        post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        F.LENGTH_AND_CODING,
    ),
    (
        "H1",
        post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n"),
        F.LENGTH_AND_CODING,
    ),
    ("H1", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), F.LENGTH_AND_CODING),
    (
        "H1",
        post(b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n", b"abcd"),
        F.LENGTH_AND_CODING,
    ),
    ("H2", post(b"Content-Length: 4\r\nContent-Length: 4\r\n", b"abcd"), F.LENGTH_REPEATED),
    ("H2", post(b"Content-Length: 4\r\nContent-Length: 5\r\n", b"abcd"), F.LENGTH_REPEATED),
    ("H2", post(b"Content-Length: 4\r\ncontent-length: 0\r\n", b"abcd"), F.LENGTH_REPEATED),
    ("H2", post(b"Content-Length: 4, 4\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 4,5\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 4,\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: +4\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: -1\r\n"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: -0\r\n"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 0x4\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 4_0\r\n"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length:  4\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length:\t4\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 4 \r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 4 4\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 04\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 4.0\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 4e0\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b'Content-Length: "4"\r\n', b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: \xb2\r\n", b"ab"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length:\r\n"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: \r\n"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 18446744073709551616\r\n"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 18446744073709551620\r\n", b"abcd"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: 9223372036854775808\r\n"), F.LENGTH_MALFORMED),
    ("H3", post(b"Transfer-Encoding: xchunked\r\n"), F.CODING_UNKNOWN),
    ("H3", post(b"Transfer-Encoding: identity\r\n"), F.CODING_UNKNOWN),
    ("H3", post(b"Transfer-Encoding: gzip, chunked\r\n"), F.CODING_UNKNOWN),
    ("H3", post(b"Transfer-Encoding: gzip\r\n"), F.CODING_UNKNOWN),
    ("H3", post(b"Transfer-Encoding: ,chunked\r\n"), F.CODING_MALFORMED),
    ("H3", post(b"Transfer-Encoding: chunked,\r\n"), F.CODING_MALFORMED),
    ("H3", post(b"Transfer-Encoding: chunked, identity\r\n"), F.CODING_REPEATED),
    ("H3", post(b"Transfer-Encoding: identity, chunked\r\n"), F.CODING_UNKNOWN),
    (
        "H3",
        post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        F.CODING_REPEATED,
    ),
    ("H3", post(b"Transfer-Encoding: chunked, chunked\r\n"), F.CODING_REPEATED),
    (
        "H3",
        post(b"Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n"),
        F.CODING_REPEATED,
    ),
    ("H3", post(b"Transfer-Encoding: \x0bchunked\r\n"), F.CONTROL_CHARACTER),
    ("H3", post(b"Transfer-Encoding: chunked\x0b\r\n"), F.CONTROL_CHARACTER),
    ("H3", post(b"Transfer-Encoding: chunked;q=1\r\n"), F.CODING_MALFORMED),
    ("H3", post(b"Transfer-Encoding:\tchunked\r\n"), F.CODING_MALFORMED),
    ("H3", post(b"Transfer-Encoding:  chunked\r\n"), F.CODING_MALFORMED),
    ("H3", post(b"Transfer-Encoding: chunked \r\n"), F.CODING_MALFORMED),
    ("H3", post(b'Transfer-Encoding: "chunked"\r\n'), F.CODING_MALFORMED),
    ("H3", post(b"Transfer-Encoding: 'chunked'\r\n"), F.CODING_UNKNOWN),
    ("H3", post(b"Transfer-Encoding: chunked\x00\r\n"), F.NUL),
    ("H3", post(b"Transfer-Encoding: chunk\xe9d\r\n"), F.CODING_MALFORMED),
    ("H3", post(b"Transfer-Encoding: \xa0chunked\r\n"), F.FIELD_EDGE),
    ("H3", post(b"Transfer-Encoding:\r\n"), F.CODING_MALFORMED),
    ("H3", post(b"Transfer-Encoding: c\xc5\xbfhunked\r\n"), F.CODING_MALFORMED),
    ("H3", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", F.CODING_IN_1_0),
    ("H3", b"POST / HTTP/1.0\r\nTransfer-Encoding: identity\r\n\r\n", F.CODING_UNKNOWN),
    ("H3", post(b"Transfer_Encoding : chunked\r\n"), F.FIELD_NAME),
    ("H6", b"GET / HTTP/1.1\nHost: a.example\n\n", F.BARE_LF),
    ("H6", b"GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n", F.BARE_LF),
    ("H6", b"GET / HTTP/1.1\r\nHost: a.example\r\n\n", F.BARE_LF),
    ("H6", b"GET / HTTP/1.1\r\nHost: a.example\n\r\n\r\n", F.BARE_LF),
    ("H6", b"\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", F.BARE_LF),
    ("H6", b"\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", F.REQUEST_LINE),
    ("H6", b"\r\n\r\n", F.REQUEST_LINE),
    ("H6", get(b"X: a\rY: b\r\n"), F.BARE_CR),
    ("H6", get(b"X: a\r\r\n"), F.BARE_CR),
    ("H6", get(b"\rX: a\r\n"), F.BARE_CR),
    ("H6", b"GET / HTTP/1.1\rHost: a.example\r\r", F.BARE_CR),
    ("H6", get(b"X: a\0b\r\n"), F.NUL),
    ("H6", get(b"X\0: a\r\n"), F.NUL),
    ("H6", get(b"X: a\x0bb\r\n"), F.CONTROL_CHARACTER),
    ("H6", get(b"X: a\x0cb\r\n"), F.CONTROL_CHARACTER),
    ("H6", get(b"X: a\x1b[2J\r\n"), F.CONTROL_CHARACTER),
    ("H6", get(b"X: a\x7f\r\n"), F.CONTROL_CHARACTER),
    ("H6", get(b"X: \xa0a\r\n"), F.FIELD_EDGE),
    ("H6", get(b"X: a\xa0\r\n"), F.FIELD_EDGE),
    ("H6", get(b"X: \x85a\r\n"), F.FIELD_EDGE),
    ("H6", get(b"X: a\x85 \r\n"), F.FIELD_EDGE),
    ("H6", get(b"X: \xa0\r\n"), F.FIELD_EDGE),
    ("H6", get(b"X\xe9: a\r\n"), F.FIELD_NAME),
    ("H6", get(b"\xa0X: a\r\n"), F.FIELD_NAME),
    ("H6", get(b": a\r\n"), F.FIELD_NAME),
    ("H6", get(b"no colon\r\n"), F.FIELD_NO_COLON),
    ("H6", get(b"X : a\r\n"), F.FIELD_NAME),
    ("H6", get(b"X\t: a\r\n"), F.FIELD_NAME),
    ("H6", get(b"X Y: a\r\n"), F.FIELD_NAME),
    ("H6", get(b"X(): a\r\n"), F.FIELD_NAME),
    ("H6", get(b'"X": a\r\n'), F.FIELD_NAME),
    ("H6", b"GET / HTTP/1.1\r\n Host: a.example\r\n\r\n", F.FIELD_FOLDED),
    ("H6", b"GET / HTTP/1.1\r\n\tHost: a.example\r\n\r\n", F.FIELD_FOLDED),
    ("H6", get(b"X: a\r\n folded\r\n"), F.FIELD_FOLDED),
    ("H6", get(b"X: a\r\n\tfolded\r\n"), F.FIELD_FOLDED),
    ("H6", get(b"X:\r\n Content-Length: 3\r\n"), F.FIELD_FOLDED),
    ("H6", get(b" \r\n"), F.FIELD_FOLDED),
    ("H7", line(b"GET / HTTP/1.10"), F.VERSION),
    ("H7", line(b"GET / HTTP/2.0"), F.VERSION_UNSUPPORTED),
    ("H7", line(b"PRI * HTTP/2.0"), F.VERSION_UNSUPPORTED),
    ("H7", line(b"GET / HTTP/1."), F.VERSION),
    ("H7", line(b"GET / HTTP/.1"), F.VERSION),
    ("H7", line(b"GET / HTTP/1"), F.VERSION),
    ("H7", line(b"GET / http/1.1"), F.VERSION),
    ("H7", line(b"GET / Http/1.1"), F.VERSION),
    ("H7", line(b"GET / HTTP/1.2"), F.VERSION_UNSUPPORTED),
    ("H7", line(b"GET / HTTP/0.9"), F.VERSION_UNSUPPORTED),
    ("H7", line(b"GET / HTTP/01.1"), F.VERSION),
    ("H7", line(b"GET / HTTP/1,1"), F.VERSION),
    ("H7", line(b"GET / HTTP/1.1x"), F.VERSION),
    ("H7", line(b"GET / HTTPS/1.1"), F.VERSION),
    ("H7", line(b"GET / ICY/1.1"), F.VERSION),
    ("H7", line(b"GET / HTTP/1.\xb1"), F.VERSION),
    ("H7", line(b"GET /"), F.REQUEST_LINE),
    ("H7", line(b"GET"), F.REQUEST_LINE),
    ("H8", line(b"G(T / HTTP/1.1"), F.METHOD),
    ("H8", line(b"GET: / HTTP/1.1"), F.METHOD),
    ("H8", line(b"G\xc8T / HTTP/1.1"), F.METHOD),
    ("H8", line(b"get / HTTP/1.1"), F.METHOD),
    ("H8", line(b"Get / HTTP/1.1"), F.METHOD),
    ("H8", line(b'"GET" / HTTP/1.1'), F.METHOD),
    ("H8", line(b" GET / HTTP/1.1"), F.REQUEST_LINE),
    ("H8", line(b" / HTTP/1.1"), F.REQUEST_LINE),
    ("H8", line(b"G\0T / HTTP/1.1"), F.NUL),
    ("H8", line(b"X" * 33 + b" / HTTP/1.1"), F.METHOD),
    ("H9", line(b"GET /a\tb HTTP/1.1"), F.TARGET),
    ("H9", line(b"GET\t/ HTTP/1.1"), F.REQUEST_LINE),
    ("H9", line(b"GET / HTTP/1.1\t"), F.VERSION),
    ("H9", line(b"GET /a b HTTP/1.1"), F.REQUEST_LINE),
    ("H9", line(b"GET  / HTTP/1.1"), F.REQUEST_LINE),
    ("H9", line(b"GET /  HTTP/1.1"), F.REQUEST_LINE),
    ("H9", line(b"GET / HTTP/1.1 "), F.REQUEST_LINE),
    ("H9", line(b"GET /a\0b HTTP/1.1"), F.NUL),
    ("H9", line(b"GET /\xe9 HTTP/1.1"), F.TARGET),
    ("H9", line(b"GET /a#b HTTP/1.1"), F.TARGET),
    ("H9", line(b"GET /?a#b HTTP/1.1"), F.TARGET),
    ("H9", line(b"GET /<a> HTTP/1.1"), F.TARGET),
    ("H9", line(b'GET /"a" HTTP/1.1'), F.TARGET),
    ("H9", line(b"GET /a\\b HTTP/1.1"), F.TARGET),
    ("H9", line(b"GET /%zz HTTP/1.1"), F.TARGET),
    ("H9", line(b"GET /%4 HTTP/1.1"), F.TARGET),
    ("H9", line(b"GET * HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"POST * HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"OPTIONS ** HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"GET a.example:80 HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"GET index.html HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"GET ?q HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"GET http:/a.example/ HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"GET http:a.example HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"GET 1http://a.example/ HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"GET http:///x HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"GET http://user@a.example/ HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"GET http://a.example:0/ HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"GET http://a.example:65536/ HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"GET http://a.example:/ HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"GET http://a.example,b.example/ HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"GET http://a.example\\@b/ HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"GET http://a.example#@b/ HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"GET http://::1/ HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"GET http://a.example/<> HTTP/1.1"), F.TARGET),
    ("H9", line(b"CONNECT / HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"CONNECT * HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"CONNECT http://a.example/ HTTP/1.1"), F.TARGET_FORM),
    ("H9", line(b"CONNECT a.example HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"CONNECT a.example:080 HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H9", line(b"CONNECT u@a.example:443 HTTP/1.1"), F.TARGET_AUTHORITY),
    ("H10", b"GET / HTTP/1.1\r\n\r\n", F.HOST_MISSING),
    ("H10", b"GET / HTTP/1.1\r\nX-Host: a.example\r\n\r\n", F.HOST_MISSING),
    ("H10", get(HOST), F.HOST_REPEATED),
    ("H10", get(b"hOST: b.example\r\n"), F.HOST_REPEATED),
    ("H10", b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n", F.HOST_REPEATED),
    ("H10", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: http://a.example\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: user@a.example\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: a.example?x\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: a.example#x\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: a.example b.example\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: a.example:80:80\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: a.example:080\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: a.example:65536\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", F.HOST_MALFORMED),
    ("H10", b"GET / HTTP/1.1\r\nHost: b\xc3\xbccher.example\r\n\r\n", F.HOST_MALFORMED),
    ("H10", line(b"GET http://b.example/ HTTP/1.1"), F.HOST_DISAGREES),
    ("H10", line(b"GET http://a.example:81/ HTTP/1.1"), F.HOST_DISAGREES),
    ("H10", line(b"GET http://a.example./ HTTP/1.1"), F.HOST_DISAGREES),
    ("H10", line(b"GET http://[a.example]/ HTTP/1.1"), F.HOST_DISAGREES),
    ("H10", line(b"CONNECT b.example:443 HTTP/1.1"), F.HOST_DISAGREES),
    ("H10", b"GET http://a.example/ HTTP/1.1\r\nHost: a.example:443\r\n\r\n", F.HOST_DISAGREES),
    ("H11", get(b"Content-Length: 4\r\n") + b"abcd", F.LENGTH_WITHOUT_BODY),
    ("H11", get(b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", F.CODING_WITHOUT_BODY),
    ("H11", line(b"HEAD / HTTP/1.1\r\nContent-Length: 4") + b"abcd", F.LENGTH_WITHOUT_BODY),
    ("H11", line(b"DELETE / HTTP/1.1\r\nContent-Length: 4") + b"abcd", F.LENGTH_WITHOUT_BODY),
    ("H11", line(b"TRACE / HTTP/1.1\r\nContent-Length: 4") + b"abcd", F.LENGTH_WITHOUT_BODY),
    ("H11", line(b"CONNECT a.example:1 HTTP/1.1\r\nContent-Length: 0"), F.LENGTH_WITHOUT_BODY),
    (
        "H11",
        line(b"CONNECT a.example:1 HTTP/1.1\r\nTransfer-Encoding: chunked"),
        F.CODING_WITHOUT_BODY,
    ),
    ("H12", post(b"Expect: 200-ok\r\n"), F.EXPECTATION),
    ("H12", post(b"Expect: 100-continue, x\r\nContent-Length: 1\r\n"), F.EXPECTATION),
    (
        "H12",
        post(b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n"),
        F.EXPECTATION,
    ),
    ("H12", post(b"Expect:\r\n"), F.EXPECTATION),
    ("H14", get(b"Connection: Content-Length\r\n"), F.CONNECTION_PROTECTED),
    ("H14", get(b"Connection: close, content-length\r\n"), F.CONNECTION_PROTECTED),
    ("H14", get(b"Connection: close\r\nConnection: Authorization\r\n"), F.CONNECTION_PROTECTED),
    ("H14", get(b"Connection: HOST\r\n"), F.CONNECTION_PROTECTED),
    ("H14", get(b"Connection: Transfer-Encoding\r\n"), F.CONNECTION_PROTECTED),
    ("H14", get(b"Connection: Cookie\r\n"), F.CONNECTION_PROTECTED),
    ("H14", get(b"Connection: X-Forwarded-For\r\n"), F.CONNECTION_PROTECTED),
    ("H14", get(b"Connection: a b\r\n"), F.CONNECTION),
    ("H14", get(b'Connection: "close"\r\n'), F.CONNECTION),
    ("H14", get(b"Connection: Upgrade\r\nUpgrade: a b\r\n"), F.UPGRADE),
    ("H14", get(b"Connection: Upgrade\r\nUpgrade:\r\n"), F.UPGRADE),
    ("H14", get(b"Connection: Upgrade\r\nUpgrade: a/\r\n"), F.UPGRADE),
    ("H14", line(b"OPTIONS / HTTP/1.1\r\nMax-Forwards: -1"), F.MAX_FORWARDS),
    ("H14", line(b"TRACE / HTTP/1.1\r\nMax-Forwards: 1\r\nMax-Forwards: 2"), F.MAX_FORWARDS),
    ("H14", line(b"OPTIONS / HTTP/1.1\r\nMax-Forwards: 9999"), F.MAX_FORWARDS),
]

#: Refused behind the head: the request was told, its end must not be.
BODIES: list[tuple[str, bytes, HttpFault]] = [
    ("H4", TE + b"0x3\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"+3\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"-3\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b" 3\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"\t3\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"3 \r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"3 ;a\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"3_0\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"3g\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b";a\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"\xef\xbc\x93\r\nabc\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"00000000000000003\r\nabc\r\n0\r\n\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"10000000000000003\r\nabc\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"ffffffffffffffff\r\nabc\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"8000000000000000\r\nabc\r\n", F.CHUNK_SIZE),
    ("H4", TE + b"3;a\rb\r\nabc\r\n", F.CHUNK_LINE_END),
    ("H4", TE + b"3;a\nabc\r\n", F.CHUNK_LINE_END),
    ("H4", TE + b"3\nabc\r\n0\r\n\r\n", F.CHUNK_LINE_END),
    ("H4", TE + b"3\r\r\nabc\r\n", F.CHUNK_LINE_END),
    ("H4", TE + b"3\rX\nabc\r\n", F.CHUNK_LINE_END),
    ("H4", TE + b'3;a="\n"\r\nabc\r\n', F.CHUNK_LINE_END),
    ("H4", TE + b"3;\r\nabc\r\n", F.CHUNK_EXTENSION),
    ("H4", TE + b"3;a=\r\nabc\r\n", F.CHUNK_EXTENSION),
    ("H4", TE + b"3; a\r\nabc\r\n", F.CHUNK_EXTENSION),
    ("H4", TE + b"3;a =b\r\nabc\r\n", F.CHUNK_EXTENSION),
    ("H4", TE + b'3;a="b\r\nabc\r\n', F.CHUNK_EXTENSION),
    ("H4", TE + b"3;a\0\r\nabc\r\n", F.CHUNK_EXTENSION),
    ("H4", TE + b"3;a\xe9\r\nabc\r\n", F.CHUNK_EXTENSION),
    ("H4", TE + b"3;" + b"a" * 65536 + b"\r\nabc\r\n", F.CHUNK_EXTENSIONS_TOO_LARGE),
    ("H4", TE + b"3\r\nabcXY0\r\n\r\n", F.CHUNK_END),
    ("H4", TE + b"3\r\nabc\n0\r\n\r\n", F.CHUNK_END),
    ("H4", TE + b"3\r\nabc\rX0\r\n\r\n", F.CHUNK_END),
    ("H4", TE + b"3\r\nabcd\r\n0\r\n\r\n", F.CHUNK_END),
    ("H4", TE + b"3\r\nabc0\r\n\r\n", F.CHUNK_END),
    ("H4", TE + b"0\n\n", F.CHUNK_LINE_END),
    ("H4", TE + b"0\r\n\n", F.BARE_LF),
    ("H4", TE + b"0\r\n\rX", F.BARE_CR),
    ("H5", TE + b"0\r\nContent-Length: 3\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\ntransfer-encoding: chunked\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\nHost: b.example\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\nAuthorization: x\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\nX: y\r\nCookie: a\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\nConnection: close\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\nContent-Type: a\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\nX-Forwarded-For: a\r\n\r\n", F.TRAILER_FORBIDDEN),
    ("H5", TE + b"0\r\nX: y\r\n folded\r\n\r\n", F.FIELD_FOLDED),
    ("H5", TE + b"0\r\n X: y\r\n\r\n", F.FIELD_FOLDED),
    ("H5", TE + b"0\r\nX y\r\n\r\n", F.FIELD_NO_COLON),
    ("H5", TE + b"0\r\nX : y\r\n\r\n", F.FIELD_NAME),
    ("H5", TE + b"0\r\nX: y\0\r\n\r\n", F.NUL),
    ("H5", TE + b"0\r\nX: y\nY: z\r\n\r\n", F.BARE_LF),
    ("H5", TE + b"0\r\n" + b"X: y\r\n" * 33 + b"\r\n", F.TRAILERS_TOO_LARGE),
    ("H5", TE + b"0\r\nX: " + b"y" * 8192 + b"\r\n\r\n", F.TRAILERS_TOO_LARGE),
    ("H5", TE + b"0\r\n" + b"X" * 8192, F.TRAILERS_TOO_LARGE),
]

#: Too large to be cut everywhere.
LARGE: list[tuple[str, bytes, HttpFault]] = [
    ("H2", post(b"Content-Length: " + b"9" * 10_000 + b"\r\n"), F.LENGTH_MALFORMED),
    ("H2", post(b"Content-Length: " + b"0" * 10_000 + b"4\r\n"), F.LENGTH_MALFORMED),
    ("H8", line(b"X" * 10_240 + b" / HTTP/1.1"), F.TARGET_TOO_LONG),
    ("H9", line(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), F.TARGET_TOO_LONG),
    ("H9", line(b"GET /" + b"a" * 65_536 + b" HTTP/1.1"), F.TARGET_TOO_LONG),
    ("H9", b"A" * 70_000, F.TARGET_TOO_LONG),
    ("H10", b"GET / HTTP/1.1\r\nHost: " + b"a" * 16_384 + b"\r\n\r\n", F.FIELD_TOO_LARGE),
    ("H6", get(b"X: " + b"a" * 16_384 + b"\r\n"), F.FIELD_TOO_LARGE),
    ("H6", get(b"X" * 16_384 + b": a\r\n"), F.FIELD_TOO_LARGE),
    ("H6", get(b"X: y\r\n" * 100), F.TOO_MANY_FIELDS),
    ("H6", get(b"X: y\r\n" * 12_000), F.HEAD_TOO_LARGE),
    ("H6", get(b"X: " + b"a" * 70_000 + b"\r\n"), F.HEAD_TOO_LARGE),
    ("H4", TE + (b"1;" + b"a" * 200 + b"\r\nx\r\n") * 30, F.CHUNK_EXTENSIONS_TOO_LARGE),
]


def names(table: list[tuple[str, bytes, HttpFault]]) -> list[str]:
    return [f"{case}-{number}-{fault.code}" for number, (case, _, fault) in enumerate(table)]


@pytest.mark.parametrize(("case", "data", "fault"), HEADS, ids=names(HEADS))
def test_head_is_refused_before_any_event_wherever_it_is_cut(
    case: str, data: bytes, fault: HttpFault
) -> None:
    for cuts in every_cut(data):
        assert serve(data, cuts) == [fault]


@pytest.mark.parametrize(("case", "data", "fault"), BODIES, ids=names(BODIES))
def test_body_is_refused_before_its_end_wherever_it_is_cut(
    case: str, data: bytes, fault: HttpFault
) -> None:
    uncut = serve(data)
    assert fault_of(uncut) is fault
    assert len(requests_of(uncut)) == 1
    assert not [one for one in uncut if isinstance(one, tuple) and one[0] == "end"]
    for cuts in every_cut(data[:512]) if len(data) > 512 else every_cut(data):
        assert serve(data, cuts) == uncut


@pytest.mark.parametrize(("case", "data", "fault"), LARGE, ids=names(LARGE))
def test_what_is_too_large_is_refused_whatever_its_pieces(
    case: str, data: bytes, fault: HttpFault
) -> None:
    uncut = serve(data)
    assert fault_of(uncut) is fault
    for size in (1, 7, 1460) if len(data) < 20_000 else (7, 1460, 65_536):
        assert serve(data, range(size, len(data), size)) == uncut


def test_every_row_of_the_group_that_a_request_can_show_has_cases() -> None:
    shown = {case for case, _, _ in HEADS + BODIES + LARGE}

    assert shown == {f"H{row}" for row in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14)}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (HEADS[0][1], 400),
        (post(b"Transfer-Encoding: xchunked\r\n"), 501),
        (line(b"GET / HTTP/2.0"), 505),
        (line(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), 414),
        (get(b"X: y\r\n" * 100), 431),
        (post(b"Expect: x\r\n"), 417),
    ],
)
def test_refusal_is_answered_with_its_status_and_the_end(data: bytes, status: int) -> None:
    server = Http1Server()
    server.receive_data(data + b"GET /second HTTP/1.1\r\n" + HOST + b"\r\n")
    with pytest.raises(HttpProtocolError) as refused:
        server.next_event()

    [answer] = server.send(Response(refused.value.status))

    assert refused.value.status == status
    assert bytes(answer).startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in bytes(answer)
    server.receive_data(b"GET /third HTTP/1.1\r\n" + HOST + b"\r\n")
    with pytest.raises(HttpProtocolError) as again:
        server.next_event()
    assert again.value is refused.value
