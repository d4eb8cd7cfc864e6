"""``[[scanner]]`` of kind ``icap``: what it makes, what a reload keeps, and what is refused."""

from __future__ import annotations

import pathlib

import pytest

from sluicegate.address import SocketAddress
from sluicegate.app.load import Loaded, load
from sluicegate.documents import Findings
from sluicegate.protocols.icap import IcapTarget
from sluicegate.scan import IcapScanner, IcapSettings, ScannerTls
from tests.pki import authority

LISTENER = '[[listener]]\nname = "proxy"\naddress = "127.0.0.1:1080"\nentry = "proxy"\n'
GOOD = 'name = "av"\nkind = "icap"\naddress = "127.0.0.1:1344"\nservice = "avscan?mode=simple"\n'


def read(
    folder: pathlib.Path, table: str, before: Loaded | None = None
) -> tuple[Loaded | None, Findings]:
    (folder / "sluicegate.toml").write_text(f"{LISTENER}[[scanner]]\n{table}")
    (folder / "policy.toml").write_text("")
    findings = Findings()
    return load(folder / "sluicegate.toml", findings, before), findings


def made(folder: pathlib.Path, table: str, before: Loaded | None = None) -> tuple[Loaded, object]:
    loaded, findings = read(folder, table, before)
    assert loaded is not None, findings.errors
    return loaded, loaded.settings.scanners["av"]


def test_a_table_makes_a_scanner(tmp_path: pathlib.Path) -> None:
    _, scanner = made(tmp_path, GOOD)
    assert isinstance(scanner, IcapScanner)
    assert scanner.settings == IcapSettings(
        place=SocketAddress("127.0.0.1", 1344),
        target=IcapTarget("127.0.0.1", 1344, "avscan?mode=simple"),
        connections_max=4,
        timeout_s=240.0,
        wait_s=30.0,
        object_bytes_max=100 << 20,
        modified_bytes_max=16 << 20,
        trusts_limits=False,
    )


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ('address = "[::1]:1345"', b"icap://[::1]:1345/x"),
        ('socket = "icap.sock"', b"icap://localhost:1344/x"),
    ],
)
def test_the_url_names_the_service_where_it_is(
    tmp_path: pathlib.Path, place: str, url: bytes
) -> None:
    _, scanner = made(tmp_path, f'name = "av"\nkind = "icap"\nservice = "/x"\n{place}\n')
    assert isinstance(scanner, IcapScanner)
    assert scanner.settings.target.url == url


def test_tls_is_spoken_with_whoever_proves_the_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ca.pem").write_text(authority().pem)
    _, scanner = made(tmp_path, GOOD + 'tls = true\nca_file = "ca.pem"\ntls_name = "AV.test"\n')
    assert isinstance(scanner, IcapScanner)
    assert scanner.settings.encryption == ScannerTls("av.test", authority().pem)
    assert scanner.settings.target.url == b"icaps://127.0.0.1:1344/avscan?mode=simple"


def test_without_a_name_its_address_is_proved_and_without_authorities_the_machines_own_count(
    tmp_path: pathlib.Path,
) -> None:
    _, scanner = made(tmp_path, GOOD + "tls = true\n")
    assert isinstance(scanner, IcapScanner)
    assert scanner.settings.encryption == ScannerTls("127.0.0.1", "")


def test_a_reload_keeps_a_scanner_of_which_nothing_changed(tmp_path: pathlib.Path) -> None:
    before, first = made(tmp_path, GOOD)
    after, second = made(tmp_path, GOOD, before)
    _, third = made(tmp_path, GOOD + "timeout_s = 10\n", after)
    assert first is second
    assert second is not third


@pytest.mark.parametrize(
    ("table", "cause"),
    [
        ('name = "av"\nkind = "icap"\naddress = "127.0.0.1:1344"\n', "has no service"),
        ('name = "av"\nkind = "icap"\nservice = "x"\n', "has no place"),
        (GOOD + 'socket = "x.sock"\n', "has two places"),
        (GOOD + 'ca_file = "ca.pem"\n', "ca_file: means nothing without TLS"),
        (GOOD + 'tls_name = "a.test"\n', "tls_name: means nothing without TLS"),
        (GOOD + 'tls = true\nca_file = "nowhere.pem"\n', "nowhere.pem: cannot be read"),
        (GOOD + 'tls = true\nca_file = "policy.toml"\n', "is empty"),
        (GOOD + 'tls = true\nca_file = "sluicegate.toml"\n', "has no certificate that can be"),
        (GOOD + 'tls = true\ntls_name = "a b"\n', "tls_name"),
        (
            'name = "av"\nkind = "icap"\nservice = "x"\nsocket = "x.sock"\ntls = true\n',
            "tls: is for an address",
        ),
        (
            'name = "av"\nkind = "clamd"\nsocket = "x.sock"\ntls = true\n',
            "means nothing for a scanner of kind 'clamd'",
        ),
        (GOOD.replace(":1344", ":0"), "which has no port"),
        (GOOD.replace("avscan", "av scan"), "service"),
        (GOOD.replace("avscan", "a\\r\\nX: y"), "service"),
        (GOOD + "processes = 2\n", "means nothing for a scanner of kind 'icap'"),
        (
            'name = "av"\nkind = "clamd"\naddress = "127.0.0.1:1"\nservice = "x"\n',
            "means nothing for a scanner of kind 'clamd'",
        ),
        (GOOD + "modified_bytes_max = 0\n", "modified_bytes_max"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: pathlib.Path, table: str, cause: str) -> None:
    loaded, findings = read(tmp_path, table)
    assert loaded is None
    assert any(cause in str(one) for one in findings.errors), findings.errors


def test_the_system_policy_may_keep_the_gate_from_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sluicegate.toml").write_text(f"{LISTENER}[[scanner]]\n{GOOD}")
    (tmp_path / "policy.toml").write_text("[system]\nscanners = { enabled = false }\n")
    findings = Findings()
    loaded = load(tmp_path / "sluicegate.toml", findings)
    assert loaded is not None, findings.errors
    scanner = loaded.settings.scanners["av"]
    assert isinstance(scanner, IcapScanner)
    assert "does not let the gate reach 127.0.0.1:1344" in scanner.settings.refusal
