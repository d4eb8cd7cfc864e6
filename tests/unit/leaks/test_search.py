"""Search: through encodings, whatever the cuts, and never silent about what it did not see."""

from __future__ import annotations

import base64
import json
import quopri
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import LimitExceeded
from sluicegate.protocol_limits import SECRET_DEPTH_MAX, SECRET_SPAN_BYTES_MAX
from sluicegate.protocols.secrets import KINDS, Search, SecretPatterns
from sluicegate.protocols.secrets.escapes import ESCAPES, QUOTED_PRINTABLE
from tests.unit.leaks.secret_kit import (
    CARD,
    CARD_GROUPED,
    DEFAULT,
    ED25519,
    EVERY,
    IBAN,
    found_in,
    github_token,
    jwt,
    long_key,
)


def percent(text: bytes) -> bytes:
    return b"".join(b"%%%02X" % one for one in text)


def in_json(text: bytes) -> bytes:
    return b"".join(b"\\u%04x" % one for one in text)


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "percent": percent,
    "percent, some": lambda text: text.replace(b"1", b"%31"),
    "form": lambda text: urllib.parse.urlencode({"a": "b c", "x": text}).encode(),
    "json": in_json,
    "json, some": lambda text: text.replace(b"1", b"\\u0031"),
    "json text": lambda text: json.dumps({"a": text.decode()}).encode(),
    "source": lambda text: b"".join(b"\\x%02x" % one for one in text),
    "html": lambda text: b"".join(b"&#%d;" % one for one in text),
    "html, hexadecimal": lambda text: b"".join(b"&#x%02x;" % one for one in text),
    "mixed escapes": lambda text: text.replace(b"4", b"%34").replace(b"1", b"\\u0031", 2),
    "quoted-printable": lambda text: b"".join(b"=%02X" % one for one in text),
    "quoted-printable, soft breaks": lambda text: b"=\r\n".join(
        text[at : at + 5] for at in range(0, len(text), 5)
    ),
    "quoted-printable, as mail": quopri.encodestring,
    "base64": base64.b64encode,
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 in lines": base64.encodebytes,
    "base64, one byte on": lambda text: base64.b64encode(b" " + text),
    "base64, two bytes on": lambda text: base64.b64encode(b"\xff\xfe" + text),
    "base64 behind a path": lambda text: b"/files/" + base64.b64encode(b"..." + text),
    "base64 without filling": lambda text: base64.b64encode(text).rstrip(b"="),
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "UTF-16, big end first": lambda text: text.decode().encode("utf-16-be"),
    "multipart": lambda text: (
        b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n' + text + b"\r\n--b--\r\n"
    ),
}

SECRETS = {
    "payment-card": CARD_GROUPED,
    "iban": b"account " + IBAN + b" of mine",
    "private-key": ED25519,
    "service-token": github_token(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_in_what_encodes_it(kind: str, encoding: str) -> None:
    assert kind in found_in(ENCODINGS[encoding](SECRETS[kind]), DEFAULT)


SOME_ONLY = {"percent, some", "json, some", "mixed escapes"}


def pairs() -> list[tuple[str, str]]:
    """Return an inner and an outer encoding; mail is not mail twice, and UTF-16 is no JSON text."""
    return [
        (inner, outer)
        for inner in ENCODINGS
        for outer in ENCODINGS
        if not ("UTF-16" in inner and (outer == "json text" or "UTF-16" in outer))
        and not ("quoted-printable" in inner and "quoted-printable" in outer)
        and not (outer in SOME_ONLY and b"1" not in ENCODINGS[inner](CARDHOLDER))
    ]


CARDHOLDER = b"the card " + CARD + b" of mine"


@pytest.mark.parametrize(("inner", "outer"), pairs())
def test_a_secret_is_found_in_two_encodings(inner: str, outer: str) -> None:
    assert "payment-card" in found_in(ENCODINGS[outer](ENCODINGS[inner](CARDHOLDER)), DEFAULT)


def test_what_a_form_says_of_a_field_is_not_taken_for_mail() -> None:
    assert "payment-card" in found_in(b"card=" + CARD.replace(b"1", b"%31") + b"&x=41")


@pytest.mark.parametrize("coding", [ESCAPES, QUOTED_PRINTABLE], ids=lambda one: one.name)
def test_every_escape_that_the_engine_reports_stands_for_something(coding) -> None:
    import itertools
    import re

    digits = "0123456789abcdefABCDEF"
    texts = [f"{a}{b}" for a, b in itertools.product(digits, digits)]
    numbers = [str(one) for one in range(10)] + [f"{one:02}" for one in range(100)]
    numbers += [f"{one:03}" for one in range(1000)]
    candidates = [
        *(f"{head}{text}{tail}".encode() for text in texts for head, tail in
          [("%", ""), ("\\u00", ""), ("\\x", ""), ("&#x", ";"), ("&#X", ";"), ("=", "")]),
        *(f"&#{one};".encode() for one in numbers),
        b"\\/", b"\\n", b"\\r", b"\\t", b"\\\\", b"=\n", b"=\r\n",
    ]  # fmt: skip
    for pattern, size in coding.patterns:
        matching = [one for one in candidates if re.fullmatch(pattern, one)]
        assert matching
        for one in matching:
            assert len(one) == size
            assert one in coding.values


# -- cuts --------------------------------------------------------------------------------------


def summary(text: bytes, cuts: tuple[int, ...] = ()) -> dict[str, tuple[set[bytes], str]]:
    try:
        return {name: (one.values, one.where) for name, one in found_in(text, EVERY, cuts).items()}
    except LimitExceeded as error:
        return {"limit": (set(), error.limit)}


EXAMPLES = [
    CARD,
    b"x" * 700 + b" " + CARD_GROUPED + b" " + b"y" * 700,
    base64.b64encode(b"some text with " + CARD + b" in it"),
    percent(CARD),
    base64.encodebytes(in_json(CARD)),
    CARD.decode().encode("utf-16"),
    ED25519,
    json.dumps({"key": ED25519.decode(), "mail": "a@b.example"}).encode(),
    jwt() + b"\n" + github_token(),
    quopri.encodestring(b"=" * 30 + CARD),
    b"%2541%252F" + percent(percent(CARD)),
]


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_what_is_found_is_found_wherever_the_text_is_cut_in_two(text: bytes) -> None:
    whole = summary(text)
    assert whole
    for cut in range(len(text) + 1):
        assert summary(text, (cut,)) == whole


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_what_is_found_is_found_one_byte_at_a_time(text: bytes) -> None:
    assert summary(text, tuple(range(len(text)))) == summary(text)


FRAGMENTS = st.sampled_from(
    [
        CARD,
        CARD_GROUPED,
        IBAN,
        github_token(),
        ED25519[:90],
        b"\n",
        b" ",
        b"=",
        b"%",
        b"%25",
        b"\\u00",
        b"\\",
        b"\\\\",
        b"=\r\n",
        b"&#",
        b"4;",
        b"a@b.example",
        b"A" * 30,
        b"Zm9v" * 8,
        b"\0",
        b"1",
        b"4",
        b"-",
        percent(CARD),
        in_json(CARD),
        base64.b64encode(b"  " + CARD),
        CARD.decode().encode("utf-16-le"),
        b"z" * SECRET_SPAN_BYTES_MAX,
    ]
)


@given(
    st.lists(st.one_of(FRAGMENTS, st.binary(max_size=8)), max_size=14).map(b"".join),
    st.lists(st.integers(0, 6000), max_size=6),
)
def test_no_find_depends_on_the_cuts(text: bytes, cuts: list[int]) -> None:
    assert summary(text, tuple(cuts)) == summary(text)


@given(st.binary(max_size=3000))
def test_any_bytes_are_looked_through_or_refused_by_a_limit(text: bytes) -> None:
    assert set(summary(text)) <= {*KINDS, "limit"}


# -- bounds ------------------------------------------------------------------------------------


def test_what_is_encoded_deeper_than_the_bound_is_said_to_be() -> None:
    text = CARD + b" of mine, for the tests"
    for _ in range(SECRET_DEPTH_MAX + 1):
        text = base64.b64encode(text)
    with pytest.raises(LimitExceeded, match="secret_depth_max"):
        found_in(text, DEFAULT)


def test_what_is_encoded_as_deep_as_the_bound_is_found() -> None:
    text = CARD + b" of mine, for the tests"
    for _ in range(SECRET_DEPTH_MAX):
        text = base64.b64encode(text)
    assert found_in(text, DEFAULT)["payment-card"].where == " / ".join(
        ["base64"] * SECRET_DEPTH_MAX
    )


def test_a_text_that_was_made_to_cost_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.protocols.secrets.search.SECRET_WORK_RATIO_MAX", 2)
    monkeypatch.setattr("sluicegate.protocols.secrets.search.SECRET_WORK_FLOOR_BYTES", 1000)
    text = base64.b64encode(base64.b64encode(b"nothing at all " * 500))
    with pytest.raises(LimitExceeded, match="secret_work_ratio_max"):
        found_in(text, DEFAULT)


def test_too_many_matches_are_a_limit_and_not_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.protocols.secrets.pattern_set.SECRET_MATCHES_MAX", 10)
    with pytest.raises(LimitExceeded, match="secret_matches_max"):
        found_in(b"%41" * 20, DEFAULT)


def test_the_same_expressions_are_compiled_once() -> None:
    kinds = [one for one in KINDS.values() if one.is_default]
    first, again = SecretPatterns(kinds), SecretPatterns(kinds, {"email-list": 3})
    fewer = SecretPatterns(kinds[:1])
    assert again._patterns._database is first._patterns._database
    assert fewer._patterns._database is not first._patterns._database


def test_a_long_text_costs_no_memory() -> None:
    import tracemalloc

    piece = (b"words and more words, 12345 and %41 " * 8000)[: 256 << 10]
    search = Search(DEFAULT)
    search.feed(piece)
    tracemalloc.start()
    for _ in range(40):
        search.feed(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    search.finish()
    assert peak < 8 << 20


def test_a_secret_in_the_middle_of_a_long_text_is_found() -> None:
    text = b"x y\n" * 200_000 + long_key() + b"z " * 300_000
    assert set(found_in(text, DEFAULT, tuple(range(0, len(text), 100_000)))) == {"private-key"}
