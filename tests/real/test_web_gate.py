"""Real clients of the web proxy (curl, Python, ncat) and real servers behind it (nginx, Apache)."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from tests.kernel.test_gate_process import GateProcess
from tests.ports import free_port
from tests.real.dns_parts import tool
from tests.real.entry_parts import curl
from tests.real.sample_parts import WebServer, is_listening, wait_until

LARGE = os.urandom(1 << 20) * 24
#: 24 MiB: many times what sockets and slots hold.
INSTALL = "apt-get install --yes nginx-light apache2-bin"

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  gzip on;
  gzip_types *;
  server {{ listen 127.0.0.1:{port}; root {folder}/www; }}
}}
"""

APACHE = """
ServerName a.example
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.log
Mutex file:{folder}
{user}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
DocumentRoot {folder}/www
<Directory {folder}/www>
  Require all granted
</Directory>
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[pathlib.Path]:
    """A folder that servers may read who have given up root."""
    with tempfile.TemporaryDirectory(prefix="sluicegate-web-", dir="/var/tmp") as made:
        path = pathlib.Path(made)
        www = path / "www"
        www.mkdir()
        (www / "page").write_bytes(b"the page\n")
        (www / "large").write_bytes(LARGE)
        (www / "text.txt").write_bytes(b"words and words\n" * 1000)
        for one in (path, www):
            one.chmod(0o755)
        for one in www.iterdir():
            one.chmod(0o644)
        yield path


@contextlib.contextmanager
def served(command: list[str], port: int) -> Iterator[int]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: is_listening(port), f"{command[0]} listens")
            yield port
        finally:
            server.terminate()


@pytest.fixture(scope="module", params=["nginx", "apache", "python"])
def origin(request: pytest.FixtureRequest, folder: pathlib.Path) -> Iterator[int]:
    port = free_port()
    if request.param == "python":
        server = WebServer(folder / "www")
        yield server.port
        server.close()
        return
    if request.param == "nginx":
        configuration = folder / "nginx.conf"
        configuration.write_text(NGINX.format(folder=folder, port=port))
        command = [tool("nginx"), "-p", str(folder), "-c", str(configuration)]
    else:
        configuration = folder / "apache.conf"
        user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
        configuration.write_text(APACHE.format(folder=folder, port=port, user=user))
        command = [tool("apache2"), "-D", "FOREGROUND", "-f", str(configuration)]
    with served(command, port) as where:
        yield where


class WebGate(GateProcess):
    """A gate with one proxy listener, whose clients may ask for one server."""

    def write_main(self, more: str = "") -> None:
        super().write_main(f'entry = "proxy"\n{more}')

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        (self.folder / "policy.toml").write_text(
            '[[rule]]\nname = "web"\naction = "allow"\nlistener = "echo"\n'
            f'clients = ["{clients}"]\nto = ["127.0.0.1"]\n'
            f'protocols = ["tcp:{self.server_port}"]\nmethods = ["GET", "HEAD", "PUT"]\n'
        )

    def proxy_port(self) -> int:
        return int(self.status()["listeners"][0]["address"].rpartition(":")[2])


@pytest.fixture(scope="module")
def gate(
    tmp_path_factory: pytest.TempPathFactory, origin: int
) -> Iterator[tuple[WebGate, int, str]]:
    folder = tmp_path_factory.mktemp("gate") / "gate"
    folder.mkdir()
    made = WebGate(folder, origin)
    try:
        made.start()
        yield made, made.proxy_port(), f"http://127.0.0.1:{origin}"
    finally:
        made.close()


Through = tuple[WebGate, int, str]


def fetch(gate: Through, path: str, *more: str) -> subprocess.CompletedProcess[bytes]:
    _, port, site = gate
    return curl("--noproxy", "", "--proxy", f"http://127.0.0.1:{port}", *more, f"{site}{path}")


def test_curl_gets_a_page(gate: Through) -> None:
    done = fetch(gate, "/page", "--include")
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert (body, done.stderr) == (b"the page\n", b"")
    assert re.search(rb"\r\nVia: 1\.[01] sluicegate-[0-9a-f]{8}", head)


def test_a_large_file_comes_whole(gate: Through) -> None:
    done = fetch(gate, "/large")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(LARGE).digest()


def test_parts_of_a_file_come_as_they_are_asked_for(gate: Through, origin: int) -> None:
    done = fetch(gate, "/large", "--range", "1000-1999", "--write-out", "%{http_code}")
    assert done.stdout in {LARGE[1000:2000] + b"206", LARGE + b"200"}


def test_compressed_answers_pass_as_they_are(gate: Through) -> None:
    done = fetch(gate, "/text.txt", "--compressed")
    assert done.stdout == b"words and words\n" * 1000


def test_head_and_conditional_requests(gate: Through) -> None:
    done = fetch(gate, "/page", "--head", "--write-out", "%{http_code}")
    assert done.stdout.endswith(b"200")
    later = ("--time-cond", "Fri, 01 Jan 2100 00:00:00 GMT", "--write-out", "%{http_code}")
    assert fetch(gate, "/page", *later).stdout == b"304"
    missing = fetch(gate, "/missing", "--output", os.devnull, "--write-out", "%{http_code}")
    assert missing.stdout == b"404"


def test_what_no_rule_lets_is_refused_with_a_page_or_a_problem(gate: Through) -> None:
    done = fetch(gate, "/page", "--request", "DELETE", "--include")
    assert done.stdout.startswith(b"HTTP/1.1 403 ")
    assert b"application/problem+json" in done.stdout
    done = fetch(gate, "/page", "--request", "DELETE", "--include", "--header", "Accept: text/html")
    assert b"Content-Type: text/html" in done.stdout


def test_curl_keeps_its_connection_over_many_requests(gate: Through) -> None:
    _, _, site = gate
    more = [f"{site}/page"] * 9
    done = fetch(gate, "/page", *more, "--write-out", "%{num_connects} ")
    assert done.stdout.count(b"the page\n") == 10
    assert done.stdout.count(b"1 ") == 1


def test_python_s_own_client_goes_through_it(gate: Through) -> None:
    _, port, site = gate
    proxies = urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{port}"})
    opener = urllib.request.build_opener(proxies)
    with opener.open(f"{site}/page", timeout=60) as answer:
        assert answer.read() == b"the page\n"


def test_many_requests_at_once_on_kept_connections(gate: Through) -> None:
    _, port, site = gate
    failures: list[object] = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(40):
            connection.request("GET", f"{site}/page")
            answer = connection.getresponse()
            body = answer.read()
            if (answer.status, body) != (200, b"the page\n"):
                failures.append((answer.status, body))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_client_that_half_closes_gets_its_answer(gate: Through) -> None:
    _, port, site = gate
    host = site.partition("://")[2]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(f"GET {site}/page HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while piece := sock.recv(65536):
            received += piece
    assert received.endswith(b"the page\n")


def test_uploads_reach_the_server(gate: Through, folder: pathlib.Path, origin: int) -> None:
    source = folder / "upload"
    source.write_bytes(LARGE[: 3 << 20])
    done = fetch(
        gate, "/uploaded", "--upload-file", str(source), "--write-out", "%{http_code}",
        "--output", os.devnull,
    )  # fmt: skip
    if done.stdout == b"204":  # Python's server takes it; the others refuse the method
        assert (folder / "www" / "uploaded").read_bytes() == LARGE[: 3 << 20]
    else:
        assert done.stdout in {b"405", b"413"}  # nginx answers before it has read the body


def test_every_request_is_on_record(gate: Through) -> None:
    made, _, site = gate
    fetch(gate, "/page?secret=1")
    fetch(gate, "/deleted?secret=2", "--request", "DELETE")
    allowed = made.recorded("request", lambda one: one["verdict"] == "allowed")
    assert f"{site}/page" in {one["url"] for one in allowed}
    made.recorded(
        "request", lambda one: (one["verdict"], one["url"]) == ("denied", f"{site}/deleted")
    )
    assert not any("secret" in one["url"] for one in made.records("request"))
