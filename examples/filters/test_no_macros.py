"""The tests of ``no_macros``: how the tests of a content filter look."""

from __future__ import annotations

import io
import zipfile

import pytest

from examples.filters.no_macros import NoMacros
from sluicegate.filterapi import Direction, Refuse, Release
from sluicegate.testing import check_content_filter, inspect_object, offer_of


def document(*names: str) -> bytes:
    """Make an office document of these parts."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name in names:
            archive.writestr(name, "content " * 100)
    return body.getvalue()


@pytest.mark.parametrize("direction", list(Direction))
def test_document_with_macros_is_refused(direction: Direction) -> None:
    """Nobody gets a byte of it, on the way in or out."""
    body = document("word/document.xml", "word/vbaProject.bin")
    seen = inspect_object(NoMacros, body, offer_of("letter.docm", direction))
    assert seen.verdict == Refuse("macro document")
    assert seen.received == b""


@pytest.mark.parametrize("body", [document("word/document.xml"), b"no document", b""])
def test_what_has_no_macros_arrives_as_it_is(body: bytes) -> None:
    """A document without macros, and what is no document."""
    seen = inspect_object(NoMacros, body)
    assert seen.verdict == Release()
    assert seen.received == body


def test_broken_document_is_refused() -> None:
    """What cannot be looked into is not let through."""
    seen = inspect_object(NoMacros, document("word/document.xml")[:40])
    assert (seen.outcome, seen.received) == ("refused", b"")
    assert isinstance(seen.error, zipfile.BadZipFile)


def test_it_does_what_every_content_filter_must() -> None:
    """The kit's own battery, with documents among the samples."""
    samples = (b"", b"plain", document("a.xml"), document("vbaProject.bin"))
    check_content_filter(NoMacros, samples)
