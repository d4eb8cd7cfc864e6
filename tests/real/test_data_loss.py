"""Secrets on real ways out: stored by FTP, put and posted over HTTP; refused, or masked."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.flows.ftp_kit import GateThread, pyftpdlib_server
from tests.unit.leaks.secret_kit import CARD, github_token, long_key

from .dns_parts import dnsmasq_server
from .entry_parts import tool
from .web_parts import TEXT, HoldingGate, nginx

pytestmark = pytest.mark.either_driver

ROW = b'{"name": "Jane", "card": ' + CARD + b"}\n"
MASKED = ROW.replace(CARD, b"9" * 16)
REASON = "secrets: 1 x payment card"


# -- PDF -----------------------------------------------------------------------------------------

SPELLINGS = {
    "plain": "Card 4111 1111 1111 1111",
    "spaced letters": '<span style="letter-spacing: 9px">4111111111111111</span>',
    "justified": '<p style="text-align: justify; width: 30em">to be paid by card 4111 1111 1111 '
    "1111 until the end of the month, in words that fill some lines of text",
}


def printed(folder: pathlib.Path, html: str) -> bytes:
    """Have Chromium make a PDF file, with its subsets of fonts and packed streams."""
    page, file = folder / "page.html", folder / "page.pdf"
    page.write_text(f"<!doctype html><title>t</title>{html}")
    command = [tool("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--print-to-pdf={file}", "--no-pdf-header-footer", page.as_uri()]
    environment = os.environ | {"HOME": str(folder)}
    subprocess.run(command, check=True, capture_output=True, timeout=120, env=environment)
    return file.read_bytes()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_card_in_a_pdf_file_that_a_browser_printed_is_not_stored(
    tmp_path: pathlib.Path, backend_name: str, spelling: str
) -> None:
    served = tmp_path / "root"
    served.mkdir()
    fine, bad = printed(tmp_path, "Card to follow"), printed(tmp_path, SPELLINGS[spelling])
    assert CARD not in bad
    with (
        pyftpdlib_server(served) as port,
        GateThread(
            tmp_path / "gate",
            port,
            backend_name,
            more_filters={"data_loss": "data_loss"},
            more_settings={"data_loss": {"scanner": "yara"}},
            more_tables='[[scanner]]\nname = "yara"\nkind = "yara"\n',
        ) as gate,
        gate.client() as client,
    ):
        client.login()
        assert client.store("fine.pdf", fine).startswith("226")
        assert client.store("bad.pdf", bad) == f"550 Refused: {REASON}"


# -- FTP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["refuse", "redact"])
def test_a_file_with_a_card_is_stored_by_ftp_masked_or_not_at_all(
    tmp_path: pathlib.Path, backend_name: str, action: str
) -> None:
    served = tmp_path / "root"
    served.mkdir()
    with (
        pyftpdlib_server(served) as port,
        GateThread(
            tmp_path / "gate",
            port,
            backend_name,
            more_filters={"data_loss": "data_loss"},
            more_settings={"data_loss": {"action": action}},
        ) as gate,
        gate.client() as client,
    ):
        client.login()
        fine = client.store("fine.txt", TEXT)
        reply = client.store("card.json", ROW * 1000)
        record = gate.transfer("card.json")
    assert fine.startswith("226")
    assert (served / "fine.txt").read_bytes() == TEXT
    if action == "refuse":
        assert reply == f"550 Refused: {REASON}"
        assert (record["verdict"], record["filter"]) == ("refused", "data_loss")
        stored = served / "card.json"
        assert not stored.exists() or CARD not in stored.read_bytes()
    else:
        assert reply.startswith("226")
        assert (served / "card.json").read_bytes() == MASKED * 1000
        assert (record["verdict"], record["reason"]) == ("released", "replaced")
    assert CARD.decode() not in json.dumps(record)


# -- HTTP ----------------------------------------------------------------------------------------


class LosingGate(HoldingGate):
    """A gate whose web rule has everything looked through."""

    action = "refuse"

    def write_main(self, more: str = "") -> None:
        super().write_main(
            f'[[filter]]\nname = "data_loss"\n[filter.settings]\naction = "{self.action}"\n' + more
        )

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        path = self.folder / "policy.toml"
        path.write_text(path.read_text().replace('["judge"]', '["data_loss"]'))

    def send(self, path: str, *more: str) -> tuple[int, str]:
        """Return the status of an upload, and why it was refused."""
        found = self.curl(
            path, "--header", "Expect:", "--write-out", "\n%{http_code}", "--silent", *more
        )
        body, _, status = found.stdout.rpartition(b"\n")
        reason = json.loads(body)["reason"] if b'"reason"' in body else ""
        return int(status), reason


class MaskingGate(LosingGate):
    action = "redact"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[pathlib.Path, int, int]]:
    folder = tmp_path_factory.mktemp("leaks")
    with nginx(folder) as web_port, dnsmasq_server(folder) as dns_port:
        yield folder, web_port, dns_port


@pytest.fixture(scope="module")
def refusing(web: tuple[pathlib.Path, int, int]) -> Iterator[LosingGate]:
    folder, web_port, dns_port = web
    one = LosingGate(folder / "refusing", web_port, dns_port, "off")
    with one.running():
        yield one


@pytest.fixture(scope="module")
def masking(web: tuple[pathlib.Path, int, int]) -> Iterator[MaskingGate]:
    folder, web_port, dns_port = web
    one = MaskingGate(folder / "masking", web_port, dns_port, "off")
    with one.running():
        yield one


def test_a_file_without_secrets_is_put_as_it_is(
    refusing: LosingGate, web: tuple[pathlib.Path, int, int], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "text"
    path.write_bytes(TEXT)
    assert refusing.send("up/text", "--upload-file", str(path)) == (201, "")
    assert (web[0] / "www" / "up" / "text").read_bytes() == TEXT


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("row", ROW, REASON),
        ("large", TEXT + ROW, REASON),
        ("key", long_key(), "secrets: 1 x private key"),
        ("token", github_token(), "secrets: 1 x service token"),
        ("encoded", base64.encodebytes(b"my " + CARD), "secrets: 1 x payment card (base64)"),
    ],
)
def test_a_file_with_a_secret_is_not_put(
    refusing: LosingGate,
    web: tuple[pathlib.Path, int, int],
    tmp_path: pathlib.Path,
    name: str,
    content: bytes,
    reason: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert refusing.send(f"up/{name}", "--upload-file", str(path)) == (403, reason)
    assert not (web[0] / "www" / "up" / name).exists()


def test_a_packed_body_is_looked_through_unpacked(
    refusing: LosingGate, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "packed"
    path.write_bytes(gzip.compress(ROW))
    status, reason = refusing.send(
        "up/packed", "--upload-file", str(path), "--header", "Content-Encoding: gzip"
    )
    # It is judged as it came and unpacked, and both refuse it.
    assert (status, reason.removesuffix(" (gzip)")) == (403, REASON)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (["--data-urlencode", "card=4111 1111 1111 1111"], "secrets: 1 x payment card"),
        (["--data", "card=4111%201111+1111-1111"], "secrets: 1 x payment card"),
        (["--form", "card=4111-1111-1111-1111"], "secrets: 1 x payment card"),
        (["--form", "name=Jane", "--form", "n=12"], ""),
        (
            ["--json", '{"card": "\\u0034111 1111 1111 1111"}'],
            "secrets: 1 x payment card (escaped)",
        ),
    ],
)
def test_a_form_with_a_card_is_not_posted(
    refusing: LosingGate, form: list[str], reason: str
) -> None:
    status, said = refusing.send("up/form", *form)
    if reason:
        assert (status, said.partition(" (")[0]) == (403, reason.partition(" (")[0])
    else:
        # nginx was asked, and takes no form there.
        assert status in {404, 405}
        assert said == ""


def test_a_file_is_put_with_its_card_masked(
    masking: MaskingGate, web: tuple[pathlib.Path, int, int], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "row"
    path.write_bytes(ROW * 100)
    assert masking.send("up/masked", "--upload-file", str(path)) == (201, "")
    assert (web[0] / "www" / "up" / "masked").read_bytes() == MASKED * 100
    path.write_bytes(TEXT)
    assert masking.send("up/plain", "--upload-file", str(path)) == (201, "")
    assert (web[0] / "www" / "up" / "plain").read_bytes() == TEXT
