"""``tls`` of a listener in the operator's files, and whom certificates name."""

from __future__ import annotations

import pathlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.app.load import Loaded, load
from sluicegate.app.texts import Texts
from sluicegate.documents import Findings
from sluicegate.tls import CertificateRefused, ClientCertificates, ClientNames, NameSource
from sluicegate.tls.client_names import _utf8_string, groups_of
from tests.pki import UPN, authority, principal

MAIN = """
[[listener]]
name = "proxy"
address = "127.0.0.1:3443"
entry = "{entry}"
tls = {{ {tls} }}

[resolver]
servers = ["192.0.2.53:53"]
"""
RULE = """
[[rule]]
name = "web"
action = "allow"
listener = "proxy"
clients = ["10.0.0.0/8"]
{users}
to = ["*"]
protocols = ["tcp:443"]
"""
PLAIN = {"certificate": '"gate.pem"', "key": '"gate.key"'}
ASKED = {"client_certificates": '"required"', "client_ca": '"ca.pem"'}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    issued = authority().server("gate.example", days=(-1, 60))
    issued.write(tmp_path, "gate")
    authority().server("gate.example", days=(-9, 3)).write(tmp_path, "ending")
    authority().server("gate.example", days=(-9, -3)).write(tmp_path, "ended")
    encrypted = issued.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a word"),
    )
    for name, text in (("encrypted.key", encrypted.decode()), ("open.key", issued.key_pem)):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(text)
    (tmp_path / "open.key").chmod(0o644)
    authority().server("192.0.2.1").write(tmp_path, "address")
    for one in ("many", "hollow", "lonely"):
        (tmp_path / one).mkdir()
    for one in ("www.example", "*.shop.example"):
        authority().server(one).write(tmp_path / "many", one.removeprefix("*."))
    authority().server("lonely.example").write(tmp_path / "lonely", "one")
    (tmp_path / "lonely" / "one.key").unlink()
    (tmp_path / "empty.pem").write_text("\n")
    (tmp_path / "ca.pem").write_text(authority().pem)
    (tmp_path / "crl.pem").write_text(authority().revocations())
    return tmp_path


def read(
    folder: pathlib.Path,
    texts: Texts | None = None,
    /,
    *,
    entry: str = "proxy",
    users: str = "",
    **keys: str,
) -> tuple[Loaded | None, Findings]:
    tls = ", ".join(f"{key} = {value}" for key, value in (PLAIN | keys).items() if value)
    (folder / "sluicegate.toml").write_text(MAIN.format(tls=tls, entry=entry))
    (folder / "policy.toml").write_text(RULE.format(users=users) if entry == "proxy" else "")
    findings = Findings()
    return load(folder / "sluicegate.toml", findings, texts=texts), findings


def test_settings_are_what_was_written(folder: pathlib.Path) -> None:
    loaded, findings = read(
        folder, minimum='"1.3"', client_crl='"crl.pem"', user_from='"uri"',
        user_prefix='"spiffe://x/"', groups_from='"ou"', users='users = ["*"]', **ASKED,
    )  # fmt: skip
    assert loaded is not None, findings.errors
    entry = loaded.settings.listeners[0].entry
    assert entry is not None
    assert entry.tls is not None
    assert (entry.can_authenticate, entry.asks_for_passwords) == (True, False)
    tls = entry.tls
    assert tls.minimum is ssl.TLSVersion.TLSv1_3
    assert tls.client_certificates is ClientCertificates.REQUIRED
    assert tls.client_names == ClientNames(NameSource.URI, "spiffe://x/")
    assert tls.has_groups_in_certificate
    assert "PRIVATE KEY" not in repr(loaded.settings)
    assert "PRIVATE KEY" not in repr(loaded.texts)


def test_whoever_may_not_read_the_files_is_given_what_they_hold(folder: pathlib.Path) -> None:
    loaded, _ = read(folder, client_crl='"crl.pem"', **ASKED)
    assert loaded is not None
    for name in ("gate.pem", "gate.key", "ca.pem", "crl.pem"):
        (folder / name).unlink()
    again, findings = read(folder, loaded.texts, client_crl='"crl.pem"', **ASKED)
    assert again is not None, findings.errors
    assert again.settings.listeners == loaded.settings.listeners


REFUSED = [
    ({"certificate": ""}, "certificate", "is missing"),
    ({"key": ""}, "key", "is missing"),
    ({"certificate": '"nowhere"'}, "certificate", "cannot be read"),
    ({"certificate": '"gate.key"'}, "certificate", "no certificate"),
    ({"key": '"gate.pem"'}, "key", ""),
    ({"key": '"ended.key"'}, "key", "another certificate's"),
    ({"key": '"encrypted.key"'}, "key", "is encrypted"),
    ({"key": '"open.key"'}, "key", "everybody can read the private key"),
    ({"minimum": '"1.1"'}, "minimum", "'1.2' or '1.3'"),
    ({"client_certificates": '"required"'}, "client_certificates", "needs client_ca"),
    ({"client_certificates": '"optional"'}, "client_certificates", "needs client_ca"),
    ({"client_ca": '"ca.pem"'}, "client_ca", "no effect"),
    ({"user_from": '"upn"'}, "user_from", "no effect"),
    (ASKED | {"client_ca": '"gate.key"'}, "client_ca", "no certificate"),
    (ASKED | {"client_crl": '"ca.pem"'}, "client_crl", "no list"),
    (ASKED | {"client_crl": '"empty.pem"'}, "client_crl", "is empty"),
    (ASKED | {"client_ca": '"empty.pem"'}, "client_ca", "is empty"),
    (ASKED | {"user_from": '"dns"'}, "user_from", "must be"),
    ({"ciphers": '"ALL"'}, "ciphers", "unknown key"),
    ({"default": '"gate.example"'}, "default", "no effect"),
    (
        {"certificates": '[{ certificate = "ended.pem", key = "gate.key" }]'},
        "certificates[0].key",
        "another certificate's",
    ),
    (
        {"certificates": '[{ certificate = "address.pem", key = "address.key" }]'},
        "certificates[0].certificate",
        "is for no name",
    ),
    ({"folder": '"nowhere"'}, "folder", "cannot be read"),
    ({"folder": '"hollow"'}, "folder", "has no certificates"),
    ({"folder": '"lonely"'}, "folder", "cannot be read"),
    ({"entry": "publish", "groups_from": '"ou"'} | ASKED, "groups_from", "no effect"),
    ({"entry": "publish", "certificate": ""}, "certificate", "is missing"),
    ({"entry": "publish", "certificate": "", "key": ""}, "", "has no certificate"),
    (
        {"entry": "publish", "certificate": '"address.pem"', "key": '"address.key"'},
        "certificate",
        "is for no name",
    ),
    ({"entry": "publish", "default": '"other.example"'}, "default", "no certificate here is for"),
    ({"entry": "publish", "default": '"a b"'}, "default", "' '"),
]


@pytest.mark.parametrize(("keys", "key", "cause"), REFUSED)
def test_what_is_wrong_is_refused_where_it_stands(
    folder: pathlib.Path, keys: dict[str, str], key: str, cause: str
) -> None:
    loaded, findings = read(folder, **keys)
    assert loaded is None
    error = findings.errors[0]
    assert f"listener[0].tls{'.' + key if key else ''}" in error.where
    assert cause in error.cause
    assert "PRIVATE" not in str(error)


def test_a_published_listener_has_all_of_its_certificates_in_their_order(
    folder: pathlib.Path,
) -> None:
    more = '[{ certificate = "ending.pem", key = "ending.key" }]'
    loaded, findings = read(folder, entry="publish", certificates=more, folder='"many"')
    assert loaded is not None, findings.errors
    (listener,) = loaded.settings.listeners
    assert listener.entry is None
    assert listener.tls is not None
    assert len(listener.tls.pairs) == 4
    assert (listener.tls.reads_hellos, listener.tls.needs_known_name) == (True, True)
    told = " ".join(map(str, findings.warnings))
    assert "ending.pem is for gate.example, as is gate.pem, which is shown" in told
    assert "ending.pem expires on" in told
    again, _ = read(folder, loaded.texts, entry="publish", certificates=more, folder='"many"')
    assert again is not None
    assert again.settings.listeners == loaded.settings.listeners


@pytest.mark.parametrize("name", ["www.example", "a.shop.example"])
def test_the_default_certificate_is_named_by_a_name_that_it_is_for(
    folder: pathlib.Path, name: str
) -> None:
    loaded, findings = read(folder, entry="publish", folder='"many"', default=f'"{name}"')
    assert loaded is not None, findings.errors
    tls = loaded.settings.listeners[0].tls
    assert tls is not None
    assert not tls.needs_known_name
    stem = name.removeprefix("a.")
    assert tls.certificate == (folder / "many" / f"{stem}.pem").read_text()


def test_a_proxy_may_have_more_than_one_certificate(folder: pathlib.Path) -> None:
    loaded, findings = read(folder, folder='"many"')
    assert loaded is not None, findings.errors
    entry = loaded.settings.listeners[0].entry
    assert entry is not None
    assert entry.tls is not None
    assert (len(entry.tls.pairs), entry.tls.needs_known_name) == (3, False)


def test_a_key_without_a_certificate_beside_it_is_warned_of(folder: pathlib.Path) -> None:
    (folder / "many" / "www.example.pem").unlink()
    _, findings = read(folder, entry="publish", folder='"many"')
    told = " ".join(map(str, findings.warnings))
    assert "www.example.key has no certificate beside it" in told


@pytest.mark.parametrize(("name", "words"), [("ending", "expires on"), ("ended", "has expired on")])
def test_a_certificate_that_ends_soon_is_warned_of(
    folder: pathlib.Path, name: str, words: str
) -> None:
    loaded, findings = read(folder, certificate=f'"{name}.pem"', key=f'"{name}.key"')
    assert loaded is not None
    assert words in str(findings.warnings[0])


# -- whom a certificate names ----------------------------------------------------------------------


def certificate(*names: str, general: tuple[x509.GeneralName, ...] = ()) -> x509.Certificate:
    subject = [(NameOID.COMMON_NAME, name) for name in names]
    return authority().issue(subject, general, usage=None).certificate


MAIL = x509.RFC822Name("ann@example.org")
EVIL = x509.RFC822Name("ann@evil.example")
SPIFFE = x509.UniformResourceIdentifier("spiffe://example.org/user/ann")

NAMED = [
    (ClientNames(), certificate("ann"), "ann"),
    (ClientNames(), certificate("ann", "bob"), None),
    (ClientNames(), certificate(), None),
    (ClientNames(suffix=".users"), certificate("ann.users"), "ann"),
    (ClientNames(suffix=".users"), certificate("ann"), None),
    (ClientNames(suffix=".users"), certificate(".users"), None),
    (ClientNames(prefix="u-", suffix="-u"), certificate("u-u"), None),
    (ClientNames(NameSource.EMAIL), certificate("x", general=(MAIL,)), "ann@example.org"),
    (ClientNames(NameSource.EMAIL, suffix="@example.org"),
     certificate("x", general=(MAIL, EVIL)), "ann"),
    (ClientNames(NameSource.EMAIL), certificate("x", general=(MAIL, EVIL)), None),
    (ClientNames(NameSource.EMAIL), certificate("ann@example.org"), None),
    (ClientNames(NameSource.PRINCIPAL), certificate("x", general=(principal("ann@c"),)), "ann@c"),
    (ClientNames(NameSource.PRINCIPAL),
     certificate("x", general=(x509.OtherName(UPN, b"\x04\x03ann"),)), None),
    (ClientNames(NameSource.PRINCIPAL),
     certificate("x", general=(x509.OtherName(UPN, b"\x0c\x01\xff"),)), None),
    (ClientNames(NameSource.URI, "spiffe://example.org/user/"),
     certificate("x", general=(SPIFFE,)), "ann"),
    (ClientNames(NameSource.URI, "spiffe://example.com/user/"),
     certificate("x", general=(SPIFFE,)), None),
    (ClientNames(NameSource.URI), certificate("x"), None),
]  # fmt: skip


@pytest.mark.parametrize(("names", "shown", "expected"), NAMED)
def test_a_certificate_names_exactly_one_user_or_nobody(
    names: ClientNames, shown: x509.Certificate, expected: str | None
) -> None:
    if expected is None:
        with pytest.raises(CertificateRefused):
            names.user_of(shown)
    else:
        assert names.user_of(shown) == expected


def test_units_are_groups_each_once() -> None:
    issued = authority().client("ann", units=["staff", "build", "staff"])
    assert groups_of(issued.certificate) == ("staff", "build")


@given(st.binary(max_size=40))
def test_any_bytes_as_principal_name_are_a_name_or_refused(encoded: bytes) -> None:
    try:
        name = _utf8_string(encoded)
    except CertificateRefused:
        return
    assert encoded == b"\x0c" + bytes([len(name.encode())]) + name.encode()
