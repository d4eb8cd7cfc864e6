"""Real clients whose TLS a gate opens (curl, OpenSSL, Python, Node, Chromium), nginx behind it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
from cryptography import x509

from tests.chains import root
from tests.kernel.test_gate_process import SLUICEGATE

from .dns_parts import dnsmasq_server
from .entry_parts import curl, tool
from .sample_parts import wait_until
from .test_entry_gate import ProxyGate
from .test_server_tls import HOST, PAGE, TlsServers

EXE = b"MZ" + bytes(50_000)
DENIED = b"access denied"


class OpeningGate(ProxyGate):
    """A gate that opens the TLS of most servers, with a signer of its own."""

    mode = ("--workers", "1")

    def __init__(self, folder: pathlib.Path, servers: TlsServers, dns_port: int) -> None:
        self.ports = servers.ports
        super().__init__(folder, 1, dns_port, "off")
        self.ca = self.folder / "clients-trust.pem"
        for words in (["init"], ["export", "-o", str(self.ca)]):
            command = [*SLUICEGATE, "ca", *words, "-c", str(self.config)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

    def write_main(self, more: str = "") -> None:
        (self.folder / "servers.pem").write_text(root().pem)
        super().write_main(
            '[ca]\n[tls]\nauthorities = ["servers.pem"]\nkey_log = "keys.log"\n'
            '[[filter]]\nname = "exe_block"\n' + more
        )

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        opened = [port for name, port in self.ports.items() if name != "spliced"]
        common = (
            f'action = "allow"\nlistener = "echo"\nclients = ["{clients}"]\n'
            'to = ["*.names.test", "127.0.0.1"]\n'
        )
        (self.folder / "policy.toml").write_text(
            f'[[rule]]\nname = "spliced"\n{common}protocols = ["tcp:{self.ports["spliced"]}"]\n'
            f'tls = {{ ports = [{self.ports["spliced"]}], ech = "outer" }}\n'
            f'[[rule]]\nname = "opened"\n{common}protocols = {[f"tcp:{one}" for one in opened]}\n'
            'filters = ["exe_block"]\n'
            f'tls = {{ mode = "inspect", ports = {opened}, ech = "outer" }}\n'
        )


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpeningGate]:
    folder = tmp_path_factory.mktemp("opening")
    os.chmod(folder, 0o755)
    servers = TlsServers(folder)
    (folder / "www" / "setup.exe").write_bytes(EXE)
    servers.add("good", root().issue("server", [HOST]))
    servers.add("tls12", root().issue("server", [HOST]), versions="TLSv1.2")
    servers.add("spliced", root().issue("server", [HOST]))
    servers.add("expired", root().issue("server", [HOST], days=(-9, -1)))
    servers.add("wronghost", root().issue("server", ["other.names.test"]))
    with servers.running(), dnsmasq_server(folder) as dns_port:
        made = OpeningGate(folder / "gate", servers, dns_port)
        with made.running():
            yield made


def url(gate: OpeningGate, server: str = "good", path: str = "page") -> str:
    return f"https://{HOST}:{gate.ports[server]}/{path}"


WAYS = {
    "connect": "http://127.0.0.1:{}",
    "socks5h": "socks5h://127.0.0.1:{}",
    "socks4a": "socks4a://127.0.0.1:{}",
    "socks5": "socks5://127.0.0.1:{}",
}


def fetch(
    gate: OpeningGate, where: str, *more: str, way: str = "connect", ca: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    proxy = WAYS[way].format(gate.port)
    return curl("--noproxy", "", "--proxy", proxy, "--cacert", ca or str(gate.ca), *more, where)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", ["good", "tls12"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_gets_the_page_under_a_leaf(
    gate: OpeningGate, way: str, server: str, version: str
) -> None:
    more = [f"--tlsv{version}", "--tls-max", version]
    if way == "socks5":
        more += ["--resolve", f"{HOST}:{gate.ports[server]}:127.0.0.1"]
    done = fetch(gate, url(gate, server), *more, way=way)

    assert (done.returncode, done.stdout, done.stderr) == (0, PAGE, b"")


def test_curl_is_refused_an_executable_inside(gate: OpeningGate) -> None:
    done = fetch(gate, url(gate, path="setup.exe"), "--write-out", "%{http_code}")

    assert done.stdout.endswith(b"403")
    assert EXE[:1000] not in done.stdout
    refused = gate.recorded("request", lambda one: one.get("outcome") == "refused")[-1]
    assert refused["url"].endswith("/setup.exe")
    assert refused["url"].startswith("https://")


@pytest.mark.parametrize(
    ("server", "reason"),
    [("expired", "server-certificate-expired"), ("wronghost", "server-certificate-wrong-host")],
)
def test_curl_is_refused_a_server_that_is_not_verified(
    gate: OpeningGate, server: str, reason: str
) -> None:
    done = fetch(gate, url(gate, server))

    assert done.returncode == 35
    assert DENIED in done.stderr
    end = gate.recorded("connection", lambda one: one["reason"].startswith(reason))[-1]
    assert end["tls_verification"] == reason


def test_curl_that_knows_only_the_servers_authority_leads_to_a_suggestion(
    gate: OpeningGate,
) -> None:
    done = fetch(gate, url(gate), ca=str(gate.folder / "servers.pem"))

    assert done.returncode == 60
    ends = gate.recorded(
        "connection", lambda one: one["reason"].startswith("client-refuses-certificate")
    )
    assert HOST in ends[-1]["suggestion"]


def test_gate_says_who_signs_what_it_shows(gate: OpeningGate) -> None:
    assert gate.status()["authority"].startswith(gate.ca.read_text().strip())


def test_curl_speaks_to_the_server_itself_where_the_rule_splices(gate: OpeningGate) -> None:
    own = fetch(gate, url(gate, "spliced"), ca=str(gate.folder / "servers.pem"))
    leaf = fetch(gate, url(gate, "spliced"))

    assert own.stdout == PAGE
    assert leaf.returncode == 60


def test_curl_is_answered_421_for_another_host(gate: OpeningGate) -> None:
    done = fetch(
        gate, url(gate), "--header", "Host: other.names.test", "--write-out", "%{http_code}"
    )

    assert done.stdout.endswith(b"421")


def test_openssl_sees_a_leaf_for_the_one_name(gate: OpeningGate) -> None:
    port = gate.ports["good"]
    done = subprocess.run(
        [tool("openssl"), "s_client", "-proxy", f"127.0.0.1:{gate.port}", "-connect",
         f"{HOST}:{port}", "-servername", HOST, "-CAfile", str(gate.ca), "-verify_hostname", HOST,
         "-verify_return_error", "-alpn", "h2,http/1.1", "-showcerts"],
        input=b"", capture_output=True, check=False, timeout=60,
    )  # fmt: skip

    assert b"Verify return code: 0 (ok)" in done.stdout
    assert b"ALPN protocol: http/1.1" in done.stdout
    pem = done.stdout[done.stdout.index(b"-----BEGIN") :].split(b"-----END CERTIFICATE-----")[0]
    leaf = x509.load_pem_x509_certificate(pem + b"-----END CERTIFICATE-----\n")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST]
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days <= 197


def test_openssl_is_offered_no_early_data(gate: OpeningGate) -> None:
    port = gate.ports["good"]
    ask = f"GET /page HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
    done = subprocess.run(
        [tool("openssl"), "s_client", "-proxy", f"127.0.0.1:{gate.port}", "-connect",
         f"{HOST}:{port}", "-servername", HOST, "-CAfile", str(gate.ca), "-ign_eof", "-tls1_3"],
        input=ask.encode(), capture_output=True, check=False, timeout=60,
    )  # fmt: skip

    assert PAGE in done.stdout
    assert b"Max Early Data: 0" in done.stdout


def test_openssl_is_refused_another_name_in_its_hello(gate: OpeningGate) -> None:
    done = subprocess.run(
        [tool("openssl"), "s_client", "-proxy", f"127.0.0.1:{gate.port}", "-connect",
         f"{HOST}:{gate.ports['good']}", "-servername", "fronted.names.test"],
        input=b"", capture_output=True, check=False, timeout=60,
    )  # fmt: skip

    assert DENIED in done.stdout + done.stderr
    gate.recorded("connection", lambda one: one["reason"] == "tls-sni-mismatch: fronted.names.test")


def test_python_gets_the_page(gate: OpeningGate) -> None:
    import ssl

    context = ssl.create_default_context(cafile=str(gate.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": f"http://127.0.0.1:{gate.port}"}),
        urllib.request.HTTPSHandler(context=context),
    )
    with opener.open(url(gate), timeout=60) as answer:
        assert answer.read() == PAGE


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_keys_of_the_clients_side_are_logged_too(
    gate: OpeningGate, tmp_path: pathlib.Path, version: str
) -> None:
    import ssl

    mine = tmp_path / "mine.log"
    context = ssl.create_default_context(cafile=str(gate.ca))
    context.keylog_filename = str(mine)
    context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[
        version
    ]
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": f"http://127.0.0.1:{gate.port}"}),
        urllib.request.HTTPSHandler(context=context),
    )
    with opener.open(url(gate), timeout=60) as answer:
        assert answer.read() == PAGE
    wanted = {line for line in mine.read_text().splitlines() if line[:1] != "#"}
    log = gate.folder / "state" / "keys.log"
    assert wanted
    wait_until(lambda: wanted <= set(log.read_text().splitlines()), "the keys are there")


NODE = """
const http = require("http"), https = require("https"), fs = require("fs");
const [proxy, host, port, ca] = process.argv.slice(1);
http.request({ host: "127.0.0.1", port: proxy, method: "CONNECT", path: `${host}:${port}`,
               headers: { host: `${host}:${port}` } })
    .on("connect", (answer, socket) => {
      let size = 0;
      https.get({ socket, agent: false, servername: host, ca: fs.readFileSync(ca),
                  path: "/page", headers: { host: `${host}:${port}` } },
                (got) => got.on("data", (data) => { size += data.length; })
                            .on("end", () => { console.log(got.statusCode, size); }))
           .on("error", (error) => console.log(error.code));
    }).end();
"""


def test_node_gets_the_page(gate: OpeningGate) -> None:
    done = subprocess.run(
        [tool("node"), "-e", NODE, str(gate.port), HOST, str(gate.ports["good"]), str(gate.ca)],
        capture_output=True, check=False, timeout=60, text=True,
    )  # fmt: skip

    assert done.stdout.split() == ["200", str(len(PAGE))]


def test_chromium_gets_the_page(gate: OpeningGate, tmp_path: pathlib.Path) -> None:
    store = tmp_path / ".pki" / "nssdb"
    store.mkdir(parents=True)
    certutil = tool("certutil")
    subprocess.run([certutil, "-d", f"sql:{store}", "-N", "--empty-password"], check=True)
    subprocess.run(
        [certutil, "-d", f"sql:{store}", "-A", "-t", "C,,", "-n", "gate", "-i", str(gate.ca)],
        check=True,
    )
    command = [
        tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        f"--user-data-dir={tmp_path}/profile", f"--proxy-server=http://127.0.0.1:{gate.port}",
        "--proxy-bypass-list=<-loopback>", "--dump-dom", url(gate),
    ]  # fmt: skip
    words = PAGE.split(b"\n")[0].decode()
    said = ""
    # It opens the store beside its first request, which may be the faster one.
    for _ in range(3):
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=90, text=True,
            env=os.environ | {"HOME": str(tmp_path)},
        )  # fmt: skip
        said = done.stdout + done.stderr
        if words in said:
            break
    assert words in said


def test_status_counts_leaves(gate: OpeningGate) -> None:
    assert fetch(gate, url(gate)).stdout == PAGE

    leaves = gate.status()["leaves"]

    assert leaves["minted"] >= 1
    assert leaves["failed"] == 0
