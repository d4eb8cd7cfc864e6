"""YARA rules and archives behind a real gate: what is found is refused, over real FTP."""

from __future__ import annotations

import pathlib

import pytest

from tests.flows.ftp_kit import GateThread, clean, pyftpdlib_server
from tests.real.clamd_parts import running_clamd
from tests.unit.container_kit import CONTAINERS, compound, eicar, package, pdf, zipped

pytestmark = pytest.mark.either_driver

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


OFFICE = {"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w/>"}


def test_kinds_of_files_are_refused_for_what_they_are(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    """L1, L2, K8."""
    program = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(64)
    picture = b"\x89PNG\r\n\x1a\n" + bytes(50)
    cases = {
        "letter.txt": (b"Dear reader,\n", ""),
        "picture.png": (picture, ""),
        "letter.docx": (package(OFFICE), ""),
        "paper.pdf": (pdf(b"BT ET"), ""),
        "files.zip": (zipped(b"harmless", name="a.txt"), ""),
        "setup.exe": (program, "pe executable"),
        "picture.jpg": (program, "pe executable"),
        "tool.zip": (zipped(program, name="x"), "pe executable (x)"),
        "run.ps1": (b"Get-Item .\n", "powershell script by its name"),
        "odd.zip": (zipped(b"x", name="a.vbs"), "vbscript script by its name (a.vbs)"),
        "letter.docm": (
            package(OFFICE | {"word/vbaProject.bin": b"x"}),
            "docx document with macros",
        ),
        "old.doc": (
            compound({"WordDocument": b"x", "_VBA_PROJECT": b"x"}),
            "doc document with macros",
        ),
        "form.pdf": (pdf(b"x", b"/S/JavaScript/JS(1)"), "pdf document with JavaScript"),
        "photo.png": (picture + program, "png image with a Windows program in it"),
        "both.png": (picture + zipped(b"x"), "png image that is a ZIP file, too"),
        "fake.png": (b"no picture at all", "text, which its name says it is not"),
        "a.pdf.iso": (b"x", "text whose name pretends another extension"),
    }
    served = tmp_path / "root"
    served.mkdir()
    for name, (body, _) in cases.items():
        (served / name).write_bytes(body)
    with (
        pyftpdlib_server(served) as port,
        GateThread(
            tmp_path / "gate",
            port,
            backend_name,
            block={"exempt_names": ["*"]},
            more_filters={"file_types": "file_types"},
            more_settings={"file_types": {"scanner": "yara"}},
            more_tables=TABLE,
        ) as running,
        running.client() as client,
    ):
        client.login()
        said = {name: client.fetch(name) for name in cases}
    assert {name: reply.removeprefix("550 Refused: ") for name, (_, reply) in said.items()} == {
        name: reason or said[name][1] for name, (_, reason) in cases.items()
    }
    for name, (body, reason) in cases.items():
        assert said[name][0] == (b"" if reason else body), name


def test_clamd_is_shown_what_it_cannot_unpack_itself(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    """L6: a tar file under zstd, which ClamAV 1.4 does not open; no rule of ours finds anything."""
    served = tmp_path / "root"
    served.mkdir()
    (served / "bad.tar.zst").write_bytes(CONTAINERS["tar.zst"](eicar() + bytes(100)))
    (served / "fine.tar.zst").write_bytes(CONTAINERS["tar.zst"](b"harmless " * 50))
    with (
        running_clamd(tmp_path / "clamd") as clamd,
        pyftpdlib_server(served) as port,
    ):
        tables = (
            f'[[scanner]]\nname = "clamd"\nkind = "clamd"\nsocket = "{clamd.socket}"\n'
            + TABLE
            + "shipped_rules = false\n[scanner.archives]\n"
        )
        said: dict[str, tuple[bytes, str]] = {}
        for name, scanners, more in (
            ("alone", ["clamd"], ""),
            ("with members", ["clamd", "yara"], 'members_to = ["clamd"]\n'),
        ):
            folder = tmp_path / name
            with (
                gate(folder, port, backend_name, tables + more, scanners=scanners) as running,
                running.client() as client,
            ):
                client.login()
                assert client.fetch("fine.tar.zst")[1][:3] == "226"
                said[name] = client.fetch("bad.tar.zst")
    assert said["alone"][1][:3] == "226"
    found = "550 Refused: malware: Eicar-Test.UNOFFICIAL in bad.tar/inner.bin (clamd) (yara)"
    assert said["with members"] == (b"", found)
