"""The secret redactor: secrets of every kind, cut anywhere, with and without their length."""

from __future__ import annotations

import re
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.filters.secret_redactor import (
    EndlessSecretError,
    Redactor,
    SecretRedactor,
    SecretRedactorSettings,
)
from sluicegate.filterapi import StreamFilter
from tests.samples.sample_kit import SEEDS, cut_up, exchange, notes

KINDS = ("aws-key-id", "github-token", "slack-token", "private-key")
KEY = (
    b"-----BEGIN OPENSSH PRIVATE KEY-----\r\n"
    + b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAA\r\n" * 30
    + b"-----END OPENSSH PRIVATE KEY-----"
)
SECRETS = {
    b"AKIA" + b"Q3EGRIVKOHX7A2ZD": "aws-key-id",
    b"ASIA" + b"Q3EGRIVKOHX7A2ZDLONGER": "aws-key-id",
    b"ghp_" + b"a1B2" * 9: "github-token",
    b"github_pat_" + b"11AAAAAA0_" * 8: "github-token",
    b"xoxb-" + b"123456789012-abcdefghij": "slack-token",
    KEY: "private-key",
    b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----": "private-key",
    b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ\n-----END PGP PRIVATE KEY BLOCK-----": (
        "private-key"
    ),
}
PREFIXES = (b"AKIA", b"ASIA", b"ghp_", b"github_pat_", b"xoxb-", b"-----BEGIN ")
HARMLESS = [
    b"AKIA",
    b"AKIA-and-no-key",
    b"AKIAQ3EGRIVKOHX7A2Z.",
    b"gh",
    b"ghp_short",
    b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    b"------BEGIN--",
    b"-----BEGIN PUBLIC KEY-----",
    b"-----",
    b"xoxb",
]


def redact(*pieces: bytes, keep_length: bool = True) -> bytes:
    redactor = Redactor(KINDS, keep_length=keep_length)
    return b"".join(map(redactor.feed, pieces)) + redactor.finish()


@pytest.mark.parametrize("secret", SECRETS)
def test_secret_becomes_stars_or_a_word(secret):
    assert redact(b"key=" + secret + b"\n") == b"key=" + b"*" * len(secret) + b"\n"
    assert redact(b"key=" + secret + b"\n", keep_length=False) == b"key=[redacted]\n"
    redactor = Redactor(KINDS, keep_length=True)
    redactor.feed(secret + b"\n")
    redactor.finish()
    assert redactor.found == {SECRETS[secret]: 1}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_resembles_a_secret_passes(text):
    assert redact(text + b"\n") == text + b"\n"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("keep_length", [True, False])
def test_no_byte_of_a_secret_passes_wherever_the_stream_ends(secret, keep_length):
    for length in range(1, len(secret)):
        shown = redact(b"<", secret[:length], keep_length=keep_length)
        hidden = re.sub(rb"\*|\[redacted\]", b"", shown)[1:]
        # At most a part of what secrets begin with, which is no part of what is secret.
        assert hidden in (b"", secret[:length])
        assert not any(hidden.startswith(one) for one in PREFIXES)


texts = st.lists(
    st.one_of(
        st.sampled_from([*SECRETS, *HARMLESS, b"\n", b" ", b"\x00\xff"]),
        st.sampled_from([secret[:-1] for secret in SECRETS]),
        st.binary(max_size=20),
    ),
    max_size=6,
).map(b"".join)


@given(st.data(), texts, st.booleans())
def test_every_cut_redacts_the_same(data, text, keep_length):
    whole = redact(text, keep_length=keep_length)
    assert redact(*data.draw(cut_up(text)), keep_length=keep_length) == whole
    assert not keep_length or len(whole) == len(text)


@given(st.data(), texts)
def test_single_bytes_redact_the_same_as_the_whole(data, text):
    pieces = [text[place : place + 1] for place in range(len(text))]
    assert redact(*pieces) == redact(text)


def test_little_is_held_and_an_endless_secret_ends_it_all():
    redactor = Redactor(KINDS, keep_length=True)
    taken = len(redactor.feed(b"-----BEGIN PRIVATE KEY-----" + b"A" * 60_000))
    assert taken > 59_000
    with pytest.raises(EndlessSecretError):
        redactor.feed(b"A" * 10_000)


def redactor_filter(**more) -> partial[StreamFilter]:
    return partial(SecretRedactor, SecretRedactorSettings.model_validate(more))


TEXT = b"before " + b" and ".join(SECRETS) + b" after" + b"." * 3000


@pytest.mark.parametrize("seed", SEEDS)
def test_both_directions_are_redacted_and_recorded(seed):
    done = exchange(redactor_filter(), TEXT, TEXT[::2] + KEY, seed=seed)
    assert done.at_server == redact(TEXT)
    assert done.at_client == redact(TEXT[::2] + KEY)
    assert notes(done.gate) == [
        (
            "secrets redacted",
            {"sent_by": "client", "aws-key-id": 2, "github-token": 2, "slack-token": 1}
            | {"private-key": 3},
        ),
        ("secrets redacted", {"sent_by": "server", "private-key": 1}),
    ]


def test_only_what_the_operator_named_is_redacted():
    kind = redactor_filter(kinds=["slack-token"], keep_length=False)
    token = next(one for one, kind in SECRETS.items() if kind == "slack-token")
    assert exchange(kind, KEY + token).at_server == KEY + b"[redacted]"
    one_way = redactor_filter(sides=["server"])
    done = exchange(one_way, KEY, KEY)
    assert (done.at_server, done.at_client) == (KEY, b"*" * len(KEY))


def test_endless_secret_ends_the_connection():
    done = exchange(redactor_filter(), b"-----BEGIN PRIVATE KEY-----" + b"A" * 100_000)
    assert done.outcome == ("refused", "a secret is longer than 65536 bytes")
    assert b"A" not in done.at_server
