"""How to be told of what happens: its configurations are right, its receiver believes us."""

from __future__ import annotations

import pathlib
import re
import tomllib

import pytest

from sluicegate.app.alerts.webhook import sign
from sluicegate.app.config import read_configuration
from sluicegate.app.secret_files import SecretFiles
from sluicegate.audit.alerts import CONDITIONS
from sluicegate.audit.alerts.predefined import PREDEFINED
from sluicegate.documents import Findings

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "howto" / "get-alerts.md").read_text(encoding="utf-8")
LISTENER = '[[listener]]\nname = "ftp"\naddress = "127.0.0.1:2121"\n'


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_configurations_of_the_page_are_right(number: int) -> None:
    texts = blocks("toml")
    assert len(texts) == 3
    # An alert of the second names actions of the first.
    text = f"{LISTENER}{texts[0] if number < 2 else ''}\n{texts[number] if number else ''}"
    findings = Findings()
    found = read_configuration(
        pathlib.Path("/etc/sluicegate/sluicegate.toml"), text, findings, SecretFiles(pathlib.Path())
    )
    assert [str(one) for one in findings.errors] == []
    assert found is not None
    named = {one["name"] for one in tomllib.loads(text).get("alert", [])}
    assert named - {"client-flood"} <= {rule.name for rule in found.alerts.rules}


def test_receiver_of_the_page_believes_what_is_signed_and_nothing_else() -> None:
    (code,) = blocks("python")
    scope: dict[str, object] = {}
    exec(code, scope)
    is_ours = scope["is_ours"]
    assert callable(is_ours)
    header = sign("shared", 1000, b"{}")
    assert is_ours(b"shared", header, b"{}", 1001.0)
    assert not is_ours(b"other", header, b"{}", 1001.0)
    assert not is_ours(b"shared", header, b"{ }", 1001.0)
    assert not is_ours(b"shared", header, b"{}", 2000.0)


def test_every_predefined_alert_is_on_the_page_and_every_condition_in_the_reference() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE.partition("## The predefined")[2], re.MULTILINE)
    assert listed == list(PREDEFINED)
    reference = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert all(f'`"{name}"`' in reference for name in CONDITIONS)
