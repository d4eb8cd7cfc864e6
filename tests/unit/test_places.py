"""Where keys stand: every key that tomllib finds, on the line where it is written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.documents.places import KeyPath, locate_keys

TEXT = '''\
# a comment with [brackets] and a "quote
title = "a # no comment"   # one
[a.b]                       # two tables
c = 1
"quoted \\u00e9 key" = 2
d.e = [1, "x]", # inside
  { f = 3 }, [4,
  5]]
[[list]]
name = """
[not.a.table]
x = 1""\\""""
[list.inner]
k = \'\'\'it''s\'\'\'
[[list]]
name = 'C:\\path'
[[list.deep]]
last = 1979-05-27T07:32:00Z
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("a",), 3),
        (("a", "b"), 3),
        (("a", "b", "c"), 4),
        (("a", "b", "quoted é key"), 5),
        (("a", "b", "d"), 6),
        (("a", "b", "d", "e"), 6),
        (("a", "b", "d", "e", 1), 6),
        (("a", "b", "d", "e", 2, "f"), 7),
        (("a", "b", "d", "e", 3, 1), 8),
        (("list",), 9),
        (("list", 0), 9),
        (("list", 0, "name"), 10),
        (("list", 0, "inner"), 13),
        (("list", 0, "inner", "k"), 14),
        (("list", 1), 15),
        (("list", 1, "name"), 16),
        (("list", 1, "deep", 0), 17),
        (("list", 1, "deep", 0, "last"), 18),
    ],
)
def test_key_is_found_on_its_line(path: KeyPath, line: int) -> None:
    assert locate_keys(TEXT)[path] == line


def test_line_ends_of_windows_count_as_one() -> None:
    assert locate_keys("a = 1\r\nb = 2\r\n") == {("a",): 1, ("b",): 2}


def test_empty_text_has_no_keys() -> None:
    assert locate_keys("") == {}


def paths_of(value: object, path: KeyPath) -> Iterator[KeyPath]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_of(inner, (*path, index))


keys = st.sampled_from(["a", "b", "c-d", '"q.q"', "'l l'", '"\\u0041"'])
blanks = st.sampled_from(["", " ", "\t "])
breaks = st.sampled_from(["", "\n", " \n", " # ]}\n", "\n#\n"])
scalars = st.sampled_from(
    ["1", "-1.5e3", "true", "inf", '"x"', '"\\"]#"', "'#'", '""', '"""\n"""', '"""a"b""c"""',
     '"""a"""""', "'''\n'\n'''", "'''''''''", "1979-05-27 07:32:00", "0xff", '"""\\\n  x"""'],
)  # fmt: skip


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    items = draw(st.lists(values, max_size=3))
    text = ",".join(draw(breaks) + item + draw(breaks) for item in items)
    return f"[{text}{draw(breaks)}]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    names = draw(st.lists(keys, max_size=2, unique=True))
    return "{" + ", ".join(f"{name}{draw(blanks)}={draw(values)}" for name in names) + "}"


values = st.recursive(scalars, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=6)


@st.composite
def texts(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        name = ".".join(draw(st.lists(keys, min_size=1, max_size=3)))
        kind = draw(st.sampled_from(["pair", "pair", "table", "array"]))
        if kind == "pair":
            lines.append(f"{draw(blanks)}{name}{draw(blanks)}={draw(blanks)}{draw(values)}")
        else:
            lines.append(f"[{name}]" if kind == "table" else f"[[ {name} ]]")
        lines.append(draw(st.sampled_from(["", "# x", " "])))
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)


@given(texts())
def test_every_key_that_tomllib_finds_has_a_line_and_no_other(text: str) -> None:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(locate_keys(text)) == set(paths_of(tree, ()))


@given(st.text(alphabet="ab.[]{}=,\"'\\#\n 1", max_size=40))
def test_any_text_that_is_toml_can_be_walked(text: str) -> None:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(locate_keys(text)) == set(paths_of(tree, ()))
