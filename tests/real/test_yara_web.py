"""YARA rules and kinds of files over HTTP: the same scanners and filters as over FTP."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import http.server
import json
import pathlib
import threading
from collections.abc import Iterator

import pytest

from tests.unit.container_kit import CONTAINERS, eicar, package, zipped

from .dns_parts import dnsmasq_server
from .web_parts import RANDOM, TEXT, HoldingGate, nginx

pytestmark = pytest.mark.either_driver

MAIN = """
[[scanner]]
name = "yara"
kind = "yara"
processes = 1

[[filter]]
name = "antivirus"
[filter.settings]
scanners = ["yara"]

[[filter]]
name = "file_types"
[filter.settings]
scanner = "yara"
"""

PROGRAM = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(64)


class ScanningGate(HoldingGate):
    """A gate whose web rule has everything scanned."""

    def write_main(self, more: str = "") -> None:
        super().write_main(MAIN + more)

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        path = self.folder / "policy.toml"
        text = path.read_text().replace('["judge"]', '["antivirus", "file_types"]')
        path.write_text(text)

    def refusal(self, path: str, *more: str) -> str:
        """Return why nobody gets it; empty if the client got it."""
        found = self.curl(path, "--include", "--header", "Expect:", *more)
        head, _, body = found.stdout.partition(b"\r\n\r\n")
        if b" 403 " not in head.partition(b"\r\n")[0]:
            return ""
        assert b"application/problem+json" in head
        reason: str = json.loads(body)["reason"]
        return reason


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScanningGate]:
    folder = tmp_path_factory.mktemp("scanned")
    with nginx(folder) as web_port, dnsmasq_server(folder) as dns_port:
        www = folder / "www"
        for number, make in enumerate(CONTAINERS.values()):
            (www / f"bad-{number}.bin").write_bytes(make(eicar()))
            (www / f"fine-{number}.bin").write_bytes(make(b"harmless " * 50))
        (www / "tool.zip").write_bytes(zipped(PROGRAM, name="tool"))
        (www / "program.txt").write_bytes(PROGRAM)
        (www / "packed" / "program.txt").write_bytes(gzip.compress(PROGRAM))
        (www / "packed" / "test.txt").write_bytes(gzip.compress(RANDOM + eicar()))
        office = {"[Content_Types].xml": b"<Types/>", "word/vbaProject.bin": b"x"}
        (www / "version.dll").write_bytes(TEXT)
        (www / "letter.bin").write_bytes(package(office))
        one = ScanningGate(folder / "gate", web_port, dns_port, "off")
        with one.running():
            yield one


def test_what_is_harmless_arrives(gate: ScanningGate) -> None:
    assert gate.curl("random.bin").stdout == RANDOM
    assert gate.curl("text.txt").stdout == TEXT


def test_the_test_file_reaches_nobody_in_any_container(gate: ScanningGate) -> None:
    """L6: refused with a problem document that names the rule."""
    said = {
        container: gate.refusal(f"bad-{number}.bin") for number, container in enumerate(CONTAINERS)
    }
    assert all(one.startswith("malware: EICAR_Test_File") for one in said.values()), said


def test_harmless_containers_arrive(gate: ScanningGate) -> None:
    refused = {
        "zip behind a program": "dos executable",
        "7z behind a program": "dos executable",
        "zip behind a picture": "gif image that is a ZIP file, too",
        "xar": "xar installer",
        "deb": "deb installer",
        "rpm": "rpm installer",
    }
    said = {
        container: gate.refusal(f"fine-{number}.bin") for number, container in enumerate(CONTAINERS)
    }
    assert {container: reason for container, reason in said.items() if reason} == refused


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("setup.exe", "dos executable"),
        ("tool.zip", "pe executable (tool)"),
        ("program.txt", "pe executable"),
        ("packed/program.txt", "pe executable"),
        ("packed/test.txt", "malware: EICAR_Test_File (yara)"),
        ("letter.bin", "docx document with macros"),
        ("version.dll", "pe executable by its name"),
    ],
)
def test_kinds_are_told_by_the_bytes_that_a_browser_would_see(
    gate: ScanningGate, path: str, reason: str
) -> None:
    """L1, K8."""
    assert gate.refusal(path) == reason


def test_a_mime_type_that_lies_is_noticed(gate: ScanningGate) -> None:
    """K8: nginx calls by its extension what is something else."""
    gate_folder = gate.folder.parent / "www"
    (gate_folder / "no-video.mp4").write_bytes(TEXT)
    assert gate.refusal("no-video.mp4") in {
        "text, which its MIME type says it is not",
        "text, which its name says it is not",
    }


# -- every edge of a chunk -------------------------------------------------------------------------


def with_edge_at(cut: int) -> tuple[bytes, bytes]:
    """Return the test file in two pieces; no two are the same, so none has a known verdict."""
    body = eicar() + b" " * cut
    return body[:cut], body[cut:]


class CuttingServer(http.server.ThreadingHTTPServer):
    """Answers ``/cut-N`` in two chunks, and notes what is put."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CuttingHandler)
        self.put: list[bytes] = []


class CuttingHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # The gate may be done before it is.
        with contextlib.suppress(OSError):
            for piece in with_edge_at(int(self.path.partition("-")[2])):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

    def do_PUT(self) -> None:
        assert isinstance(self.server, CuttingServer)
        self.server.put.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, code: object = "", size: object = "") -> None:
        del code, size


def test_the_test_file_is_found_across_every_edge_of_a_chunk(tmp_path: pathlib.Path) -> None:
    """L6: in responses and in requests."""
    with CuttingServer() as server, dnsmasq_server(tmp_path) as dns_port:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        gate = ScanningGate(tmp_path / "gate", server.server_port, dns_port, "off")
        try:
            gate.start()
            proxy = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=60)
            statuses: dict[str, set[int]] = {"GET": set(), "PUT": set()}
            for cut in range(1, len(eicar())):
                for method, body in (("GET", None), ("PUT", with_edge_at(cut))):
                    proxy.request(
                        method,
                        gate.url(f"cut-{cut}"),
                        iter(body) if body else None,
                        {"Transfer-Encoding": "chunked"} if body else {},
                        encode_chunked=True,
                    )
                    answer = proxy.getresponse()
                    answer.read()
                    statuses[method].add(answer.status)
            proxy.request("PUT", gate.url("fine"), b"harmless", {})
            assert proxy.getresponse().status == 201
            proxy.close()
        finally:
            gate.close()
            server.shutdown()
            thread.join()
    assert statuses == {"GET": {403}, "PUT": {403}}
    assert server.put == [b"harmless"]


def test_uploads_are_scanned_and_their_files_in_forms(
    gate: ScanningGate, tmp_path: pathlib.Path
) -> None:
    """L6: in requests."""
    good, bad = tmp_path / "good.txt", tmp_path / "bad.zip"
    good.write_bytes(TEXT)
    bad.write_bytes(zipped(eicar()))
    assert gate.refusal("up/good.txt", "--upload-file", str(good)) == ""
    refused = gate.refusal("up/bad.zip", "--upload-file", str(bad))
    assert refused.startswith("malware: EICAR_Test_File in inner.bin")
    refused = gate.refusal("up/form", "--form", f"a=@{good}", "--form", f"b=@{bad}")
    assert refused.startswith("malware: EICAR_Test_File in inner.bin")
