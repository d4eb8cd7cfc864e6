"""Paths of requests: one reading or none; and patterns that take time linear in them (N7)."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy.paths import PathPattern, PathRefused, canonical_path, is_path_meant

READINGS = [
    ("/", "/"), ("/a", "/a"), ("/a/", "/a/"), ("/a?b=/../c", "/a"), ("//a///b//", "/a/b/"),
    ("/%61%2d%7E", "/a-~"), ("/%c3%bc", "/%C3%BC"), ("/a%20b", "/a%20b"), ("/a;b=c,d@e:f", "/a;b=c,d@e:f"),
    ("/...", "/..."), ("/.a", "/.a"), ("/A", "/A"), ("/a%28b%29%21%2c", "/a(b)!,"), ("/a%3Bb%3d%40%3a", "/a;b=@:"),
    ("/a|b^c", "/a%7Cb%5Ec"), ("/a%7cb%5ec", "/a%7Cb%5Ec"), ('/{a}"<b>`[c]', "/%7Ba%7D%22%3Cb%3E%60%5Bc%5D"),
    ("/a*b", "/a%2Ab"), ("/a%2ab", "/a%2Ab"), ("/a+b%2bc", "/a+b+c"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "reading"), READINGS)
def test_path_has_one_reading(target: str, reading: str) -> None:
    assert canonical_path(target) == reading
    assert canonical_path(reading) == reading


@pytest.mark.parametrize(
    "target",
    [
        "", "a", "*", "http://a/", "?a", "/a/../b", "/..", "/a/./b", "/%2e%2e/a", "/%2E/a", "/a%2fb", "/a%2Fb",
        "/a%5cb", "/a\\b", "/%252e%252e", "/a%00", "/a%0d%0a", "/a%7f", "/a%", "/a%2", "/a%zz", "/a b", "/a\tb",
        "/a\x00", "/a#b", "/\u00fc", "/a\u2024b", "/a\r\nb", "/a/..;/b", "/a/.;x/b", "/a/..;x=1/b", "/a/..%3b/b", "/a/%2e%2e;/b",
        "/a/;x/b", "/;x", "/a/%3Bx",
    ],
)  # fmt: skip
def test_path_that_servers_read_in_several_ways_has_none(target: str) -> None:
    with pytest.raises(PathRefused):
        canonical_path(target)


@given(st.text(alphabet="/.%2eEfFaA5cC\\?;\x00\u00fc", max_size=40))
def test_reading_is_stable_and_has_no_dot_segments(text: str) -> None:
    try:
        reading = canonical_path("/" + text)
    except PathRefused:
        return
    assert canonical_path(reading) == reading
    assert not {".", ".."} & {segment.partition(";")[0] for segment in reading.split("/")}
    assert is_path_meant([PathPattern("/*")], reading)
    assert "//" not in reading
    assert "\\" not in reading


CATASTROPHIC = [
    r"/(a+)+b", r"/(a|a)*b", r"/(a|aa)+b", r"/(.*a){12}b", r"/([a-z]+)*\d", r"/(a*)*b", r"/(?:a?){60}a{60}b",
    r"/(\w+\s?)*b", r"/^(([a-z])+.)+[A-Z]([a-z])+b",
]  # fmt: skip


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_n7_catastrophic_patterns_end(pattern: str) -> None:
    # An engine that backtracks takes more than 2**50 steps for each of these: it never ends.
    assert not PathPattern(pattern, is_regular=True).matches("/" + "a" * 100_000)


@pytest.mark.parametrize(
    "pattern",
    [
        r"/(?=a)b", r"/(a)\1", r"/(?<!a)b", r"/a(", r"/[z-a]", r"/a{1001}", r"/((((a{100}){10}){10}){10}){10}",
        "/" + "a" * 5000, r"/(?P<x>a)(?P=x)",
    ],
)  # fmt: skip
def test_n7_patterns_that_need_more_than_linear_time_or_much_memory_are_refused(
    pattern: str,
) -> None:
    with pytest.raises(ValueError, match=r"."):
        PathPattern(pattern, is_regular=True)


@pytest.mark.parametrize(
    ("texts", "path", "is_allowed", "is_refused"),
    [
        (["/admin", "/admin/*"], "/admin;x", False, True), (["/admin/*"], "/admin;x/a", False, True),
        (["/admin/*"], "/admin/a;x=1", True, True), (["/admin/a"], "/admin/a;x=1", False, True),
        (["/a;b/*"], "/a;b/c", False, True), (["/a;b/*", "/a/*"], "/a;b/c", True, True),
        (["/b/*"], "/a;b/c", False, False), (["/*"], "/a;b/c", True, True),
    ],
)  # fmt: skip
def test_path_with_parameters_is_held_to_patterns_with_and_without_them(
    texts: list[str], path: str, is_allowed: bool, is_refused: bool
) -> None:
    patterns = [PathPattern(text) for text in texts]
    assert is_path_meant(patterns, path) == is_allowed
    assert is_path_meant(patterns, path, in_any_reading=True) == is_refused


def test_pattern_matches_all_of_a_path() -> None:
    pattern = PathPattern(r"/v[0-9]+/.*", is_regular=True)
    assert pattern.matches("/v1/a")
    assert not pattern.matches("/x/v1/a")
    assert not PathPattern(r"/v[0-9]+", is_regular=True).matches("/v1/a")


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("/a", "/a", True), ("/a", "/a/", False), ("/a", "/A", False), ("/a/*", "/a/", True),
        ("/a/*", "/a", False), ("/a/*", "/a/b/c", True), ("/a*", "/ab", True), ("/a/*", "/b/a/", False),
        ("/*", "/", True), ("/*", "/x/y", True),
    ],
)  # fmt: skip
def test_star_is_everything_behind(text: str, path: str, expected: bool) -> None:
    assert PathPattern(text).matches(path) == expected
