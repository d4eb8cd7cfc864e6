"""Own patterns: what an operator may write, how wide it is, and what is refused with a cure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.secrets import PatternError, SecretPatterns, own_kind
from sluicegate.protocols.secrets.own_pattern import pattern_width
from tests.unit.leaks.secret_kit import found_in


@pytest.mark.parametrize(
    ("pattern", "width"),
    [
        ("PRJ-[A-Z]{2,4}-[0-9]{6}", 15),
        ("a", 1),
        ("ab?c", 3),
        ("(?:red|yellow)-[0-9]", 8),
        ("(a|bc){1,3}", 6),
        (r"\d{3}\.\x41", 5),
        ("[]a]{2}", 2),
        (r"[\]a-z]", 1),
        ("geheim|vertraulich", 11),
        ("für", 4),
        ("x.{1,10}y", 12),
    ],
)
def test_a_pattern_says_how_wide_it_is(pattern: str, width: int) -> None:
    assert pattern_width(pattern) == width
    own_kind("own", pattern, ignores_case=False, count_min=1)


@pytest.mark.parametrize(
    ("pattern", "cause"),
    [
        ("a+", "no bound"),
        ("a*b", "no bound"),
        ("ab{2,}", "no bound"),
        ("a?", "nothing at all"),
        ("a|", "nothing at all"),
        ("", "nothing at all"),
        ("(a", "not closed"),
        ("[a", "not closed"),
        ("a)", "too many"),
        ("^a", "no meaning"),
        ("a$", "no meaning"),
        ("(?=a)b", "are groups"),
        (r"(a)\1", "not understood"),
        (r"\bword", "not understood"),
        (r"\p{L}x", "not understood"),
        ("a\\", "backslash at the end"),
        (r"\xg1", "two hexadecimal digits"),
        ("+a", "repeats nothing"),
        ("[a[b]", r"\[ for a bracket"),
        ("[ü]", "ASCII"),
        ("(ab){200}", "more than 256"),
        ("(" * 30 + "a" + ")" * 30, "more than 20 others"),
        ("a{3,1}", ""),
    ],
)
def test_a_pattern_that_cannot_be_is_refused_with_its_cause(pattern: str, cause: str) -> None:
    with pytest.raises(PatternError) as caught:
        own_kind("own", pattern, ignores_case=False, count_min=1)
    assert cause in str(caught.value)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"PRJ-ABC-123456", 1),
        (b"see PRJ-ABC-123456, PRJ-AB-654321.", 2),
        (b"PRJ-ABC-123456 PRJ-ABC-123456", 1),
        (b"xPRJ-ABC-123456", 0),
        (b"PRJ-ABC-1234567", 0),
        (b"prj-abc-123456", 0),
        (b"PRJ-%41%42-123456", 1),
    ],
)
def test_whole_words_are_found_and_different_ones_counted(text: bytes, count: int) -> None:
    kind = own_kind("own", "PRJ-[A-Z]{2,4}-[0-9]{6}", ignores_case=False, count_min=1)
    found = found_in(text, SecretPatterns([kind]))
    assert len(found["own"].values if found else ()) == count


def test_case_may_be_ignored() -> None:
    kind = own_kind("own", "top secret", ignores_case=True, count_min=1)
    assert found_in(b"TOP Secret!", SecretPatterns([kind]))


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(pattern: str) -> None:
    try:
        kind = own_kind("own", pattern, ignores_case=False, count_min=1)
    except PatternError:
        return
    assert set(found_in(pattern.encode(), SecretPatterns([kind]))) <= {"own"}


@given(st.text("ab()[]{}?|\\.,12-", max_size=14))
def test_any_text_of_signs_is_a_pattern_or_refused(pattern: str) -> None:
    try:
        kind = own_kind("own", pattern, ignores_case=True, count_min=1)
    except PatternError:
        return
    assert set(found_in(b"ab aab abab 12", SecretPatterns([kind]))) <= {"own"}
