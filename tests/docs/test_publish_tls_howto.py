"""The files on the page about publishing inside TLS are accepted, with real certificates."""

from __future__ import annotations

import pathlib
import re

import pytest

from sluicegate.app.load import load
from sluicegate.documents import Findings
from tests.pki import authority
from tests.repo.source_tree import ROOT

PAGE = (ROOT / "docs" / "howto" / "publish-an-https-server.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
LISTENER, POLICY = BLOCKS[:2]
LISTENERS = [one for one in BLOCKS if one.startswith("[listener.tls]")]
POLICIES = [one for one in BLOCKS if one.startswith("[[publish]]")]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "certificates").mkdir()
    for name in ("www", "shop"):
        issued = authority().server(f"{name}.example.org", days=(-1, 90))
        issued.write(tmp_path / "certificates", name)
        issued.write(tmp_path, name)
    (tmp_path / "partners.pem").write_text(authority("clients").pem)
    (tmp_path / "partners.crl").write_text(authority("clients").revocations())
    return tmp_path


def findings_of(folder: pathlib.Path, main: str, policy: str) -> tuple[list[object], list[object]]:
    (folder / "sluicegate.toml").write_text(main)
    (folder / "policy.toml").write_text(policy)
    findings = Findings()
    loaded = load(folder / "sluicegate.toml", findings)
    assert loaded is not None, findings.errors
    assert len(loaded.certificates) == 2
    return list(findings.errors), list(findings.warnings)


@pytest.mark.parametrize("tls", [LISTENER, *LISTENERS])
def test_listener_is_accepted(folder: pathlib.Path, tls: str) -> None:
    main = tls if tls is LISTENER else LISTENER.partition("[listener.tls]")[0] + tls
    assert findings_of(folder, main, POLICY) == ([], [])


@pytest.mark.parametrize("policy", [POLICY, *POLICIES])
def test_publication_is_accepted(folder: pathlib.Path, policy: str) -> None:
    assert findings_of(folder, LISTENER, policy) == ([], [])
