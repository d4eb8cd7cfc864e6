"""Authorities whose keys are in a token: SoftHSM, by PKCS#11, from ``ca init`` to a leaf."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sluicegate.app.authority_files import open_authority_of
from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError
from sluicegate.tls.leaf_fault import LeafFault
from tests.kernel.cell_kit import in_loop
from tests.kernel.test_signer import Office
from tests.unit.leaf_kit import authority_certificate

pytestmark = pytest.mark.either_driver

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "4711"


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A configuration whose authority is in a token that is empty."""
    if shutil.which("softhsm2-util") is None or not pathlib.Path(MODULE).exists():
        pytest.fail("softhsm2 is missing: tools/setup test", pytrace=False)
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(
        f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    softhsm("--init-token", "--free", "--label", "gate", "--pin", PIN, "--so-pin", "0815")
    (tmp_path / "pin").write_text(f"{PIN}\n")
    (tmp_path / "pin").chmod(0o600)
    (tmp_path / "sluicegate.toml").write_text(
        '[[listener]]\nname = "web"\naddress = "127.0.0.1:0"\nentry = "proxy"\n'
        f'[ca.token]\nuri = "pkcs11:token=gate;object=inspection"\nmodule = "{MODULE}"\n'
        'pin = { file = "pin" }\n'
    )
    (tmp_path / "policy.toml").write_text("")
    return tmp_path


def softhsm(*arguments: str) -> None:
    subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True)


def sluicegate(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command, in a process of its own: a library is logged in once in each."""
    return subprocess.run(
        [sys.executable, "-m", "sluicegate", *arguments, "-c", str(folder / "sluicegate.toml")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def sign(folder: pathlib.Path, backend: str) -> x509.Certificate:
    """Have a signer process sign a leaf, and return it."""
    found: list[x509.Certificate] = []

    async def work() -> None:
        opened = open_authority_of(folder / "sluicegate.toml")
        assert opened is not None
        assert opened.key == -1, "there is no file of it"
        office = Office(opened)
        async with office:
            leaf = (await office.ask()).leaf
            found.append(x509.load_der_x509_certificate(leaf.certificate))

    in_loop(work, backend)
    return found[0]


def root(folder: pathlib.Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "state" / "ca" / "ca.pem").read_bytes())


def test_key_is_made_in_the_token_and_signs_from_there(
    folder: pathlib.Path, backend_name: str
) -> None:
    made = sluicegate(folder, "ca", "init", "--json", "--name", "in a token")
    assert made.returncode == 0, made.stderr
    assert not (folder / "state" / "ca" / "ca.key").exists()
    assert json.loads(made.stdout)["name"] == "in a token"
    sign(folder, backend_name).verify_directly_issued_by(root(folder))
    again = sluicegate(folder, "ca", "init")
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    checked = sluicegate(folder, "check")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_key_that_is_in_the_token_is_taken(
    folder: pathlib.Path, kind: str, backend_name: str
) -> None:
    key = (
        ec.generate_private_key(ec.SECP384R1()) if kind == "ec"
        else rsa.generate_private_key(65537, 3072)
    )  # fmt: skip
    path = folder / "imported.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    softhsm(
        "--import", str(path), "--token", "gate", "--label", "inspection", "--id", "01",
        "--pin", PIN,
    )  # fmt: skip
    made = sluicegate(folder, "ca", "init")
    assert made.returncode == 0, made.stderr
    assert root(folder).public_key() == key.public_key()
    sign(folder, backend_name).verify_directly_issued_by(root(folder))


def test_certificate_of_another_key_is_told_at_the_start(
    folder: pathlib.Path, backend_name: str
) -> None:
    assert sluicegate(folder, "ca", "init").returncode == 0
    other = authority_certificate(ec.generate_private_key(ec.SECP256R1()))
    path = folder / "state" / "ca" / "ca.pem"
    path.write_bytes(other.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(ConfigError, match="another certificate's"):
        sign(folder, backend_name)


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        ("4711", "9999", "PinIncorrect"),
        ("object=inspection", "object=another", "no key that the URI names"),
        ("token=gate", "token=garden", "No token matching"),
        ("libsofthsm2.so", "libnone.so", "cannot be loaded"),
    ],
)
def test_token_that_cannot_be_used_is_told_at_the_start(
    folder: pathlib.Path, before: str, after: str, cause: str, backend_name: str
) -> None:
    assert sluicegate(folder, "ca", "init").returncode == 0
    for name in ("pin", "sluicegate.toml"):
        path = folder / name
        path.write_text(path.read_text().replace(before, after))
    with pytest.raises(ConfigError, match=cause):
        sign(folder, backend_name)


def test_pin_that_others_can_read_is_refused(folder: pathlib.Path) -> None:
    assert sluicegate(folder, "ca", "init").returncode == 0
    (folder / "pin").chmod(0o644)
    with pytest.raises(ConfigRefused) as caught:
        open_authority_of(folder / "sluicegate.toml")
    assert "everybody can read the password" in str(caught.value.errors[0])


def test_rotation_says_how_it_goes_with_a_token(folder: pathlib.Path) -> None:
    assert sluicegate(folder, "ca", "init").returncode == 0
    refused = sluicegate(folder, "ca", "rotate")
    assert (refused.returncode, "another object in uri" in refused.stderr) == (2, True)


def test_signer_that_a_token_fails_ends_and_says_so(
    folder: pathlib.Path, backend_name: str
) -> None:
    assert sluicegate(folder, "ca", "init").returncode == 0

    async def work() -> None:
        opened = open_authority_of(folder / "sluicegate.toml")
        assert opened is not None
        async with Office(opened) as office:
            assert (await office.ask("before.example.org")).leaf
            for one in (folder / "tokens").iterdir():
                shutil.rmtree(one)
            failure = await office.ask("after.example.org")
            assert failure.fault in {LeafFault.SIGNER_FAILED, LeafFault.SIGNER_DOWN}

    in_loop(work, backend_name)
