"""The demonstration on a machine where a real clamd runs: it is asked, too."""

from __future__ import annotations

import pathlib

import pytest

from sluicegate.app.demo import run_demo

from .clamd_parts import running_clamd

pytestmark = pytest.mark.either_driver


def test_the_demonstration_asks_the_clamd_of_the_machine(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_clamd(tmp_path / "clamd") as clamd:
        monkeypatch.setattr("sluicegate.app.demo.scenario.CLAMD_SOCKETS", (str(clamd.socket),))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        demo = run_demo(lambda _line: None, lambda _fetched: None, is_quick=True)
    assert demo.is_right
    found = {one.name: one for one in demo.report.outcomes}["http eicar in zip (clamd)"]
    assert (found.verdict, found.bytes_to_client) == ("refused", 0)
    assert found.reason.startswith("malware: Eicar-Test")
    assert found.reason.endswith("(clamd)")
