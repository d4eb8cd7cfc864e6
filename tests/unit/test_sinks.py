"""Sinks: what other systems get, and what becomes of it when they do not take it."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import pathlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from sluicegate.app.config import read_configuration
from sluicegate.app.processes.channel import FrameReader
from sluicegate.app.processes.forwarder import _Forwarder
from sluicegate.app.processes.orders import BeginForward
from sluicegate.app.secret_files import SecretFiles
from sluicegate.audit.query import LogLine
from sluicegate.audit.sinks import Sink, SinkSettings
from sluicegate.audit.sinks.otlp import encode_logs
from sluicegate.audit.sinks.syslog import format_message
from sluicegate.audit.store import LogPosition, end_of_log
from sluicegate.documents import Findings
from tests.pki import Authority
from tests.unit.store.store_kit import line_of

HEADER = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<time>\S+) (?P<host>\S+) sluicegate (?P<pid>\d+)"
    rb" (?P<kind>[!-~]{1,32}) - (?P<line>.*)",
    re.DOTALL,
)


def record(number: int = 0, **fields: object) -> LogLine:
    raw = line_of(number, 1_790_000_000.25 + number, **fields)
    return LogLine(raw, json.loads(raw))


@pytest.mark.parametrize(
    ("to", "place"),
    [
        ("tcp://logs.example.org", "logs.example.org:601 "),
        ("tls://logs.example.org", "logs.example.org:6514 "),
        ("tls://[2001:db8::1]:99", "[2001:db8::1]:99 "),
        ("http://192.0.2.1:4318/v1/logs", "192.0.2.1:4318 /v1/logs"),
        ("https://otel.example.org/in?key=1", "otel.example.org:443 /in?key=1"),
    ],
)
def test_where_a_sink_sends_is_read(to: str, place: str) -> None:
    authority, rest = SinkSettings(name="siem", to=to).place
    assert f"{authority} {rest}" == place


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('to = "udp://h:514"', "is nowhere to send records to"),
        ('to = "tcp://"', "is nowhere to send records to"),
        ('to = "tcp://h:99999"', "port"),
        ('to = "tls://a b:1"', "tls://a b:1"),
        ('to = "https://user:pass@h/"', "https://"),
        ('to = "https://h/lögs"', "the path has 'ö' in it"),
        ('to = "unix:/dev/log"\nquery = "verdict:"', "value"),
    ],
)
def test_wrong_sinks_are_found_at_load(tmp_path: pathlib.Path, lines: str, expected: str) -> None:
    text = (
        f'[[log.sink]]\nname = "siem"\n{lines}\n[[listener]]\nname = "l"\naddress = "127.0.0.1:0"\n'
    )
    findings = Findings()
    secrets = SecretFiles(tmp_path, None)
    read = read_configuration(tmp_path / "sluicegate.toml", text, findings, secrets)
    assert read is None or findings.errors
    assert expected in str(findings.errors[0])


def test_two_sinks_have_two_names(tmp_path: pathlib.Path) -> None:
    one = '[[log.sink]]\nname = "siem"\nto = "unix:/dev/log"\n'
    text = f'{one}{one}[[listener]]\nname = "l"\naddress = "127.0.0.1:0"\n'
    findings = Findings()
    read_configuration(tmp_path / "s.toml", text, findings, SecretFiles(tmp_path, None))
    assert "is taken by another sink" in str(findings.errors[0])


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({}, 6),
        ({"outcome": "refused"}, 5),
        ({"verdict": "denied", "outcome": ""}, 5),
        ({"outcome": "failed"}, 4),
        ({"kind": "limit"}, 4),
        ({"kind": "alert", "severity": "warning"}, 4),
        ({"kind": "alert", "severity": "error"}, 3),
        ({"kind": "filter-failure"}, 3),
    ],
)
def test_syslog_says_how_bad_it_is(fields: dict[str, object], severity: int) -> None:
    found = HEADER.fullmatch(format_message(record(**fields), "gate", 7))
    assert found is not None
    assert divmod(int(found["priority"]), 8) == (16, severity)


def test_syslog_message_is_a_header_of_ours_and_the_line() -> None:
    one = record(3)
    found = HEADER.fullmatch(format_message(one, "gate", 7))
    assert found is not None
    assert (found["time"], found["kind"]) == (b"2026-09-21T14:13:23.250000Z", b"request")
    assert found["line"] == one.raw


@pytest.mark.parametrize("kind", ["a b", "x\n<1>1", "\u202e", "k" * 99, ""])
def test_nothing_of_a_record_breaks_the_header(kind: str) -> None:
    line = LogLine(b"{}", {"kind": kind, "time": "never"})
    assert HEADER.fullmatch(format_message(line, "gate", 7)) is not None


def test_otlp_is_what_the_public_schema_wants() -> None:
    facts = {"a": 1, "b": True, "c": 1.5, "d": ["x"], "e": {"f": "g"}, "h": 1 << 60}
    lines = [record(1, outcome="refused", facts=facts), record(2)]
    request = json_format.Parse(encode_logs(lines, "gate"), ExportLogsServiceRequest())
    resource = {it.key: it.value for it in request.resource_logs[0].resource.attributes}
    assert resource["service.name"].string_value == "sluicegate"
    first, second = request.resource_logs[0].scope_logs[0].log_records
    assert first.body.string_value == lines[0].raw.decode()
    assert first.time_unix_nano == 1_790_000_001_250_000_000
    assert (first.severity_text, second.severity_number) == ("INFO2", 9)
    values = {it.key: it.value for it in first.attributes}
    kept = {it.key: it.value for it in values["sluicegate.facts"].kvlist_value.values}
    assert (kept["a"].int_value, kept["b"].bool_value, kept["c"].double_value) == (1, True, 1.5)
    assert kept["h"].int_value == 1 << 60
    assert kept["d"].array_value.values[0].string_value == "x"


# -- ways to the other side ------------------------------------------------------------------------


class Collector:
    """An HTTP server that keeps what it is sent, and answers from a list."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.came = threading.Condition()
        #: Notified of each body.
        self.answers: list[tuple[int, bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.headers.append(dict(self.headers))
                outer.paths.append(self.path)
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                with outer.came:
                    outer.bodies.append(sent)
                    outer.came.notify_all()
                status, body = outer.answers.pop(0) if outer.answers else (200, b"{}")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/logs"

    def lines(self) -> list[str]:
        requests = [json_format.Parse(it, ExportLogsServiceRequest()) for it in self.bodies]
        return [
            json.loads(one.body.string_value)["request"]
            for request in requests
            for one in request.resource_logs[0].scope_logs[0].log_records
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Scene:
    """A log, and a sink that follows it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.log = folder / "records.jsonl"
        self.log.touch()
        self.said: list[str] = []

    def write(self, *numbers: int) -> None:
        with self.log.open("ab") as file:
            file.writelines(record(number).raw + b"\n" for number in numbers)

    def sink(self, to: str, *, begin: LogPosition | None = None, **more: Any) -> Sink:
        settings = SinkSettings(name="siem", to=to, **more)
        return Sink(settings, self.log, self.folder, self.said.append, begin or LogPosition())


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> Scene:
    return Scene(tmp_path)


def run(one: Sink) -> None:
    """Let it send until it waits."""
    for _ in range(100):
        if one.turn():
            return
    raise AssertionError("it does not come to an end")


def frames(received: bytes) -> list[str]:
    """Cut a stream by its counts, as RFC 6587 says."""
    found: list[str] = []
    while received:
        length, _, rest = received.partition(b" ")
        message = HEADER.fullmatch(rest[: int(length)])
        assert message is not None
        found.append(json.loads(message["line"])["request"])
        received = rest[int(length) :]
    return found


def test_datagrams_of_a_unix_socket_are_messages(scene: Scene) -> None:
    scene.write(1, 2)
    path = scene.folder / "log.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        one = scene.sink(f"unix:{path}")
        run(one)
        found = [HEADER.fullmatch(server.recv(65536)) for _ in range(2)]
        one.close()
    assert [json.loads(it["line"])["request"] for it in found if it] == ["r-1", "r-2"]
    assert (one.sent, one.lost, one.failure) == (2, 0, "")


def serve_once(context: ssl.SSLContext | None) -> tuple[int, Callable[[], bytes]]:
    """Take one connection; return the port, and what returns all that came when it is over."""
    server = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def serve() -> None:
        with server, server.accept()[0] as plain, contextlib.ExitStack() as opened:
            client = plain
            if context is not None:
                opened.enter_context(contextlib.suppress(ssl.SSLError))
                client = opened.enter_context(context.wrap_socket(plain, server_side=True))
            while piece := client.recv(65536):
                received.append(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def result() -> bytes:
        thread.join(20)
        return b"".join(received)

    return server.getsockname()[1], result


def test_tcp_counts_octets(scene: Scene) -> None:
    scene.write(*range(50))
    port, result = serve_once(None)
    one = scene.sink(f"tcp://127.0.0.1:{port}")
    run(one)
    one.close()
    assert frames(result()) == [f"r-{number}" for number in range(50)]


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
def test_tls_sends_to_nobody_whose_authority_is_not_known(scene: Scene, is_known: bool) -> None:
    scene.write(1)
    authority = Authority()
    chain, key = authority.server("127.0.0.1").write(scene.folder, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    ca = scene.folder / "ca.pem"
    ca.write_text((authority if is_known else Authority("another")).pem)
    port, result = serve_once(context)
    one = scene.sink(f"tls://127.0.0.1:{port}", ca=str(ca))
    run(one)
    one.close()
    assert frames(result()) == (["r-1"] if is_known else [])
    assert ("CERTIFICATE_VERIFY_FAILED" in one.failure) is not is_known


def test_otlp_gets_what_the_query_chooses(scene: Scene, collector: Collector) -> None:
    scene.write(*range(8))
    one = scene.sink(collector.url, query="client:10.0.0.1")
    run(one)
    assert collector.lines() == ["r-1", "r-5"]
    assert one.sent == 2
    one.close()


def test_headers_come_from_a_file_that_may_change(scene: Scene, collector: Collector) -> None:
    headers = scene.folder / "headers"
    one = scene.sink(collector.url, headers=str(headers))
    for number, text in enumerate(
        ("Authorization: Bearer one\n\nX-No:\n", "authorization:Bearer two ")
    ):
        headers.write_text(text)
        scene.write(number)
        run(one)
    sent = [{name.lower(): it for name, it in one.items()} for one in collector.headers]
    assert [it["authorization"] for it in sent] == ["Bearer one", "Bearer two"]
    assert {it["content-type"] for it in sent} == {"application/json"}
    one.close()


@pytest.mark.parametrize(
    "text", ["secret-without-a-name", ": secret", "key: sécret", "a key: secret", "key: sec\x00ret"]
)
def test_file_without_headers_is_said_without_quoting_it(
    scene: Scene, collector: Collector, text: str
) -> None:
    headers = scene.folder / "headers"
    headers.write_text(text)
    scene.write(1)
    one = scene.sink(collector.url, headers=str(headers))
    one.turn()
    assert one.failure == f"line 1 of {headers} is no header"
    assert "secret" not in "".join(scene.said)
    headers.unlink()
    one.turn()
    assert "No such file" in one.failure
    assert collector.bodies == []
    one.close()


# -- what is not taken -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_is_not_taken_now_is_sent_again(
    scene: Scene, collector: Collector, status: int
) -> None:
    collector.answers = [(status, b"")]
    scene.write(1)
    one = scene.sink(collector.url)
    assert one.turn() > 0
    assert one.failure == f"the collector answers {status}"
    run(one)
    assert collector.lines() == ["r-1", "r-1"]
    assert (one.sent, one.lost, one.failure) == (1, 0, "")
    assert scene.said[-1] == "the sink siem takes records again"
    one.close()


PARTIAL = "the collector takes a part only"


@pytest.mark.parametrize(
    ("status", "body", "lost", "cause"),
    [
        (400, b"", 3, "the collector answers 400; are address and headers right?"),
        (200, b'{"partialSuccess":{"rejectedLogRecords":"2"}}', 2, PARTIAL),
        (200, b'{"partialSuccess":{"rejectedLogRecords":99}}', 3, PARTIAL),
        (200, b"no JSON", 0, ""),
        (200, b'{"partialSuccess":[]}', 0, ""),
    ],
)
def test_what_the_collector_refuses_is_counted_and_its_cause_said_once(
    scene: Scene, collector: Collector, status: int, body: bytes, lost: int, cause: str
) -> None:
    one = scene.sink(collector.url)
    for _ in range(2):
        collector.answers = [(status, body)]
        scene.write(1, 2, 3)
        run(one)
    assert (one.sent, one.lost) == (6 - 2 * lost, 2 * lost)
    assert scene.said == ([f"the sink siem loses records: {cause}"] if cause else [])
    one.close()


def test_other_side_that_is_gone_is_said_once_and_tried_ever_more_seldom(scene: Scene) -> None:
    scene.write(1)
    one = scene.sink(f"unix:{scene.folder}/nobody")
    pauses = [one.turn() for _ in range(7)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert scene.said == ["the sink siem takes no records: No such file or directory"]
    assert one.bytes_behind == 0  # it is read, and kept
    one.close()


def test_beyond_its_bound_the_oldest_is_left_out_and_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.audit.store.follower.STORE_BATCH_RECORDS_MAX", 10)
    scene.write(*range(100))
    bound = 40 * (len(record(99).raw) + 1)
    one = scene.sink(f"unix:{scene.folder}/nobody", queue_bytes=bound)
    for _ in range(20):
        one.turn()
    assert one.bytes_behind <= bound
    assert one.lost == 50
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"{scene.folder}/nobody")
        server.settimeout(5)
        assert one.turn() == 0.0
        assert b'"request":"r-50"' in server.recv(65536)
    one.close()


def test_next_one_goes_on_where_the_last_one_ended(scene: Scene, collector: Collector) -> None:
    scene.write(1, 2)
    first = scene.sink(collector.url)
    run(first)
    first.close()
    scene.log.rename(scene.log.with_name("records.jsonl-20261128183000"))
    scene.write(3)
    second = scene.sink(collector.url)
    run(second)
    second.close()
    assert collector.lines() == ["r-1", "r-2", "r-3"]


def test_new_one_begins_where_the_log_ended_also_if_it_ends_before_it_sends(
    scene: Scene, collector: Collector
) -> None:
    scene.write(1, 2)
    scene.sink(collector.url, begin=end_of_log(scene.log)).close()
    scene.write(3)
    # The next gate finds a longer log; what was written meanwhile is sent all the same.
    second = scene.sink(collector.url, begin=end_of_log(scene.log))
    run(second)
    second.close()
    assert collector.lines() == ["r-3"]


def test_new_one_beside_a_log_without_records_sends_all(scene: Scene, collector: Collector) -> None:
    scene.write(1)
    scene.log.rename(scene.log.with_name("records.jsonl-20261128183000"))
    scene.log.touch()
    one = scene.sink(collector.url, begin=end_of_log(scene.log))
    scene.write(2)
    run(one)
    one.close()
    assert collector.lines() == ["r-2"]


def test_place_that_cannot_be_read_is_the_beginning(scene: Scene, collector: Collector) -> None:
    (scene.folder / "siem.json").write_text("[1")
    scene.write(1)
    one = scene.sink(collector.url)
    run(one)
    one.close()
    assert collector.lines() == ["r-1"]


def test_lines_that_are_no_records_are_passed_by(scene: Scene, collector: Collector) -> None:
    scene.log.write_bytes(b"nonsense\n[1]\n")
    scene.write(1)
    one = scene.sink(collector.url)
    run(one)
    one.close()
    assert collector.lines() == ["r-1"]


def test_fault_of_ours_ends_the_process_so_that_it_is_recorded_and_another_is_started(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Sink) -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(Sink, "turn", fail)
    sinks = [SinkSettings(name="siem", to="unix:/nowhere")]
    begin = BeginForward(
        log=str(scene.log), folder=str(scene.folder), begin=LogPosition(), sinks=sinks
    )
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(_Forwarder(begin).live(ours, FrameReader()), 10))
