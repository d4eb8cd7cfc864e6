"""Each kind of secret: what is one, and what only looks like one."""

from __future__ import annotations

import base64

import pytest

from sluicegate.protocols.secrets import KINDS
from sluicegate.protocols.secrets.cards import issuer_of
from tests.unit.leaks.secret_kit import (
    CARD,
    CARD_GROUPED,
    ED25519,
    IBAN,
    found_in,
    github_token,
    jwt,
    long_key,
    noise,
    openssh_key,
)

HEX = b"0123456789abcdef"
WORD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

SECRETS = {
    "payment-card": [
        CARD,
        CARD_GROUPED,
        b"4111-1111-1111-1111",
        b"4111+1111+1111+1111",
        b'{"card":4111111111111111}',
        b"card_4111111111111111_x",
        b"4222222222222",
        b"5555555555554444",
        b"2223003122003222",
        b"3782 822463 10005",
        b"6011111111111117",
        b"30569309025904",
        b"3530111333300000",
        b"6200000000000005",
        b"6759649826438453",
        b"paid with 4111 1111 1111 1111 123 today",
        b"the card is 4111111111111111.",
    ],
    "iban": [
        IBAN,
        b"DE89 3704 0044 0532 0130 00",
        b"to GB82 WEST 1234 5698 7654 32, please",
        b"FR14-2004-1010-0505-0001-3M02-606",
        b"NO9386011117947",
    ],
    "private-key": [
        ED25519,
        long_key(),
        openssh_key(),
        ED25519.replace(b"\n", b"\\n"),
        ED25519.replace(b"\n", b"\r\n"),
        b"-----BEGIN PGP " + b"PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n" + noise(200, WORD),
        b"-----BEGIN RSA " + b"PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        b"DEK-Info: AES-128-CBC,0F\n\n" + noise(200, WORD),
        b"Private-Lines: 14\r\n" + noise(64, WORD),
        b"PrivateKey = " + base64.b64encode(b"\x08" + bytes(range(30)) + b"\x40"),
        b"AGE-SECRET-KEY-1" + b"GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33",
        b"5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ",
    ],
    "cloud-token": [
        b"AKIA" + noise(16, UPPER),
        b"AccountKey=" + noise(86, WORD) + b"==",
        b"AIza" + noise(35, WORD),
        b"GOCSPX-" + noise(28, WORD),
        b"dop_v1_" + noise(64, HEX),
        b"dapi" + noise(32, HEX),
        b"hvs." + noise(95, WORD),
        b"abc8Q~" + noise(34, WORD),
    ],
    "service-token": [
        github_token(),
        github_token(b"o"),
        b"github_pat_" + noise(22, WORD) + b"_" + noise(59, WORD),
        b"glpat-" + noise(20, WORD),
        b"xoxb-" + noise(12, b"0123456789") + b"-" + noise(24, WORD),
        b"sk_live_" + noise(24, WORD),
        b"sk-ant-api03-" + noise(93, WORD),
        b"sk-proj-" + noise(20, WORD) + b"T3BlbkFJ" + noise(20, WORD),
        b"npm_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ" + b"0mLq17",
        b"pypi-AgEIcHlwaS5vcmc" + noise(80, WORD),
        b"hf_" + noise(34, WORD[:52]),
        b"SG." + noise(22, WORD) + b"." + noise(43, WORD),
        b"12345678:AA" + noise(33, WORD),
    ],
    "jwt": [jwt(), b"Authorization: Bearer " + jwt()],
    "assigned-secret": [
        b'password = "' + noise(16, WORD) + b'"',
        b"API_KEY=" + noise(32, HEX),
        b'{"client_secret": "' + noise(24, WORD) + b'"}',
        b"db.passwd := '" + noise(20, WORD) + b"'",
    ],
    "random-text": [b"x " + noise(40, WORD) + b" y"],
    "us-ssn": [b"536-90-4399", b"ssn: 001-01-0001."],
    "gb-nino": [b"AB123456C", b"AB 12 34 56 C"],
    "de-steuer-id": [b"86095742719", b"86 095 742 719"],
    "fr-nir": [b"255081416802538", b"2 55 08 14 168 025 38"],
    "es-dni": [b"12345678Z", b"X1234567L", b"12345678-Z"],
    "it-codice-fiscale": [b"RSSMRA85T10A562S"],
    "pl-pesel": [b"44051401359", b"02070803628"],
    "ch-ahv": [b"756.9217.0769.85", b"7569217076985"],
    "nl-bsn": [b"111222333"],
    "se-personnummer": [b"811218-9876", b"198112189876"],
    "email-list": [b"jane.doe@example.org", b"<a+b@mail.example.com>", b"mail me: x@y.example."],
}

HARMLESS = {
    "payment-card": [
        b"4111111111111112",
        b"41111111111111111",
        b"a4111111111111111",
        b"4111111111111111a",
        b"0.4111111111111111",
        b"4111111111111111.5",
        b"9999999999999999",
        b"0000000000000000",
        b"4111  1111 1111 1111",
        b"1700000000000000",
        b"2024-11-28 10:20:30.411111",
    ],
    "iban": [
        b"DE89370400440532013001",
        b"DE8937040044053201300",
        b"XX89370400440532013000",
        b"aDE89370400440532013000",
        b"ABCD1234EFGH5678IJKL9012",
    ],
    "private-key": [
        b"-----BEGIN " + b"PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        b"-----BEGIN PUBLIC KEY-----\n" + noise(200, WORD),
        b"-----BEGIN CERTIFICATE-----\n" + noise(200, WORD),
        b'look for "-----BEGIN RSA ' + b'PRIVATE KEY-----" in files, and for other lines like it. '
        b"This is no key but a sentence that goes on for a while, and for a while longer.",
        b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\n" + noise(200, WORD),
        b"PrivateKey = " + base64.b64encode(bytes([1, *range(31)])),
    ],
    "cloud-token": [
        b"AKIAIOSFODNN7EXAMPLE",
        b"AKIA" + b"A" * 16,
        b"xAKIA" + noise(16, UPPER),
        b"AKIA" + noise(17, UPPER),
    ],
    "service-token": [
        github_token()[:-1] + b"8",
        github_token()[:-1],
        github_token() + b"x",
        b"ghp_" + b"x" * 36,
        b"sk_test_" + noise(24, WORD),
    ],
    "jwt": [b"eyJhIjoxfQ.eyJ" + noise(40, WORD), b"x.eyJ" + noise(40, WORD)],
    "assigned-secret": [
        b'password = "correct horse battery"',
        b"token = some.module.function_of_ours",
        b"password: aaaaaaaaaaaaaaaaaaaa1",
        b"secret=" + noise(15, WORD),
    ],
    "random-text": [
        noise(40, HEX),
        b"a-long-name-that-people-chose-for-something",
        noise(31, WORD),
    ],
    "us-ssn": [
        b"000-12-3456",
        b"666-12-3456",
        b"900-12-3456",
        b"536-00-4399",
        b"536-90-0000",
        b"123-45-6789",
        b"1536-90-4399",
        b"536904399",
    ],
    "gb-nino": [b"BG123456C", b"AB123456E", b"QQ123456C"],
    "de-steuer-id": [b"86095742718", b"01234567890", b"11111111111"],
    "fr-nir": [b"255081416802539", b"555081416802538"],
    "es-dni": [b"12345678A", b"X1234567A"],
    "it-codice-fiscale": [b"RSSMRA85T10A562T"],
    "pl-pesel": [b"44051401358", b"44151401359"],
    "ch-ahv": [b"756.9217.0769.86", b"755.9217.0769.85"],
    "nl-bsn": [b"111222334", b"1112223330"],
    "se-personnummer": [b"811218-9877", b"811318-9876"],
    "email-list": [b"a@b", b"@example.org", b"name at example.org"],
}


def test_every_kind_has_examples_and_counterexamples() -> None:
    assert set(SECRETS) == set(HARMLESS) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in SECRETS.items() for text in texts]
)
def test_it_is_found(kind: str, text: bytes) -> None:
    assert len(found_in(text)[kind].values) == 1


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in HARMLESS.items() for text in texts]
)
def test_it_is_not_found(kind: str, text: bytes) -> None:
    assert kind not in found_in(text)


@pytest.mark.parametrize(
    ("number", "issuer"),
    [
        (b"4111111111111111", "Visa"),
        (b"41111111111111", ""),
        (b"5555555555554444", "Mastercard"),
        (b"2720999999999999", "Mastercard"),
        (b"2721000000000000", ""),
        (b"371449635398431", "American Express"),
        (b"6011000990139424", "Discover"),
        (b"30569309025904", "Diners Club"),
        (b"3566002020360505", "JCB"),
        (b"6200000000000005", "UnionPay"),
        (b"2200000000000004", "Mir"),
        (b"675964982643", "Maestro"),
        (b"9792020000000001", "Troy"),
        (b"1234567890123456", ""),
    ],
)
def test_issuers_are_known_by_range_and_length(number: bytes, issuer: str) -> None:
    assert issuer_of(number) == issuer


def test_the_same_secret_counts_once_however_it_is_written() -> None:
    text = b"%s, %s, 4111-1111-1111-1111 and %s" % (
        CARD,
        CARD_GROUPED,
        base64.b64encode(b" " + CARD),
    )
    assert len(found_in(text)["payment-card"].values) == 1
