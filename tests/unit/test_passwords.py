"""Passwords: real argon2, bounded parameters, and one form of each character."""

from __future__ import annotations

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.documents import Wrong
from sluicegate.identity.passwords import (
    DEFAULT_COST,
    HashCost,
    check_new_password,
    hash_password,
    make_dummy_hash,
    parse_hash,
    verify_password,
)
from tests.unit.identity_kit import CHEAP, cheap_hash

TAIL = "$c2FsdHNhbHRzYWx0c2FsdA$" + "A" * 43


def test_default_hash_is_argon2id_with_the_cost_of_the_rfc() -> None:
    made = hash_password(b"open sesame")

    assert made.text.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert argon2.PasswordHasher().verify(made.text, "open sesame")
    assert not argon2.PasswordHasher().check_needs_rehash(made.text)
    assert parse_hash(made.text) == made


def test_right_password_and_no_other_is_verified() -> None:
    known = cheap_hash("open sesame")

    assert verify_password(known, b"open sesame")
    assert not verify_password(known, b"open sesamE")
    assert not verify_password(known, b"")
    assert not verify_password(known, b"\xff\xfe")
    assert not verify_password(known, b"open sesame\0")


def test_two_hashes_of_one_password_differ() -> None:
    assert hash_password(b"open sesame", CHEAP).text != cheap_hash("open sesame").text


def test_hashes_of_other_programs_are_verified() -> None:
    made = argon2.PasswordHasher(1, 7168, 1).hash("open sesame")

    assert verify_password(parse_hash(made), b"open sesame")


def test_characters_count_however_they_are_composed() -> None:
    assert verify_password(cheap_hash("caf\u00e9 au lait"), "cafe\u0301 au lait".encode())


def test_nobody_has_the_dummy_password_and_it_costs_the_same() -> None:
    dummy = make_dummy_hash(CHEAP)

    assert parse_hash(dummy.text) == dummy
    assert argon2.extract_parameters(dummy.text) == argon2.extract_parameters(
        cheap_hash("open sesame").text
    )
    assert not verify_password(dummy, b"open sesame")
    assert make_dummy_hash(CHEAP).text != dummy.text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (7, "not an argon2id hash"),
        ("", "not an argon2id hash"),
        ("open sesame", "not an argon2id hash"),
        ("$argon2i$v=19$m=65536,t=3,p=4" + TAIL, "not an argon2id hash"),
        ("$argon2id$v=16$m=65536,t=3,p=4" + TAIL, "not an argon2id hash"),
        ("$argon2id$v=19$t=3,m=65536,p=4" + TAIL, "not an argon2id hash"),
        ("$argon2id$v=19$m=65536,t=0,p=4" + TAIL, "not an argon2id hash"),
        ("$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$" + "A" * 43, "not an argon2id hash"),
        ("$argon2id$v=19$m=65536,t=3,p=4" + TAIL + "\n", "not an argon2id hash"),
        ("$argon2id$v=19$m=65536,t=3,p=4" + TAIL + "==", "not an argon2id hash"),
        ("$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234", "not an argon2id hash"),
        ("$argon2id$v=19$m=7167,t=3,p=4" + TAIL, "must be 7168 to"),
        ("$argon2id$v=19$m=262145,t=3,p=4" + TAIL, "to 262144"),
        ("$argon2id$v=19$m=65536,t=17,p=4" + TAIL, "at most t=16"),
        ("$argon2id$v=19$m=65536,t=3,p=17" + TAIL, "at most t=16 and p=16"),
    ],
)
def test_hash_that_is_none_or_out_of_bounds_is_refused(text: object, word: str) -> None:
    with pytest.raises(Wrong) as refused:
        parse_hash(text)

    assert word in refused.value.cause
    assert "sesame" not in refused.value.cause
    assert "user add" in refused.value.cure


def test_hashes_are_not_shown() -> None:
    assert cheap_hash("open sesame").text not in repr(cheap_hash("open sesame"))
    assert str(DEFAULT_COST) == "m=65536,t=3,p=4"


@pytest.mark.parametrize(
    ("password", "word"),
    [
        (b"", "too short"),
        (b"seven77", "too short"),
        ("ä".encode() * 7, "too short"),
        (b"x" * 256, "too long"),
        (b"open\nsesame", "control"),
        (b"open sesame\x7f", "control"),
        (b"open \xff\xff\xff", "not UTF-8"),
    ],
)
def test_new_password_that_nobody_could_use_is_refused(password: bytes, word: str) -> None:
    with pytest.raises(Wrong, match=word):
        check_new_password(password)


@pytest.mark.parametrize("password", [b"8 charac", b"x" * 255, "ä".encode() * 8])
def test_new_password_within_bounds_is_taken(password: bytes) -> None:
    check_new_password(password)


@given(st.integers(7168, 262144), st.integers(1, 16), st.integers(1, 16))
def test_every_cost_within_bounds_reads_back(memory_kib: int, passes: int, lanes: int) -> None:
    made = make_dummy_hash(HashCost(memory_kib, passes, lanes))

    assert parse_hash(made.text) == made
