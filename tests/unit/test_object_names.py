"""Names of objects: every name under which a client may store one (group K8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.object_names import disposition_names, url_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.exe", "b.exe"),
        ("/a/b%2Eexe", "b.exe"),
        ("/a/", "/a/"),
        ("/", "/"),
        ("", ""),
        ("/a/caf%C3%A9", "café"),
        ("/a/b%0Ac", "b\\nc"),
    ],
)
def test_a_url_names_its_last_segment(path: str, name: str) -> None:
    assert url_name(path) == name


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b"attachment", ()),
        (b"attachment; filename=a.exe", ("a.exe",)),
        (b'attachment; filename="a b.exe"', ("a b.exe",)),
        (b'attachment; filename="a\\"b.exe"', ('a"b.exe',)),
        (b"attachment;FILENAME = a.exe;x=y", ("a.exe",)),
        (b"attachment; filename*=UTF-8''a%2Eexe", ("a.exe",)),
        (b"attachment; filename=a.txt; filename*=UTF-8''b.exe", ("b.exe", "a.txt")),
        (b'attachment; filename="a%2eexe"', ("a%2eexe", "a.exe")),
        (b'attachment; filename="open.exe', ("open.exe",)),
        (b'form-data; name="f"; filename="c.exe"', ("c.exe",)),
        (b"attachment; filename=a.txt; filename=b.exe", ("a.txt", "b.exe")),
    ],
)
def test_a_disposition_gives_every_name_that_a_client_may_take(
    value: bytes, names: tuple[str, ...]
) -> None:
    assert disposition_names(value) == names


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_printable_names(value: bytes) -> None:
    for name in disposition_names(value) + disposition_names(b"filename=" + value):
        assert name.isprintable()
