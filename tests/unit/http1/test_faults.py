"""The page that explains refusals explains all of them, as they are."""

from __future__ import annotations

import pathlib
import re

import pytest

from sluicegate.errors import Side
from sluicegate.protocols.http1 import HttpFault, HttpProtocolError

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "internals" / "http1.md"
ROW = re.compile(r"^\| `([a-z0-9.-]+)` \| (\d{3}) \| ([^|]+) \|", re.MULTILINE)


def test_page_lists_every_fault_with_its_status_and_hint() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))

    assert [(code, int(status), hint) for code, status, hint in rows] == [
        (fault.code, fault.status, fault.hint) for fault in HttpFault
    ]


def test_codes_are_unique() -> None:
    assert len({fault.code for fault in HttpFault}) == len(HttpFault)


@pytest.mark.parametrize("fault", list(HttpFault))
def test_fault_says_its_status_by_side(fault: HttpFault) -> None:
    assert HttpProtocolError(fault, Side.CLIENT).status == fault.status
    assert HttpProtocolError(fault, Side.SERVER).status == 502
    assert HttpProtocolError(fault, Side.CLIENT, "x").hint == f"{fault.hint} (x)"
