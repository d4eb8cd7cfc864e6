"""`python http2_load.py`: requests of HTTP/2 in a tunnel, ten streams at once on one connection.

The load's own program, in the place of ``tls_load.c``, with its options and its report. It speaks
by the ``h2`` package, which neither side of what is measured shares with Sluicegate.
"""

import argparse
import json
import socket
import ssl
import sys
import time

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

AT_ONCE = 10
FIELDS = [
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-US,en;q=0.9"),
]


def connect(arguments: argparse.Namespace) -> ssl.SSLSocket:
    """Asks for a tunnel, and shakes hands in it."""
    host, _, port = arguments.to.rpartition(":")
    target = f"{host or arguments.name}:{port}"
    plain = socket.create_connection(("127.0.0.1", arguments.port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += plain.recv(1)
    if b" 200 " not in answer:
        sys.exit(f"no tunnel: {answer!r}")
    context = ssl.create_default_context(cafile=arguments.authority)
    context.set_alpn_protocols(["h2"])
    secure = context.wrap_socket(plain, server_hostname=arguments.name)
    if secure.selected_alpn_protocol() != "h2":
        sys.exit("the relay does not speak HTTP/2 to this client")
    return secure


def run(arguments: argparse.Namespace) -> dict[str, float]:
    """Asks so many times, and returns the report."""
    secure = connect(arguments)
    _, _, port = arguments.to.rpartition(":")
    fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", f"{arguments.name}:{port}"),
        (":path", arguments.path),
        *FIELDS,
    ]
    h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
    h2.initiate_connection()
    began: dict[int, float] = {}
    times: list[float] = []
    failed = received = asked = 0
    started = time.monotonic()
    while len(times) < arguments.units:
        while asked < arguments.units and len(began) < AT_ONCE:
            number = h2.get_next_available_stream_id()
            h2.send_headers(number, fields, end_stream=True)
            began[number] = time.monotonic()
            asked += 1
        secure.sendall(h2.data_to_send())
        data = secure.recv(65536)
        if not data:
            sys.exit("the relay has closed")
        for event in h2.receive_data(data):
            if isinstance(event, ResponseReceived):
                failed += "200" not in {str(v) for n, v in event.headers if str(n) == ":status"}
            elif isinstance(event, DataReceived):
                received += len(event.data)
                h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded | StreamReset):
                failed += isinstance(event, StreamReset)
                times.append(time.monotonic() - began.pop(event.stream_id))
    elapsed = time.monotonic() - started
    times.sort()
    return {
        "units": len(times),
        "failed": failed,
        "bytes": received,
        "elapsed_s": elapsed,
        "p50_us": int(times[len(times) // 2] * 1e6),
        "p99_us": int(times[len(times) * 99 // 100] * 1e6),
        "max_us": int(times[-1] * 1e6),
    }


def main() -> int:
    """Reads the options; the exit status is 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--units", type=int, required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--authority", required=True)
    parser.add_argument("--path", default="/small")
    parser.add_argument("--first", help="for names that vary; there is one here")
    report = run(parser.parse_args())
    print(json.dumps(report))
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
