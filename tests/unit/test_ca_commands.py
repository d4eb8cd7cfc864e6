"""``sluicegate ca``: what it makes, shows, exports and replaces, and what it refuses."""

from __future__ import annotations

import json
import os
import pathlib
import stat

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from sluicegate.app.authority_config import AuthoritySettings
from sluicegate.app.authority_store import AuthorityStore, generate_key, load_key
from sluicegate.cli.main import cli
from sluicegate.tls.authority import Authority
from sluicegate.tls.pkcs11_uri import Pkcs11Uri, parse_pkcs11_uri
from sluicegate.tls.trust_hints import PLATFORMS

from .leaf_kit import Clock, authority_certificate

MAIN = '[[listener]]\nname = "web"\naddress = "127.0.0.1:8080"\nentry = "proxy"\n[ca]\n'


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "sluicegate.toml").write_text(MAIN)
    (tmp_path / "policy.toml").write_text("")
    return tmp_path


def invoke(folder: pathlib.Path, *arguments: str) -> Result:
    command, *rest = arguments
    config = str(folder / "sluicegate.toml")
    return CliRunner().invoke(cli, ["ca", command, "--config", config, *rest])


def make(folder: pathlib.Path, *arguments: str) -> dict[str, str]:
    done = invoke(folder, "init", "--json", *arguments)
    assert done.exit_code == 0, done.output
    fields: dict[str, str] = json.loads(done.output)
    return fields


def shown(folder: pathlib.Path) -> dict[str, dict[str, str]]:
    return {one["part"]: one for one in json.loads(invoke(folder, "show", "--json").output)}


def authority(folder: pathlib.Path, name: str = "ca") -> Authority:
    """Return what the signer would sign with."""
    files = folder / "state" / "ca"
    chain = x509.load_pem_x509_certificates((files / f"{name}.pem").read_bytes())
    return Authority(chain, load_key((files / f"{name}.key").read_bytes()))


def test_init_makes_two_authorities_whose_keys_are_their_owners_alone(folder: pathlib.Path) -> None:
    made = make(folder, "--name", "Example inspection", "--days", "30")
    assert made["name"] == "Example inspection"
    files = folder / "state" / "ca"
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (files, *files.iterdir())}
    assert modes == {
        "ca": 0o700, "ca.pem": 0o644, "ca.key": 0o600, "untrusted.pem": 0o644,
        "untrusted.key": 0o600,
    }  # fmt: skip
    trusted, untrusted = authority(folder), authority(folder, "untrusted")
    assert trusted.certificate.public_key() != untrusted.certificate.public_key()
    assert "could not be verified" in untrusted.name
    assert (made["not_after"], made["key"]) == (
        trusted.certificate.not_valid_after_utc.timestamp(), "EC secp256r1",
    )  # fmt: skip


def test_init_overwrites_nothing(folder: pathlib.Path) -> None:
    before = make(folder)
    again = invoke(folder, "init")
    assert (again.exit_code, "is there already" in again.output) == (2, True)
    assert shown(folder)["current"] == before


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa3072"])
def test_authority_has_the_kind_of_key_that_was_asked_for(folder: pathlib.Path, kind: str) -> None:
    digits = "".join(one for one in make(folder, "--key", kind)["key"] if one.isdigit())
    assert kind.lstrip("prsa") in digits


def test_constraints_are_in_the_certificate_and_go_on_in_a_successor(folder: pathlib.Path) -> None:
    words = "example.org; not bank.example, 0.0.0.0/0, ::/0"
    assert (
        make(folder, "--permit", "example.org", "--exclude", "bank.example")["may_certify"] == words
    )
    assert invoke(folder, "rotate").exit_code == 0
    assert shown(folder)["current"]["may_certify"] == words
    (_, vouching) = x509.load_pem_x509_certificates(
        (folder / "state" / "ca" / "ca.pem").read_bytes()
    )
    constraint = vouching.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraint.critical
    assert constraint.value.permitted_subtrees == [x509.DNSName("example.org")]


def test_wrong_constraint_is_refused_before_anything_is_made(folder: pathlib.Path) -> None:
    done = invoke(folder, "init", "--permit", "exa mple/33")
    assert (done.exit_code, "neither a domain nor a network" in done.output) == (2, True)
    assert not (folder / "state").exists()


def write_pair(
    folder: pathlib.Path, *, is_authority: bool = True, other: bool = False
) -> list[str]:
    key, wrong = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    certificate = authority_certificate(key, is_authority=is_authority)
    (folder / "own.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "own.key").write_bytes(
        (wrong if other else key).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return [str(folder / "own.pem"), str(folder / "own.key")]


def test_authority_that_exists_is_taken_over(folder: pathlib.Path) -> None:
    made = make(folder, "--import", *write_pair(folder))
    assert made["name"] == "an inspecting authority"
    assert authority(folder).name == "an inspecting authority"


@pytest.mark.parametrize(
    ("options", "cause"),
    [({"is_authority": False}, "it is no authority"), ({"other": True}, "another certificate's")],
)
def test_pair_that_cannot_sign_is_not_taken_over(
    folder: pathlib.Path, options: dict[str, bool], cause: str
) -> None:
    done = invoke(folder, "init", "--import", *write_pair(folder, **options))
    assert (done.exit_code, cause in done.output) == (2, True)
    assert not (folder / "state").exists()


def test_successor_is_exported_before_it_signs_and_its_predecessor_vouches_for_it(
    folder: pathlib.Path,
) -> None:
    first = make(folder)
    prepared = json.loads(invoke(folder, "rotate", "--prepare", "--json").output)
    assert shown(folder)["current"] == first
    exported = invoke(folder, "export").output
    names = [
        one.fingerprint(hashes.SHA256()).hex()
        for one in x509.load_pem_x509_certificates(exported.encode())
    ]
    assert names == [first["sha256"], prepared["sha256"]]
    assert invoke(folder, "rotate").exit_code == 0
    now = shown(folder)
    assert (now["current"]["sha256"], now["previous"]["sha256"]) == (
        prepared["sha256"], first["sha256"],
    )  # fmt: skip
    own, vouching = x509.load_pem_x509_certificates(
        (folder / "state" / "ca" / "ca.pem").read_bytes()
    )
    old = x509.load_pem_x509_certificate((folder / "state" / "ca" / "previous.pem").read_bytes())
    vouching.verify_directly_issued_by(old)
    assert vouching.public_key() == own.public_key()
    assert not (folder / "state" / "ca" / "next.key").exists()
    assert authority(folder).above == (vouching.public_bytes(serialization.Encoding.DER),)


def test_rotation_that_was_interrupted_goes_on(folder: pathlib.Path) -> None:
    settings = AuthoritySettings(folder / "ca")
    store = AuthorityStore(settings, Clock(), (os.getuid(), os.getgid()))
    store.make(generate_key("p256"), "first", 30, None)
    store.prepare(generate_key("p256"), "second", 30)
    kept = {one.name: one.read_bytes() for one in settings.folder.iterdir()}
    store.rotate()
    # The power fails behind the certificate, before the key.
    for name in ("ca.key", "next.pem", "next.key"):
        (settings.folder / name).write_bytes(kept[name])
    chain = settings.certificate_path.read_bytes()
    store.rotate()
    assert settings.certificate_path.read_bytes() == chain
    Authority(x509.load_pem_x509_certificates(chain), load_key(settings.key_path.read_bytes()))
    assert [one.part for one in store.shown()] == ["current", "previous", "untrusted"]


def test_second_successor_is_refused(folder: pathlib.Path) -> None:
    make(folder)
    invoke(folder, "rotate", "--prepare")
    again = invoke(folder, "rotate", "--prepare")
    assert (again.exit_code, "is there already" in again.output) == (2, True)


@pytest.mark.parametrize("form", ["pem", "der", "pkcs7"])
def test_export_has_the_certificate_and_never_a_key_or_the_untrusted_one(
    folder: pathlib.Path, form: str
) -> None:
    made = make(folder)
    path = folder / "out"
    assert invoke(folder, "export", "--format", form, "-o", str(path)).exit_code == 0
    content = path.read_bytes()
    assert b"PRIVATE" not in content
    match form:
        case "pem":
            found = x509.load_pem_x509_certificates(content)
        case "der":
            found = [x509.load_der_x509_certificate(content)]
        case _:
            found = pkcs7.load_der_pkcs7_certificates(content)
    assert [one.fingerprint(hashes.SHA256()).hex() for one in found] == [made["sha256"]]


def test_nothing_is_shown_or_exported_before_there_is_an_authority(folder: pathlib.Path) -> None:
    for command in ("show", "export", "rotate"):
        done = invoke(folder, command)
        assert (done.exit_code, "sluicegate ca init" in done.output) == (2, True)


@pytest.mark.parametrize("platform", [*PLATFORMS, "all"])
def test_hints_name_the_command_that_writes_the_file(folder: pathlib.Path, platform: str) -> None:
    done = invoke(folder, "export", "--hints", platform)
    assert (done.exit_code, "sluicegate ca export " in done.output) == (0, True)
    assert not [
        word for word in ("insecure", "verify=False", "REJECT_UNAUTH") if word in done.output
    ]


def test_files_that_root_makes_are_roots_only_where_the_gate_changes_its_user(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda _path, uid, gid: given.append((uid, gid)))
    make(folder)
    status = folder.stat()
    assert set(given) == {(status.st_uid, status.st_gid)}
    given.clear()
    for one in (folder / "state" / "ca").iterdir():
        one.unlink()
    (folder / "sluicegate.toml").write_text(f'{MAIN}[service]\nuser = "sluicegate"\n')
    make(folder)
    assert set(given) == {(0, 0)}


# -- tokens ----------------------------------------------------------------------------------------

URIS = {
    "pkcs11:token=gate;object=ca": Pkcs11Uri(token="gate", object="ca"),
    "pkcs11:object=ca;type=private": Pkcs11Uri(object="ca"),
    "PKCS11:token=My%20Token;id=%01%ff": Pkcs11Uri(token="My Token", id=b"\x01\xff"),
    "pkcs11:serial=1a2b;object=ca?module-path=/usr/lib/x.so": Pkcs11Uri(
        serial="1a2b", object="ca", module_path="/usr/lib/x.so"
    ),
    "pkcs11:object=a%3Bb%26c": Pkcs11Uri(object="a;b&c"),
}


@pytest.mark.parametrize(("text", "uri"), URIS.items(), ids=URIS)
def test_uri_names_a_key(text: str, uri: Pkcs11Uri) -> None:
    assert parse_pkcs11_uri(text) == uri


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("https://example.org", "does not begin with pkcs11:"),
        ("pkcs11:token=gate", "which key"),
        ("pkcs11:object=", "which key"),
        ("pkcs11:object=a;object=b", "twice"),
        ("pkcs11:object", "without a value"),
        ("pkcs11:object=a;type=cert", "no private key"),
        ("pkcs11:object=a?pin-value=1234", "a PIN does not belong there"),
        ("pkcs11:object=a?pin-source=file:/x", "a PIN does not belong there"),
        ("pkcs11:object=a;manufacturer=x", "is not known here"),
        ("pkcs11:object=%ff", "not UTF-8"),
    ],
)
def test_uri_that_could_mean_another_key_is_refused(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        parse_pkcs11_uri(text)
