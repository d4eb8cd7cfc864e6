"""Every sample in a real gate process, with real clients and servers around it."""

from __future__ import annotations

import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.real.sample_parts import (
    PATIENCE_S,
    OpenGate,
    WebServer,
    curl,
    running_memcached,
    sample_gates,
)

pytestmark = pytest.mark.either_driver

KEY_ID = b"AKIA" + b"Q3EGRIVKOHX7A2ZD"


@pytest.fixture
def open_sample(tmp_path: pathlib.Path) -> Iterator[OpenGate]:
    (tmp_path / "gate").mkdir()
    with sample_gates(tmp_path / "gate") as open_gate:
        yield open_gate


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Iterator[WebServer]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "page.txt").write_bytes(b"root:x:0:0\nkey = " + KEY_ID + b"\n")
    (folder / "large.bin").write_bytes(bytes(range(256)) * 800)
    server = WebServer(folder)
    yield server
    server.close()


def test_protocol_detector_lets_curl_speak_http_and_not_https(open_sample, site):
    gate = open_sample("protocol_detector.py:ProtocolDetector", site.port, 'allow = ["http"]')
    assert curl(f"http://127.0.0.1:{gate.port}/page.txt").stdout.startswith(b"root:")
    refused = curl("--insecure", f"https://127.0.0.1:{gate.port}/page.txt")
    assert refused.returncode == 35, refused.stderr
    connections, notes = gate.ended()
    assert [one["outcome"] for one in connections] == ["released", "refused"]
    assert connections[1]["reason"] == "tls is not on the rule's list"
    assert [note["message"] for note in notes] == ["http allowed", "tls refused"]


def test_data_monitor_raises_an_alert_for_what_curl_fetches(open_sample, site):
    gate = open_sample(
        "data_monitor.py:DataMonitor", site.port, 'patterns = { "passwd file" = "root:x:0:0" }'
    )
    assert curl(f"http://127.0.0.1:{gate.port}/page.txt").stdout.startswith(b"root:")
    (connection,), (note,) = gate.ended()
    assert (note["message"], note["filter"]) == ("found passwd file", "data_monitor")
    assert note["facts"]["connection"] == connection["connection"]
    assert (note["facts"]["sent_by"], note["facts"]["client"]) == ("server", "127.0.0.1")


def test_rate_limiter_slows_curl_down_and_loses_nothing(open_sample, site, tmp_path):
    gate = open_sample(
        "rate_limiter.py:RateLimiter", site.port, "to_client_bytes_per_s = 100_000\nburst_s = 0.5"
    )
    target = tmp_path / "large.bin"
    fetched = curl(
        *("--write-out", "%{time_total}", "--output", str(target)),
        f"http://127.0.0.1:{gate.port}/large.bin",
    )
    assert target.read_bytes() == bytes(range(256)) * 800
    # 204,800 bytes, of which the burst lets 50,000 pass at once.
    assert float(fetched.stdout) > 1.4


def test_secret_redactor_hides_a_key_from_curl_and_keeps_the_length(open_sample, site):
    gate = open_sample("secret_redactor.py:SecretRedactor", site.port)
    fetched = curl(f"http://127.0.0.1:{gate.port}/page.txt")
    assert fetched.stdout == b"root:x:0:0\nkey = " + b"*" * len(KEY_ID) + b"\n"
    _, (note,) = gate.ended()
    assert (note["message"], note["facts"]["aws-key-id"]) == ("secrets redacted", 1)


def test_tarpit_holds_curl_and_the_server_is_asked_nothing(open_sample, site):
    settings = 'unwelcome = ["127.0.0.1"]\nbyte_interval_s = 0.1\nhold_s = 1.5'
    gate = open_sample("tarpit.py:Tarpit", site.port, settings)
    held = curl("--http0.9", "--write-out", "%{time_total}", f"http://127.0.0.1:{gate.port}/")
    assert held.returncode == 56, "reset at the end"
    answer, _, took_s = held.stdout.partition(b"one mom")
    assert answer == b"220-"
    assert float(took_s[-8:]) > 1.4
    assert site.asked == []
    (connection,), _ = gate.ended()
    assert (connection["outcome"], connection.get("bytes_to_server", 0)) == ("refused", 0)
    assert connection["reason"] == "tarpit: held for 1.5 s"


def test_connector_lets_a_client_fetch_from_the_announced_port(open_sample):
    loopback = ("127.0.0.1", 0)
    with socket.create_server(loopback) as control, socket.create_server(loopback) as data:
        for listener in (control, data):
            listener.settimeout(PATIENCE_S)

        def serve() -> None:
            peer, _ = control.accept()
            with peer:
                peer.sendall(b"hello\r\nDATA PORT %d\r\n" % data.getsockname()[1])
                with data.accept()[0] as connection:
                    connection.sendall(b"the data")
                peer.recv(1)

        serving = threading.Thread(target=serve)
        serving.start()
        port = control.getsockname()[1]
        gate = open_sample("connector.py:Connector", port, 'server_announces = "DATA PORT "')
        with gate.connect() as client, client.makefile("rb") as lines:
            assert lines.readline() == b"hello\r\n"
            offered = int(lines.readline().removeprefix(b"DATA PORT "))
            assert offered != data.getsockname()[1]
            with socket.create_connection(("127.0.0.1", offered), PATIENCE_S) as fetching:
                assert fetching.makefile("rb").read() == b"the data"
            client.shutdown(socket.SHUT_WR)
            serving.join(PATIENCE_S)
    connections, (note,) = gate.ended()
    assert [one["outcome"] for one in connections] == ["released", "released"]
    assert note["facts"]["offered"] == offered


def test_cache_guard_keeps_an_executable_out_of_a_memcached(open_sample):
    large, program = bytes(range(256)) * 8192, b"\x7fELF" + bytes(300_000)
    with running_memcached() as server_port:
        gate = open_sample(
            "cache_guard.py:CacheGuard", server_port, "value_bytes_max = 4_000_000", ("exe_block",)
        )
        with gate.connect() as client, client.makefile("rb") as replies:
            client.sendall(b"set large 0 0 %d\r\n%b\r\n" % (len(large), large))
            assert replies.readline() == b"STORED\r\n"
            client.sendall(b"set program 7 0 %d\r\n%b\r\nget program\r\n" % (len(program), program))
            assert replies.readline().startswith(b"SERVER_ERROR refused: Linux (ELF)")
            assert replies.readline() == b"END\r\n"
            client.sendall(b"get large\r\n")
            assert replies.readline() == b"VALUE large 0 %d\r\n" % len(large)
            assert replies.read(len(large) + 7) == large + b"\r\nEND\r\n"
            client.sendall(b"quit\r\n")
            assert replies.read() == b""
        with socket.create_connection(("127.0.0.1", server_port), PATIENCE_S) as direct:
            direct.sendall(b"get program\r\nquit\r\n")
            assert direct.makefile("rb").read() == b"END\r\n"
        gate.ended()
    objects = [(one["name"], one["verdict"], one["bytes"]) for one in gate.records("transfer")]
    assert objects == [("large", "released", len(large)), ("program", "refused", len(program))]
