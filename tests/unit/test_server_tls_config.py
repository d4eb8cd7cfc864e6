"""``[tls]`` in the operator's files, ``server_tls`` of a publication, ``tls`` of a parent proxy."""

from __future__ import annotations

import pathlib
import ssl

import pytest

from sluicegate.app import server_tls_config
from sluicegate.app.load import Loaded, load
from sluicegate.app.texts import Texts
from sluicegate.documents import Findings
from sluicegate.names import canonical_host
from sluicegate.tls import MinimumKey, Revocation, Stapling
from tests.chains import make, root

MAIN = """
[[listener]]
name = "web"
address = "127.0.0.1:3080"

[web]
parent_proxy = {parents}

{tls}
"""
PUBLISH = """
[[publish]]
name = "wiki"
listener = "web"
server = "192.0.2.10:443"
clients = ["10.0.0.0/8"]
{more}
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    ours = root().issue("gate", ["gate.test"])
    files = {
        "ca.pem": root().pem,
        "other.pem": root("other").pem,
        "crl.pem": root().revocations(),
        "gate.pem": ours.pem,
        "gate.key": ours.key_pem,
        "other.key": make("x", None).key_pem,
        "open.key": ours.key_pem,
    }
    for name, text in files.items():
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(text)
    (tmp_path / "open.key").chmod(0o644)
    return tmp_path


def read(
    folder: pathlib.Path,
    tls: str = "",
    texts: Texts | None = None,
    *,
    parents: str = "[]",
    more: str = "http = true",
) -> tuple[Loaded | None, Findings]:
    (folder / "sluicegate.toml").write_text(MAIN.format(tls=tls, parents=parents))
    (folder / "policy.toml").write_text(PUBLISH.format(more=more))
    findings = Findings()
    return load(folder / "sluicegate.toml", findings, texts=texts), findings


def test_settings_are_what_was_written(folder: pathlib.Path) -> None:
    loaded, findings = read(
        folder,
        """
[tls]
authorities = ["ca.pem", "other.pem"]
crl = ["crl.pem"]
revocation = "required"
stapling = "required"
minimum = "1.3"
minimum_key = "rsa-3072"
key_log = "keys.log"

[[tls.client_certificate]]
to = ["*.partner.test"]
certificate = "gate.pem"
key = "gate.key"
""",
    )
    assert loaded is not None, findings.errors
    settings = loaded.settings.server_tls
    assert settings is not None
    assert root().pem in settings.authorities
    assert root("other").pem in settings.authorities
    assert settings.revocation is Revocation.REQUIRED
    assert settings.stapling is Stapling.REQUIRED
    assert settings.minimum is ssl.TLSVersion.TLSv1_3
    assert settings.minimum_key is MinimumKey.RSA_3072
    (own,) = loaded.settings.own_certificates
    assert [str(one) for one in own.to] == ["*.partner.test"]
    assert loaded.settings.key_log == str(loaded.configuration.state_dir / "keys.log")
    assert any("logs the keys of TLS" in one for one in loaded.warnings)
    assert "PRIVATE KEY" not in repr(loaded.settings)


def test_lists_are_asked_where_there_are_some(folder: pathlib.Path) -> None:
    loaded, _ = read(folder, '[tls]\nauthorities = ["ca.pem"]\ncrl = ["crl.pem"]')
    assert loaded is not None
    assert loaded.settings.server_tls is not None
    assert loaded.settings.server_tls.revocation is Revocation.KNOWN


def test_without_a_word_the_systems_bundle_vouches_for_servers(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = folder / "bundle.crt"
    monkeypatch.setattr(server_tls_config, "_BUNDLES", (str(folder / "none"), str(bundle)))
    loaded, _ = read(folder)
    assert loaded is not None
    assert loaded.settings.server_tls is None, "nobody vouches for anybody"
    loaded, findings = read(folder, '[tls]\nauthorities = ["system"]')
    assert loaded is None
    assert "no bundle" in findings.errors[0].cause
    bundle.write_text(root().pem)
    loaded, _ = read(folder)
    assert loaded is not None
    assert loaded.settings.server_tls is not None
    again, _ = read(folder, texts=loaded.texts)
    assert again is not None
    assert again.settings.server_tls == loaded.settings.server_tls, "workers are given it"


REFUSED = [
    ('authorities = ["nowhere.pem"]', "tls.authorities[0]", "cannot be read"),
    ('authorities = ["gate.key"]', "tls.authorities", "no certificate"),
    ("authorities = []", "tls.authorities", ""),
    ('crl = ["ca.pem"]', "tls.crl", "no list"),
    ('crl = ["crl.pem"]\nrevocation = "off"', "tls.crl", "no effect"),
    ('revocation = "known"', "tls.revocation", "needs lists"),
    ('minimum = "1.1"', "tls.minimum", "'1.2' or '1.3'"),
    ('minimum_key = "rsa-1024"', "tls.minimum_key", "must be"),
    ('stapling = "off"', "tls.stapling", "must be"),
    ('key_log = "/tmp/keys"', "tls.key_log", "state_dir"),
    ('key_log = ".."', "tls.key_log", "state_dir"),
    ("verify = false", "tls.verify", "unknown key"),
]
OWN = [
    ('to = ["a.test"]\ncertificate = "gate.pem"\nkey = "other.key"', "key", "another certificate"),
    ('to = ["a.test"]\ncertificate = "gate.pem"\nkey = "open.key"', "key", "everybody can read"),
    (
        'to = ["a.test"]\ncertificate = "gate.key"\nkey = "gate.key"',
        "certificate",
        "no certificate",
    ),
    ('to = []\ncertificate = "gate.pem"\nkey = "gate.key"', "to", ""),
    ('certificate = "gate.pem"\nkey = "gate.key"', "to", "is missing"),
]
REFUSED += [
    (f"[[tls.client_certificate]]\n{text}", f"tls.client_certificate[0].{key}", cause)
    for text, key, cause in OWN
]


@pytest.mark.parametrize(("text", "where", "cause"), REFUSED)
def test_what_is_wrong_is_refused_where_it_stands(
    folder: pathlib.Path, text: str, where: str, cause: str
) -> None:
    known = "" if "authorities" in text else '\nauthorities = ["ca.pem"]'
    loaded, findings = read(folder, f"[tls]{known}\n{text}")
    assert loaded is None
    error = findings.errors[0]
    assert where in error.where
    assert cause in error.cause
    assert "PRIVATE" not in str(error)


def test_a_publication_says_who_its_server_has_to_be(folder: pathlib.Path) -> None:
    loaded, findings = read(folder, more='http = true\nserver_tls = "WIKI.test"')
    assert loaded is not None, findings.errors
    (publication,) = loaded.settings.policy.policy.publications
    assert publication.server_tls == canonical_host("wiki.test")
    plain, _ = read(folder)
    assert plain is not None
    assert plain.settings.policy.hash != loaded.settings.policy.hash


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ('server_tls = "wiki.test"\ntls = { sni = "any" }', "it is the gate that speaks it"),
        ('http = true\nserver_tls = "wi ki"', "' '"),
        ('http = true\nserver_tls = "*.test"', ""),
        ("http = true\nserver_tls = true", ""),
    ],
)
def test_a_publication_that_does_not_say_it_clearly_is_refused(
    folder: pathlib.Path, more: str, cause: str
) -> None:
    loaded, findings = read(folder, more=more)
    assert loaded is None
    assert "server_tls" in str(findings.errors[0])
    assert cause in findings.errors[0].cause


def test_a_parent_proxy_says_who_it_has_to_be(folder: pathlib.Path) -> None:
    loaded, findings = read(folder, parents='[{ address = "192.0.2.8:3129", tls = "Parent.test" }]')
    assert loaded is not None, findings.errors
    (parent,) = loaded.settings.parent_proxies
    assert parent.name == canonical_host("parent.test")
    loaded, findings = read(folder, parents='[{ address = "192.0.2.8:3129", tls = "a b" }]')
    assert loaded is None
    assert "tls" in findings.errors[0].where
