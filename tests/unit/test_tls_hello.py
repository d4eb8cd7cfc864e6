"""ClientHellos: what is read of them, what is refused and why, however the stream was cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.errors import Side
from sluicegate.protocol_limits import TLS_HELLO_BYTES_MAX
from sluicegate.protocols.tls_hello import (
    AnswerReader,
    ClientHello,
    EchKind,
    HelloReader,
    RecordSkipper,
    TlsFault,
    TlsRefused,
    is_grease,
)
from tests.unit.hello_kit import (
    ALERT,
    CHANGE_OF_CIPHER,
    EARLY,
    EARLY_DATA,
    ECH,
    GROUPS,
    KEY_SHARE,
    PADDING,
    PSK,
    SERVER_NAME,
    VERSIONS,
    alpn,
    body,
    browser_hello,
    ech_outer,
    groups,
    hello,
    hello_to,
    key_shares,
    message,
    numbers,
    openssl_hello,
    records,
    server_hello,
    sni,
    vector,
    versions,
)

NAME = "www.example.com"


def read(data: bytes, *cuts: int) -> ClientHello | TlsFault | None:
    """Read a stream in pieces; the outcome of the last one that was needed."""
    reader = HelloReader()
    ends = [*sorted(cuts), len(data)]
    at = 0
    for end in ends:
        try:
            found = reader.read(data[at:end])
        except TlsRefused as refused:
            return refused.fault
        if found is not None:
            return found
        at = end
    return None


def whole(data: bytes) -> ClientHello:
    found = read(data)
    assert isinstance(found, ClientHello), found
    return found


def test_a_hello_of_openssl_is_read_whole() -> None:
    found = whole(openssl_hello(NAME))

    assert found.server_name == NAME
    assert found.alpn == (b"h2", b"http/1.1")
    assert set(found.versions) >= {0x0304}
    assert found.ech is None
    assert not found.has_grease


def test_a_hello_of_a_browser_is_read_whole() -> None:
    data = browser_hello(NAME)
    assert len(data) > 1460, "it is longer than a segment"
    found = whole(data)

    assert found.server_name == NAME
    assert found.versions == (0x0304, 0x0303)
    assert found.ech is EchKind.OUTER
    assert found.has_grease
    assert found.key_shares == (0x1A1A, 4588, 29)


READINGS: list[tuple[str, bytes, dict[str, Any]]] = [
    ("no extensions at all", records(message(body(None))), {"server_name": None}),
    ("an empty block of extensions", hello(), {"server_name": None, "extensions": ()}),
    ("no session identifier", hello(session_id=b""), {"server_name": None}),
    ("a name", hello(sni("a.example")), {"server_name": "a.example"}),
    ("a name in capitals, as written", hello(sni("A.Example")), {"server_name": "A.Example"}),
    ("a name with a final dot", hello(sni("a.example.")), {"server_name": "a.example."}),
    ("an address as a name", hello(sni("192.0.2.1")), {"server_name": "192.0.2.1"}),
    ("a name of 255 bytes", hello(sni("a" * 255)), {"server_name": "a" * 255}),
    ("TLS 1.0", hello(version=0x0301), {"versions": (0x0301,)}),
    ("versions with GREASE", hello(versions(0x2A2A, 0x0304)), {"versions": (0x0304,)}),
    ("only GREASE as versions", hello(versions(0x2A2A)), {"versions": (0x0303,)}),
    ("ALPN", hello(alpn(b"h2", b"\x8a\x8a")), {"alpn": (b"h2", b"\x8a\x8a")}),
    ("groups", hello(groups(29, 4588)), {"groups": (29, 4588)}),
    ("no key yet", hello(key_shares()), {"key_shares": ()}),
    ("early data", hello((EARLY_DATA, b""), (PSK, b"x")), {"has_early_data": True}),
    ("a session to resume", hello((PSK, b"x")), {"resumes": True}),
    ("ECH", hello(ech_outer()), {"ech": EchKind.OUTER}),
    ("ECH after a retry", hello(ech_outer(key=b"")), {"ech": EchKind.OUTER}),
    ("the inside of ECH", hello((ECH, b"\x01")), {"ech": EchKind.INNER}),
    ("encrypted SNI of a draft", hello((0xFFCE, b"x")), {"ech": EchKind.DRAFT}),
    ("ECH of a draft", hello((0xFE0A, b"x")), {"ech": EchKind.DRAFT}),
    ("what refers to an outer hello", hello((0xFD00, b"x")), {"ech": EchKind.DRAFT}),
    ("unknown extensions", hello((0x1234, b"abc")), {"extensions": (0x1234,)}),
    ("16 KiB of padding", hello_to(NAME, (PADDING, bytes(1 << 14))), {"server_name": NAME}),
    ("records of one byte", records(message(body([sni(NAME)])), rest=1), {"server_name": NAME}),
    ("the head cut by records", records(message(body([sni(NAME)])), 1, 2), {"server_name": NAME}),
    (
        "records of SSL 3.0",
        records(message(body([sni(NAME)])), version=b"\x03\0"),
        {"server_name": NAME},
    ),
]


@pytest.mark.parametrize(
    ("data", "said"), [case[1:] for case in READINGS], ids=[c[0] for c in READINGS]
)
def test_what_a_hello_says(data: bytes, said: dict[str, Any]) -> None:
    found = whole(data)

    assert {key: getattr(found, key) for key in said} == said


def broken(count: int) -> bytes:
    """Return a hello that says it is longer, or shorter, than it is."""
    content = body([sni(NAME)])
    return records(b"\x01" + (len(content) + count).to_bytes(3, "big") + content)


F = TlsFault
REFUSALS: list[tuple[str, bytes, TlsFault]] = [
    ("HTTP", b"GET / HTTP/1.1\r\n\r\n", F.NOT_TLS),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", F.NOT_TLS),
    ("a NUL", b"\0", F.NOT_TLS),
    ("another major version", b"\x16\x02\x01\x00\x05", F.NOT_TLS),
    ("a high first byte", b"\xff\xff\xff", F.NOT_TLS),
    ("an alert's byte, and no TLS", b"\x15\x02", F.NOT_TLS),
    ("SSL 2", b"\x80\x2e\x01\x00\x02\x00\x15", F.SSL2_HELLO),
    ("SSL 2 that offers TLS", b"\x80\x80\x01\x03\x01" + bytes(100), F.SSL2_HELLO),
    ("an alert first", ALERT, F.RECORD_TYPE),
    ("data first", EARLY, F.RECORD_TYPE),
    ("a change of cipher first", CHANGE_OF_CIPHER, F.RECORD_TYPE),
    ("a heartbeat first", b"\x18\x03\x03\x00\x03\x01\x40\x00", F.NOT_TLS),
    ("a record of version 3.5", b"\x16\x03\x05", F.RECORD_VERSION),
    (
        "an alert in between",
        records(message(body([sni(NAME)]))[:9], 9) + ALERT,
        F.RECORD_TYPE,
    ),
    (
        "the second record of another major version",
        records(message(body([sni(NAME)]))[:9], 9) + b"\x16\x02",
        F.RECORD_VERSION,
    ),
    ("text in between", records(message(body([sni(NAME)]))[:9], 9) + b"GET", F.RECORD_TYPE),
    ("an empty record", b"\x16\x03\x01\x00\x00", F.RECORD_EMPTY),
    ("a record that is too long", b"\x16\x03\x01\x40\x01", F.RECORD_TOO_LONG),
    ("a server's hello", records(message(body(), kind=2)), F.NOT_A_HELLO),
    ("a request for one", records(message(b"", kind=0)), F.NOT_A_HELLO),
    ("more than 64 KiB, as it says", b"\x16\x03\x01\x00\x04\x01\x01\x00\x00", F.HELLO_TOO_LONG),
    ("more than 64 KiB in records", records(message(bytes(20000)), rest=1), F.HELLO_TOO_LONG),
    ("more behind it in its record", records(message(body()) + b"\x01"), F.HELLO_TRAILING),
    ("two in one record", records(message(body()) * 2), F.HELLO_TRAILING),
    ("a message without content", records(message(b"")), F.HELLO_LENGTHS),
    ("a message that is cut off", records(message(body()[:20])), F.HELLO_LENGTHS),
    ("it says it is shorter", broken(-1), F.HELLO_TRAILING),
    ("bytes behind the extensions", records(message(body([sni(NAME)]) + b"x")), F.HELLO_LENGTHS),
    ("half a length of extensions", records(message(body(None) + b"\0")), F.HELLO_LENGTHS),
    ("extensions beyond the end", records(message(body(None) + b"\0\x09abc")), F.HELLO_LENGTHS),
    (
        "an extension beyond the end",
        records(message(body(None) + vector(2, b"\0\0\0\x09abc"))),
        F.HELLO_LENGTHS,
    ),
    ("SSL 3.0", hello(version=0x0300), F.HELLO_VERSION),
    ("TLS 1.3 in the place of 1.2", hello(version=0x0304), F.HELLO_VERSION),
    ("version 2.3", hello(version=0x0203), F.HELLO_VERSION),
    ("a session identifier of 33 bytes", hello(session_id=bytes(33)), F.SESSION_ID),
    ("no cipher suite", hello(suites=()), F.CIPHER_SUITES),
    (
        "half a cipher suite",
        records(message(b"\x03\x03" + bytes(33) + b"\0\x03\x13\x01\x13\x01\0")),
        F.CIPHER_SUITES,
    ),
    ("no compression method", hello(compressions=b""), F.COMPRESSION),
    ("only compression", hello(compressions=b"\x01"), F.COMPRESSION),
    ("compression in TLS 1.3", hello(versions(0x0304), compressions=b"\x01\0"), F.COMPRESSION),
    ("an extension twice", hello((0x1234, b""), (0x1234, b"")), F.EXTENSION_REPEATED),
    ("GREASE twice", hello((0x2A2A, b""), (0x2A2A, b"")), F.EXTENSION_REPEATED),
    ("server_name twice", hello(sni(NAME), sni("b.example")), F.EXTENSION_REPEATED),
    ("something behind pre_shared_key", hello((PSK, b"x"), sni(NAME)), F.PSK_NOT_LAST),
    ("two names", hello(sni("a.example", "b.example")), F.SNI_NAMES),
    ("the same name twice", hello(sni(NAME, NAME)), F.SNI_NAMES),
    ("a name of another type", hello(sni(NAME, kind=1)), F.SNI_NAMES),
    ("server_name without content", hello((SERVER_NAME, b"")), F.SNI_MALFORMED),
    ("an empty list of names", hello(sni()), F.SNI_MALFORMED),
    ("an empty name", hello(sni("")), F.SNI_MALFORMED),
    ("a name of 256 bytes", hello(sni("a" * 256)), F.SNI_MALFORMED),
    ("a byte behind the names", hello((SERVER_NAME, sni(NAME)[1] + b"x")), F.SNI_MALFORMED),
    ("a name beyond its list", hello((SERVER_NAME, b"\0\x06\0\0\x09abc")), F.SNI_MALFORMED),
    ("a NUL in the name", hello(sni("a.example\0.b.example")), F.SNI_FORM),
    ("a space in the name", hello(sni("a.example b")), F.SNI_FORM),
    ("a line end in the name", hello(sni("a.example\r\n")), F.SNI_FORM),
    ("a name in UTF-8", hello(sni("bücher.example")), F.SNI_FORM),
    ("ALPN without content", hello((16, b"")), F.EXTENSION_MALFORMED),
    ("ALPN without a protocol", hello(alpn()), F.EXTENSION_MALFORMED),
    ("ALPN with an empty one", hello(alpn(b"h2", b"")), F.EXTENSION_MALFORMED),
    ("half a version", hello((VERSIONS, b"\x03\x03\x04\x03")), F.EXTENSION_MALFORMED),
    ("no version", hello((VERSIONS, b"\0")), F.EXTENSION_MALFORMED),
    ("a byte behind the groups", hello((GROUPS, b"\0\x02\0\x1d\0")), F.EXTENSION_MALFORMED),
    ("an empty key", hello(key_shares((29, b""))), F.EXTENSION_MALFORMED),
    ("two keys of a group", hello(key_shares((29, b"a"), (29, b"b"))), F.KEY_SHARE_REPEATED),
    ("a key beyond its list", hello((KEY_SHARE, b"\0\x05\0\x1d\0\x09a")), F.EXTENSION_MALFORMED),
    ("early data with content", hello((EARLY_DATA, b"x")), F.EXTENSION_MALFORMED),
    ("ECH of no type", hello((ECH, b"\x02")), F.EXTENSION_MALFORMED),
    ("ECH without content", hello((ECH, b"")), F.EXTENSION_MALFORMED),
    ("ECH's inside with content", hello((ECH, b"\x01\0")), F.EXTENSION_MALFORMED),
    ("ECH with nothing inside", hello(ech_outer(payload=b"")), F.EXTENSION_MALFORMED),
    ("ECH that is cut off", hello((ECH, ech_outer()[1][:-1])), F.EXTENSION_MALFORMED),
]


@pytest.mark.parametrize(
    ("data", "fault"), [case[1:] for case in REFUSALS], ids=[c[0] for c in REFUSALS]
)
def test_what_is_refused(data: bytes, fault: TlsFault) -> None:
    assert read(data) is fault


def test_every_fault_has_a_case() -> None:
    of_two_hellos = {F.HELLO_AGAIN, F.HELLO_DIFFERS}

    assert {case[2] for case in REFUSALS} == set(TlsFault) - of_two_hellos


@pytest.mark.parametrize("case", [*REFUSALS, *READINGS], ids=lambda case: case[0])
def test_one_byte_at_a_time_is_the_same(case: tuple[str, bytes, Any]) -> None:
    data = case[1]

    assert read(data, *range(1, len(data))) == read(data)


@pytest.mark.parametrize("data", [browser_hello(NAME)[:400], hello_to(NAME)], ids=["cut", "whole"])
def test_every_cut_in_two_is_the_same(data: bytes) -> None:
    outcome = read(data)

    assert all(read(data, cut) == outcome for cut in range(len(data)))


@pytest.mark.parametrize("missing", range(1, 190, 7))
def test_what_is_not_whole_says_nothing(missing: int) -> None:
    assert read(hello_to(NAME)[:-missing]) is None


def test_what_follows_is_not_looked_at() -> None:
    reader = HelloReader()
    data = hello_to(NAME)

    assert reader.read(data + EARLY + b"\xff\xff anything") is not None
    assert reader.length == len(data)


def test_a_refusal_is_final() -> None:
    reader = HelloReader()
    for _ in range(2):
        with pytest.raises(TlsRefused) as caught:
            reader.read(b"SSH-2.0")
        assert caught.value.fault is F.NOT_TLS
        assert caught.value.side is Side.CLIENT


def test_the_longest_hello_is_read_and_a_longer_one_is_not() -> None:
    fixed = len(message(body([(PADDING, b"")])))
    wire = fixed + 4 * 5

    def padded(count: int) -> bytes:
        return records(message(body([(PADDING, bytes(count))], session_id=bytes(32))))

    assert isinstance(read(padded(TLS_HELLO_BYTES_MAX - wire)), ClientHello)
    assert read(padded(TLS_HELLO_BYTES_MAX - wire + 1)) is F.HELLO_TOO_LONG


@pytest.mark.parametrize(
    ("value", "means_nothing"),
    [
        (0x0A0A, True),
        (0x1A1A, True),
        (0xFAFA, True),
        (0x0A1A, False),
        (0x1301, False),
        (0xABAB, False),
    ],
)
def test_grease(value: int, means_nothing: bool) -> None:
    assert is_grease(value) is means_nothing


# -- properties ----------------------------------------------------------------------------------

SAMPLES = [
    *(case[1] for case in (*READINGS, *REFUSALS) if len(case[1]) < 4096),
    openssl_hello(NAME),
    browser_hello(NAME),
]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw what may come: a known stream, with bytes changed, dropped, doubled and put in."""
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 8))]
            case 2:
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case _:
                data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


@given(st.one_of(streams(), st.binary(max_size=200)), st.data())
@example(data=b"\x16\x03\x01\x00\x01\x01" * 3, drawn=None)
def test_any_cut_of_any_stream_has_the_same_outcome(data: bytes, drawn: Any) -> None:
    cuts = (
        drawn.draw(st.lists(st.integers(0, len(data)), max_size=8))
        if drawn is not None
        else range(len(data))
    )

    assert read(data, *cuts) == read(data)


@given(st.one_of(streams(), st.binary(max_size=400)))
def test_arbitrary_bytes_keep_the_bound(data: bytes) -> None:
    reader = HelloReader(bytes_max=300)
    try:
        found = reader.read(data * 3)
    except TlsRefused:
        found = None

    assert reader.length <= 300 or found is None
    assert reader.length <= 300 + 5


@given(
    st.from_regex(r"[a-z0-9-]{1,20}(\.[a-z]{2,9}){1,3}", fullmatch=True),
    st.lists(st.binary(min_size=1, max_size=9), max_size=4),
    st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=9),
    st.lists(st.integers(1, 40), max_size=9),
)
def test_what_was_written_is_read(
    name: str, protocols: list[bytes], offered: list[int], sizes: list[int]
) -> None:
    extensions = [sni(name), versions(*offered), groups(*offered)]
    if protocols:
        extensions.append(alpn(*protocols))
    found = whole(records(message(body(extensions)), *sizes))

    assert found.server_name == name
    assert found.alpn == tuple(protocols)
    assert found.supported_versions == found.groups == tuple(offered)


# -- the answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "asks_again"),
    [
        (server_hello(), False),
        (server_hello(asks_again=True), True),
        (server_hello(asks_again=True, size=1), True),
        (server_hello(asks_again=True)[:42], None),
        (server_hello(size=7), False),
        (ALERT, False),
        (records(message(b"", kind=0)), False),
        (b"", None),
        (b"\x16\x03\x03", None),
    ],
)
def test_whether_the_server_asks_again(data: bytes, asks_again: bool | None) -> None:
    together, one_by_one = AnswerReader(), AnswerReader()
    for at in range(len(data)):
        one_by_one.read(data[at : at + 1])

    assert together.read(data) is asks_again
    assert one_by_one.asks_again is asks_again


def test_a_server_that_does_not_speak_tls_is_refused() -> None:
    with pytest.raises(TlsRefused) as caught:
        AnswerReader().read(b"HTTP/1.1 400 Bad Request\r\n")

    assert (caught.value.fault, caught.value.side) == (F.NOT_TLS, Side.SERVER)


@pytest.mark.parametrize(
    ("data", "passed"),
    [
        (b"", 0),
        (EARLY, len(EARLY)),
        (CHANGE_OF_CIPHER + EARLY + ALERT, len(CHANGE_OF_CIPHER + EARLY + ALERT)),
        (EARLY[:9], 9),
        (EARLY + hello_to(NAME), len(EARLY)),
        (hello_to(NAME), 0),
        (EARLY + b"\x17\x03", len(EARLY) + 2),
    ],
)
def test_what_a_client_sends_before_the_answer_is_passed_by(data: bytes, passed: int) -> None:
    one_by_one, count = RecordSkipper(), 0
    while count < len(data) and one_by_one.skip(data[count : count + 1]):
        count += 1

    assert RecordSkipper().skip(data) == passed
    assert count == passed


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"GET /", F.NOT_TLS),
        (EARLY + b"GET /", F.RECORD_TYPE),
        (b"\x17\x03\x03\x00\x00", F.RECORD_EMPTY),
        (b"\x17\x03\x03\x41\x01", F.RECORD_TOO_LONG),
        (b"\x14\x03\x03\x40\x01", F.RECORD_TOO_LONG),
    ],
)
def test_what_has_no_place_before_the_answer_is_refused(data: bytes, fault: TlsFault) -> None:
    with pytest.raises(TlsRefused) as caught:
        RecordSkipper().skip(data)

    assert caught.value.fault is fault


def test_numbers_of_a_kit_are_what_they_say() -> None:
    assert numbers(1, 0x2A2A) == b"\0\x01\x2a\x2a"
