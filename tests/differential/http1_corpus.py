"""HTTP/1.1 requests and responses from one seed: plain, odd, and hostile changes of both."""

from __future__ import annotations

import dataclasses
import random

HOSTS = [b"a.example", b"A.Example", b"a.example:8080", b"127.0.0.1", b"[::1]", b"[2001:db8::1]:81"]
PATHS = [
    b"/",
    b"/index.html",
    b"/a/b/c?d=e&f",
    b"/%41%2f%c3%a9",
    b"/a;b=c,d",
    b"/~x/(y)!$'*+",
    b"/?",
    b"//x//",
    b"/a/./b/../c",
    b"/?q=http://b.example/",
    b"/q?{}|^`\\[]%",
    b"/[a]|b",
    b"/:@&=",
    b"/a?b?c/d",
]
METHODS = [
    b"GET",
    b"GET",
    b"HEAD",
    b"OPTIONS",
    b"POST",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"PROPFIND",
]
NAMES = [
    b"Accept",
    b"accept-language",
    b"User-Agent",
    b"X-Custom",
    b"x-custom",
    b"X-CUSTOM",
    b"X_Under",
    b"Cookie",
    b"Referer",
    b"!#$%&'*+-.^_`|~",
    b"X",
    b"If-None-Match",
    b"Content-Type",
    b"Range",
    b"Authorization",
    b"Via",
    b"X-Forwarded-Proto",
]
VALUES = [
    b"",
    b"a",
    b"text/html, */*;q=0.8",
    b"a\tb  c",
    b'"quoted, comma"',
    b"caf\xc3\xa9 x",
    b"\xff\xfe.",
    b"a:b:c",
    b"0",
    b"bytes=0-1",
    b"x" * 60,
    b"GET / HTTP/1.1",
    b"chunked",
    b"(comment)",
    b",",
    b";",
]
HOP = [
    b"Connection: keep-alive\r\n",
    b"Connection: close\r\n",
    b"Connection: X-Custom, keep-alive\r\n",
    b"Keep-Alive: timeout=5\r\n",
    b"Proxy-Connection: keep-alive\r\n",
    b"TE: trailers\r\nConnection: TE\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Upgrade: h2c\r\n",
    b"Max-Forwards: 3\r\n",
]
BODIES = [
    b"a",
    b"hello=world",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"\0\1\2\xff" * 5,
    b"x" * 150,
    b"GET /smuggled HTTP/1.1\r\nHost: s.example\r\n\r\n",
    b"5\r\nGET /\r\n",
]
#: Put into, or in the place of something of, a message.
HOSTILE = [
    b"\0",
    b"\r",
    b"\n",
    b"\t",
    b" ",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x85",
    b"\xa0",
    b"\xff",
    b":",
    b",",
    b";",
    b"#",
    b"\\",
    b"@",
    b"%",
    b"\r\n",
    b"\r\n ",
    b"\r\n\r\n",
    b"\n\n",
    b"0",
    b"1",
    b"+",
    b"-",
    b"0x",
    b"_",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length : 3\r\n",
    b"Content_Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"transfer-encoding:\tchunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding\r\n",
    b"Host: b.example\r\n",
    b"X: y\r\n folded\r\n",
    b"Connection: content-length\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"GET ",
    b"http://b.example",
    b";a=b",
    b'"',
    b"Expect: 100-continue\r\n",
    b"Trailer: X\r\n",
    b"Content-Length: 3, 3\r\n",
]


@dataclasses.dataclass(frozen=True)
class Sample:
    """A stream of one to three requests."""

    data: bytes
    is_hostile: bool


def corpus(seed: int, count: int) -> list[Sample]:
    """Make so many streams; half of them are changed in one to three places."""
    dice = random.Random(seed)
    samples = []
    for number in range(count):
        data = b"".join(request(dice) for _ in range(dice.choice([1, 1, 2, 3])))
        is_hostile = number % 2 == 1
        samples.append(Sample(changed(dice, data) if is_hostile else data, is_hostile))
    return samples


def request(dice: random.Random) -> bytes:
    method, path, host = dice.choice(METHODS), dice.choice(PATHS), dice.choice(HOSTS)
    target = path
    if dice.random() < 0.2:
        target = b"http://" + host + path
    elif method == b"OPTIONS" and dice.random() < 0.3:
        target = b"*"
    version = b"1.0" if dice.random() < 0.07 else b"1.1"
    lines = [
        dice.choice([b"%b: %b\r\n", b"%b:%b\r\n", b"%b: %b \t\r\n"])
        % (
            dice.choice(NAMES),
            dice.choice(VALUES),
        )
        for _ in range(dice.randrange(6))
    ]
    if dice.random() < 0.25:
        lines.append(dice.choice(HOP))
    body = b""
    if method in {b"POST", b"PUT", b"PATCH", b"PROPFIND"}:
        line, body = content(dice, version)
        lines.append(line)
    dice.shuffle(lines)
    lines.insert(dice.randrange(len(lines) + 1), b"Host: " + host + b"\r\n")
    return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, target, version, b"".join(lines), body)


def content(dice: random.Random, version: bytes) -> tuple[bytes, bytes]:
    """Make the lines that frame a body, and the body."""
    body = dice.choice(BODIES)
    if version == b"1.0" or dice.random() < 0.5:
        if dice.random() < 0.1:
            return b"Content-Length: 0\r\n", b""
        expect = b"Expect: 100-continue\r\n" if dice.random() < 0.1 else b""
        return expect + b"Content-Length: %d\r\n" % len(body), body
    chunks = []
    while body:
        size = dice.randint(1, len(body))
        digits = dice.choice([b"%x", b"%X", b"00%x"]) % size
        extension = dice.choice([b"", b"", b"", b";a", b";a=b", b';a="b;c"'])
        chunks.append(b"%b%b\r\n%b\r\n" % (digits, extension, body[:size]))
        body = body[size:]
    trailers = dice.choice([b"", b"", b"X-Checksum: 1\r\n"])
    return b"Transfer-Encoding: chunked\r\n", b"%b0\r\n%b\r\n" % (b"".join(chunks), trailers)


def changed(dice: random.Random, data: bytes) -> bytes:
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        starts = [0, *[at + 2 for at in range(len(data)) if data.startswith(b"\r\n", at)]]
        # At the beginning of a line twice as often: that is where fields and chunks are.
        place = dice.choice(
            [dice.randrange(len(data) + 1), dice.choice(starts), dice.choice(starts)]
        )
        gone = dice.choice([0, 0, 0, 1, 2])
        data = data[:place] + dice.choice(HOSTILE) + data[place + gone :]
    return data


STATUSES = [
    b"200 OK",
    b"200 OK",
    b"404 Not Found",
    b"206 ",
    b"500",
    b"204 No",
    b"304 Not",
    b"999 X",
]
OF_RESPONSES = [
    b"Server",
    b"Content-Type",
    b"ETag",
    b"Set-Cookie",
    b"set-cookie",
    b"X-Custom",
    b"x-custom",
    b"Location",
    b"X_Under",
    b"Via",
    b"!#$%&'*+-.^_`|~",
]


def responses(seed: int, count: int) -> list[tuple[bytes, Sample]]:
    """Make so many responses, each with the method that it answers; half of them are changed."""
    dice = random.Random(seed)
    samples = []
    for number in range(count):
        method = b"HEAD" if dice.random() < 0.15 else b"GET"
        data = response(dice, method)
        is_hostile = number % 2 == 1
        samples.append((method, Sample(changed(dice, data) if is_hostile else data, is_hostile)))
    return samples


def response(dice: random.Random, method: bytes) -> bytes:
    status = dice.choice(STATUSES)
    version = b"1.0" if dice.random() < 0.1 else b"1.1"
    lines = [
        dice.choice([b"%b: %b\r\n", b"%b:%b\r\n"])
        % (dice.choice(OF_RESPONSES), dice.choice(VALUES))
        for _ in range(dice.randrange(6))
    ]
    if dice.random() < 0.3:
        lines.append(dice.choice([b"Connection: close\r\n", b"Connection: X-Custom\r\n"]))
    body = b""
    if status[:3] not in {b"204", b"304"}:
        line, body = content(dice, version)
        if line.startswith(b"Expect") or dice.random() < 0.2:
            line, body = b"", dice.choice(BODIES)  # until the connection ends
        lines.append(line)
    first = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" if dice.random() < 0.1 else b""
    head = b"%bHTTP/%b %b\r\n%b\r\n" % (first, version, status, b"".join(lines))
    return head if method == b"HEAD" else head + body
