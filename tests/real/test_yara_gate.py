"""YARA rules and archives behind a real gate: what is found is refused, over real FTP."""

from __future__ import annotations

import pathlib

import pytest

from tests.flows.ftp_kit import GateThread, clean, pyftpdlib_server
from tests.unit.container_kit import CONTAINERS, eicar, zipped

TABLE = '[[scanner]]\nname = "yara"\nkind = "yara"\nprocesses = 1\n'


def gate(
    folder: pathlib.Path, port: int, backend: str, tables: str = TABLE, **settings: object
) -> GateThread:
    """A gate that asks the scanner, and lets everything else pass."""
    return GateThread(
        folder,
        port,
        backend,
        block={"exempt_names": ["*"]},
        more_filters={"antivirus": "antivirus"},
        more_settings={"antivirus": {"scanners": ["yara"], **settings}},
        more_tables=tables,
    )


def test_the_test_file_reaches_nobody_in_any_container(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    """L3, L4, L6: refused with the rule's name, downloaded and uploaded; what is clean passes."""
    served = tmp_path / "root"
    served.mkdir()
    (served / "clean.bin").write_bytes(clean())
    for number, make in enumerate(CONTAINERS.values()):
        (served / str(number)).write_bytes(make(eicar()))
        (served / f"fine-{number}").write_bytes(make(b"harmless " * 50))
    with (
        pyftpdlib_server(served) as port,
        gate(tmp_path / "gate", port, backend_name) as running,
        running.client() as client,
    ):
        client.login()
        assert client.fetch("clean.bin")[0] == clean()
        for number, container in enumerate(CONTAINERS):
            received, reply = client.fetch(str(number))
            assert received == b"", container
            assert reply.startswith("550 Refused: malware: EICAR_Test_File"), (container, reply)
            whole, reply = client.fetch(f"fine-{number}")
            assert (whole, reply[:3]) == (
                (served / f"fine-{number}").read_bytes(),
                "226",
            ), container


@pytest.mark.parametrize("before", [0, 1, 1459, 65_500, 65_536, 262_100, 700_001])
def test_the_test_file_is_found_wherever_the_stream_is_cut(
    tmp_path: pathlib.Path, backend_name: str, before: int
) -> None:
    """L6: segments, receive buffers, and the border between memory and disk."""
    served = tmp_path / "root"
    served.mkdir()
    (served / "bad.bin").write_bytes(clean(before) + eicar() + clean(3000))
    with (
        pyftpdlib_server(served) as port,
        gate(tmp_path / "gate", port, backend_name) as running,
        running.client() as client,
    ):
        client.login()
        assert client.fetch("bad.bin") == (
            b"",
            "550 Refused: malware: EICAR_Test_File (yara)",
        )


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (zipped(b"x" * 99)[:-9], "550 Refused: cannot be looked into: zip: it has no end record"),
        (zipped(bytes(9 << 20)), "550 Refused: over a limit: ratio_max reached (250)"),
        (b"\x60\xea\x2a\0\x22" + bytes(60), "550 Refused: cannot be looked into: arj: into which"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_with_the_reason(
    tmp_path: pathlib.Path, backend_name: str, body: bytes, reply: str
) -> None:
    served = tmp_path / "root"
    served.mkdir()
    (served / "odd").write_bytes(body)
    with (
        pyftpdlib_server(served) as port,
        gate(tmp_path / "gate", port, backend_name) as running,
        running.client() as client,
    ):
        client.login()
        received, said = client.fetch("odd")
    assert (received, said[: len(reply)]) == (b"", reply)
    with (
        pyftpdlib_server(served) as port,
        gate(
            tmp_path / "lax", port, backend_name, corrupt="release", over_limit="release"
        ) as running,
        running.client() as client,
    ):
        client.login()
        assert client.fetch("odd")[0] == body
