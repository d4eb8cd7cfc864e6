"""Masking: secrets are gone, also where they are encoded, and nothing else has changed."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import LimitExceeded
from sluicegate.protocols.secrets import KINDS, mask
from tests.unit.leaks.secret_kit import (
    CARD,
    CARD_GROUPED,
    DEFAULT,
    ED25519,
    EVERY,
    IBAN,
    found_in,
    github_token,
    long_key,
)
from tests.unit.leaks.test_search import ENCODINGS

ALL = set(KINDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CARD, b"9999999999999999"),
        (b"a " + CARD_GROUPED + b" b", b"a 9999 9999 9999 9999 b"),
        (b'{"card":' + CARD + b',"n":1}', b'{"card":9999999999999999,"n":1}'),
        (IBAN, b"XX99999999999999999999"),
        (b"4%3111 %31111 1111 1111", b"9%3999 %39999 9999 9999"),
        (b'"\\u0034111111111111111"', b'"\\u0039999999999999999"'),
        (b"&#52;111111111111111", b"&#57;999999999999999"),
        (b"=34111111=\r\n111111111 ", b"=39999999=\r\n999999999 "),
        (CARD.decode().encode("utf-16-le"), b"9\0" * 16),
        (base64.b64encode(b".." + CARD), base64.b64encode(b".." + b"9" * 16)),
        (b"/x/" + base64.b64encode(b"..." + CARD), b"/x/" + base64.b64encode(b"..." + b"9" * 16)),
    ],
)
def test_a_secret_becomes_a_text_of_its_shape(text: bytes, expected: bytes) -> None:
    got = mask(text, DEFAULT, ALL)
    assert got is not None
    assert got == expected


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", [b"the card " + CARD + b" of mine", ED25519, github_token()])
def test_what_was_masked_has_its_length_and_no_secret(secret: bytes, encoding: str) -> None:
    text = ENCODINGS[encoding](secret)
    got = mask(text, DEFAULT, ALL)
    assert got is not None
    assert len(got) == len(text)
    assert got != text
    assert found_in(got, DEFAULT) == {}


def test_a_token_loses_its_prefix_too() -> None:
    got = mask(b"x=" + github_token() + b"&y=1", DEFAULT, ALL)
    assert got is not None
    assert got.startswith(b"x=xxx_")
    assert got.endswith(b"&y=1")
    assert set(got[6:-4]) <= set(b"xX9")


def test_a_json_document_stays_one_and_keeps_what_is_no_secret() -> None:
    document = {
        "card": int(CARD),
        "key": long_key().decode(),
        "note": "Grüße / 1",
        "list": [1, 2.5],
    }
    got = mask(json.dumps(document).encode(), DEFAULT, ALL)
    assert got is not None
    read = json.loads(got)
    assert read["card"] == 9999999999999999
    assert (read["note"], read["list"]) == (document["note"], document["list"])
    assert read["key"].startswith("-----BEGIN RSA PRIVATE KEY-----\nXXX")
    assert read["key"].endswith("\n-----END RSA PRIVATE KEY-----\n")
    assert set(read["key"][40:-40]) <= set("Xx9+/=\n-")


def test_a_form_stays_one() -> None:
    fields = {"name": "Jané", "card": CARD_GROUPED.decode(), "comment": "50% off & more"}
    got = mask(urllib.parse.urlencode(fields).encode(), DEFAULT, ALL)
    assert got is not None
    assert dict(urllib.parse.parse_qsl(got.decode())) == fields | {"card": "9999 9999 9999 9999"}


def test_a_file_in_base_64_in_a_document_is_masked_inside() -> None:
    inside = b"name,card\nJane," + CARD + b"\n" + b"more,lines\n" * 30
    text = json.dumps({"file": base64.b64encode(inside).decode()}).encode()
    got = mask(text, DEFAULT, ALL)
    assert got is not None
    assert base64.b64decode(json.loads(got)["file"]) == inside.replace(CARD, b"9" * 16)


def test_only_the_kinds_that_were_asked_for_are_masked() -> None:
    text = CARD + b" and " + IBAN
    assert mask(text, DEFAULT, {"iban"}) == CARD + b" and XX99999999999999999999"


def test_a_text_without_secrets_stays_as_it_is() -> None:
    text = bytes(range(256)) * 10 + b"%41 =41 \\u0041 " + base64.b64encode(bytes(range(90)))
    assert mask(text, DEFAULT, ALL) == text


def test_what_is_too_deep_to_be_looked_through_is_not_masked_silently() -> None:
    text = CARD + b" of mine, for the tests"
    for _ in range(8):
        text = base64.b64encode(text)
    with pytest.raises(LimitExceeded):
        mask(text, DEFAULT, ALL)


PARTS = st.sampled_from(
    [
        CARD,
        CARD_GROUPED,
        IBAN,
        github_token(),
        ED25519,
        b"%31",
        b"\\u0031",
        b"\\n",
        b"\\\\",
        b"=\r\n",
        b"=31",
        b" ",
        b"\n",
        b"&#49;",
        b"AAAA" * 6,
        base64.b64encode(b"xyz " + CARD + b" "),
        b"a@b.example",
        CARD.decode().encode("utf-16-le"),
        b"".join(b"%%%02x" % one for one in CARD),
    ]
)


@given(st.lists(st.one_of(PARTS, st.binary(max_size=6)), max_size=10).map(b"".join))
def test_what_is_returned_never_holds_a_secret(text: bytes) -> None:
    try:
        got = mask(text, EVERY, ALL)
    except LimitExceeded:
        return
    if got is not None:
        assert len(got) == len(text)
        assert found_in(got, EVERY) == {}
