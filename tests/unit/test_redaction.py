"""Redaction: no secret gets into a line, what is none stays, and it costs linear time."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.audit import FilterFailureRecord, NoteRecord, Record, RequestRecord, TransferRecord
from sluicegate.audit.lines import encode_record, encode_records
from sluicegate.audit.redaction import REDACTED, changed_texts, may_hold_secrets, redacted
from tests.unit.record_kit import KINDS, full_record, tag_of

SECRET = "hunter2Sec"
BASIC = "dXNlcjpodW50ZXIyU2Vj"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def failure(cause: str) -> Record:
    return FilterFailureRecord(time=1.0, filter="f", cause=cause, action="refused")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # User information in URLs.
        (f"http://ann:{SECRET}@h.example/x", f"http://{REDACTED}@h.example/x"),
        (f"ConnectError: ftp://{SECRET}@h.example", f"ConnectError: ftp://{REDACTED}@h.example"),
        (f"redis://:{SECRET}@[2001:db8::1]:6379/0", f"redis://{REDACTED}@[2001:db8::1]:6379/0"),
        # Headers.
        (f"Authorization: Basic {BASIC}", f"Authorization: {REDACTED}"),
        (f"proxy-authorization:Basic {BASIC}", f"proxy-authorization:{REDACTED}"),
        (f'bad header Authorization: Digest username="a", response="{SECRET}"',
         f"bad header Authorization: {REDACTED}"),
        (f"{{'Authorization': 'Bearer {JWT}'}}", f"{{'Authorization': '{REDACTED}"),
        (f"Cookie: sid={SECRET}; theme=dark", f"Cookie: {REDACTED}"),
        (f"Set-Cookie: sid={SECRET}; HttpOnly", f"Set-Cookie: {REDACTED}"),
        (f"X-Api-Key: {SECRET}", f"X-Api-Key: {REDACTED}"),
        (f"cookie:{SECRET}", f"cookie:{REDACTED}"),
        (f"AUTHORIZATION :Digest {SECRET}", f"AUTHORIZATION :{REDACTED}"),
        (f"x-auth-token:{SECRET}", f"x-auth-token:{REDACTED}"),
        # Schemes without their header.
        (f"refused: Bearer {JWT}", f"refused: Bearer {REDACTED}"),
        (f"sent basic {BASIC} twice", f"sent basic {REDACTED} twice"),
        (f"sent bEARER {JWT}", f"sent bEARER {REDACTED}"),
        ("Negotiate YIIJvwYGKwYBBQUC", f"Negotiate {REDACTED}"),
        ("NTLM TlRMTVNTUAABAAAA", f"NTLM {REDACTED}"),
        # Commands.
        (f"PASS {SECRET}", f"PASS {REDACTED}"),
        (f"unexpected command: PASS {SECRET} with spaces", f"unexpected command: PASS {REDACTED}"),
        (f"pass {SECRET}", f"pass {REDACTED}"),
        (f"PASS\t{SECRET}", f"PASS\t{REDACTED}"),
        (f"AUTH\x1fPLAIN\x0b{BASIC}", f"AUTH\x1fPLAIN\x0b{REDACTED}"),
        (f"ACCT {SECRET}", f"ACCT {REDACTED}"),
        (f"AUTH PLAIN {BASIC}", f"AUTH PLAIN {REDACTED}"),
        # Values by their names.
        (f"/login?user=ann&password={SECRET}&x=1", f"/login?user=ann&password={REDACTED}&x=1"),
        (f"access_token={SECRET}#top", f"access_token={REDACTED}"),
        (f"client_secret = '{SECRET}'", f"client_secret = '{REDACTED}'"),
        (f"X-Amz-Signature={SECRET}", f"X-Amz-Signature={REDACTED}"),
        (f"api-key={SECRET}", f"api-key={REDACTED}"),
        (f'{{"password": "{SECRET}"}}', f'{{"password": "{REDACTED}"}}'),
        (f"password: {SECRET}", f"password: {REDACTED}"),
        (f"PassWord:{SECRET}", f"PassWord:{REDACTED}"),
        (f"pwd:{SECRET}", f"pwd:{REDACTED}"),
        (f"api_key:{SECRET}", f"api_key:{REDACTED}"),
        (f"API-KEY:{SECRET}", f"API-KEY:{REDACTED}"),
        (f"apikey:{SECRET}", f"apikey:{REDACTED}"),
        (f"bind failed: passwd={SECRET}", f"bind failed: passwd={REDACTED}"),
        # Keys.
        ("key -----BEGIN RSA PRIVATE KEY-----\nMIIEpAIB\n-----END RSA PRIVATE KEY----- is bad",
         f"key {REDACTED}"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEpAIB", REDACTED),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_taken_out(text: str, expected: str) -> None:
    assert redacted(text) == expected
    cause = json.loads(encode_record(failure(text)))["cause"]
    assert cause == expected
    assert (
        json.loads(encode_records([failure("x"), failure(text)]).splitlines()[1])["cause"] == cause
    )


@pytest.mark.parametrize(
    "text",
    [
        "filter:antivirus: Eicar-Signature",
        "basic authentication is not offered",
        "Bearer authentication needed",
        "secret:github-token",
        "reports@h.example",
        "mail to ann@example.com",
        "https://h.example/a@b/c:d@e",
        "ValueError: invalid token: expected a colon",
        "the passenger list",
        "passes 3 of 4",
        "bypass everything",
        "tls-hello-late",
        "a=b&c=d",
        "AUTH TLS",
        "the author=ann",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text
    assert json.loads(encode_record(failure(text)))["cause"] == text


def test_facts_whose_names_say_that_they_are_secret_are_not_written() -> None:
    facts: dict[str, str | int] = {
        "password": SECRET, "access_token": SECRET, "Cookie": SECRET, "api_key": 7, "size": 7,
        "access-key": SECRET, "my_privatekey": SECRET,
    }  # fmt: skip
    for name, value in facts.items():
        line = encode_record(NoteRecord(time=1.0, filter="f", message="m", facts={name: value}))
        assert json.loads(line)["facts"] == {name: 7 if name == "size" else REDACTED}


@pytest.mark.parametrize("kind", KINDS, ids=tag_of)
def test_every_text_of_every_kind_is_looked_at(kind: type[Record]) -> None:
    record = full_record(kind)
    texts = [name for name in record.__struct_fields__ if isinstance(getattr(record, name), str)]
    for name in texts:
        setattr(record, name, f"http://ann:{SECRET}@h.example/")
    assert SECRET.encode() not in encode_record(record)
    assert encode_record(record).count(REDACTED.encode()) == len(texts)


@given(st.text(), st.text())
def test_nothing_that_is_redacted_is_missed_by_the_first_look(before: str, after: str) -> None:
    for secret in (f"PASS {SECRET}", f"://a:{SECRET}@", f"Authorization: Basic {BASIC}"):
        text = f"{before} {secret} {after}"
        if redacted(text) != text:
            assert may_hold_secrets(json.dumps(text).encode())
            assert SECRET not in json.loads(encode_record(failure(text)))["cause"]


@given(st.text(alphabet="pasword=:/@Bearer \\\"'token-_.&;aA1\n", max_size=60))
def test_the_first_look_has_no_false_negative(text: str) -> None:
    if redacted(text) != text:
        assert may_hold_secrets(json.dumps(text).encode())


@given(
    st.lists(
        st.sampled_from(
            [
                *("sig", "auth", "token", "secret", "session", "_id", "Cookie", "api-key", "s"),
                *("X-", "=", "==", " ", "\t", "\x1c", "\\", '"', "'", "a" * 20, "é", "1"),
            ]
        ),
        max_size=8,
    ).map("".join)
)
def test_no_name_before_an_equals_sign_is_missed(text: str) -> None:
    if redacted(text) != text:
        assert may_hold_secrets(json.dumps(text).encode())


def closely(record: Record) -> object:
    """Return the fields of a record as they are when all of them are looked at closely."""
    return changed_texts(msgspec.to_builtins(record), redacted)


NAMES = st.sampled_from(
    [
        *("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"),
        *("x-auth-token", "basic", "bearer", "negotiate", "ntlm", "pass", "acct", "auth"),
        *("password", "passwd", "passphrase", "pwd", "secret", "token", "api-key", "access-key"),
        *("private_key", "privatekey", "apikey", "credential", "signature", "session-id", "sig"),
    ]
).flatmap(lambda name: st.sampled_from([name, name, name.upper(), name.swapcase()]))
SPACES = st.sampled_from(["", "", "", " ", "\t", "\x1c", "\xa0", "\u2003", "n", " PLAIN "])
QUOTES = st.sampled_from(["", "", "", "'", '"', "\\"])
SIGNS = st.sampled_from(["=", ":", ":", "", "://"])
VALUES = st.sampled_from([SECRET, BASIC, "x y", "n" * 40, "\u017fa\u212a", "@"])
TEXTS = st.tuples(
    st.sampled_from(["", "", "x ", "my_", "-----BEGIN PRIVATE KEY-----", "author "]),
    *(NAMES, QUOTES, SPACES, SIGNS, SPACES, QUOTES, VALUES),
).map("".join)
FACTS = st.tuples(st.sampled_from(["", "", "x", "my_", "a-"]), NAMES).map("".join)
NOTES = st.tuples(st.just("m") | TEXTS, FACTS | TEXTS, VALUES)


@settings(max_examples=1000)
@given(st.lists(NOTES, max_size=2), st.just("c") | TEXTS)
def test_batch_that_is_looked_at_once_is_as_if_each_text_were_looked_at_closely(
    notes: list[tuple[str, str, str]], cause: str
) -> None:
    records: list[Record] = [
        NoteRecord(time=1.0, filter="f", message=message, facts={name: value})
        for message, name, value in notes
    ]
    records.append(failure(cause))
    batch = [json.loads(line) for line in encode_records(records).splitlines()]
    assert batch == [closely(record) for record in records]
    assert [json.loads(encode_record(record)) for record in records] == batch


@pytest.mark.parametrize(
    "issuer",
    [
        "CN=R11,O=Let's Encrypt,C=US",
        "CN=WE1,O=Google Trust Services,C=US",
        "CN=DigiCert Global G3 TLS ECC SHA384 2020 CA1,O=DigiCert Inc,C=US",
        "CN=the office's authority",
    ],
)
def test_records_of_opened_connections_take_no_close_look(issuer: str) -> None:
    line = json.dumps({"tls": "inspect", "tls_verification": "verified", "tls_issuer": issuer})
    assert not may_hold_secrets(line.replace('": "', '":"').encode())


@pytest.mark.parametrize(
    "piece",
    [
        "password",
        "://",
        "a" * 10 + "_",
        "Bearer ",
        "-----BEGIN ",
        "token=",
        "=",
        "x =",
        'cookie\\"',
        "PASS ",
    ],
)
def test_time_grows_with_the_length_alone(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        begin = time.process_time()
        redacted(text)
        may_hold_secrets(text.encode())
        return time.process_time() - begin

    few, many = seconds(20_000), seconds(320_000)
    assert many < 80 * few + 0.1


def test_urls_and_names_of_transfers_lose_what_they_carry() -> None:
    request = RequestRecord(
        time=1.0, connection="c", request="r", session="s", client="10.0.0.1:4", listener="l",
        verdict="allowed", reason="allowed", outcome="released", policy="p",
        url=f"http://ann:{SECRET}@h.example/x",
    )  # fmt: skip
    transfer = TransferRecord(
        time=1.0, connection="c", session="s", client="10.0.0.1:4", rule="r",
        name=f"/pub/x;token={SECRET}", direction="download", protocol="ftp", verdict="released",
        reason="clean", bytes=1,
    )  # fmt: skip
    assert SECRET.encode() not in encode_records([request, transfer])
