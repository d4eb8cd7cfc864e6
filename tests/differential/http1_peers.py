"""Real HTTP/1.1 servers that say what they read: nginx, Apache httpd (in front of Node), Node, h11.

Each server answers a request with its reading in a response field, ``X-Reading``: method, target,
body and fields in hexadecimal. The invariant: a reading is the server's own parser's, never a text
that this module has parsed for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import h11
import pytest

from tests.ports import free_port

INSTALL = "apt-get install --yes nginx-light libnginx-mod-http-lua apache2-bin nodejs"
PATIENCE_S = 60.0
#: Behind a message that a server reads as longer than it is; every other one is answered at once.
SILENCE_S = 15.0
SENTINEL = b"GET /sentinel HTTP/1.1\r\nHost: sentinel.example\r\nConnection: close\r\n\r\n"
RECORDER = pathlib.Path(__file__).parent / "servers" / "recorder.mjs"

READING = re.compile(
    rb"X-Reading: ([0-9a-f]+)\|([0-9a-f]+)\|([0-9a-f]*)\|([0-9a-f:,]*)\r\n", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """One request as somebody read it."""

    method: bytes
    target: bytes
    body: bytes
    fields: dict[bytes, list[bytes]]
    #: Values by name in lower case, in their order.


@dataclasses.dataclass(frozen=True)
class Peer:
    """Somebody who reads a stream of requests."""

    name: str
    read: Callable[[bytes], list[Reading]]


SILENCE = b"\0silence"
#: What a server "read" that neither answered nor closed: it takes more for the message than we do.
SILENT = Reading(b"", b"", b"", {})


def grouped(fields: list[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(value)
    return found


def reading_of(found: re.Match[bytes]) -> Reading:
    method, target, body = (bytes.fromhex(part.decode()) for part in found.groups()[:3])
    pairs = [pair.split(":") for pair in found[4].decode().split(",") if pair]
    fields = [(bytes.fromhex(name), bytes.fromhex(value)) for name, value in pairs]
    return Reading(method, target, body, grouped(fields))


def read_over_tcp(port: int, data: bytes) -> list[Reading]:
    """Send a stream; return what was read of it, when the server has closed the connection."""
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S) as connection:
        # A server that refuses may close before it has read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        try:
            while piece := connection.recv(65_536):
                answer += piece
        except ConnectionResetError:
            pass
        except TimeoutError:
            answer += SILENCE
    readings = [reading_of(found) for found in READING.finditer(bytes(answer))]
    return [*readings, SILENT] if answer.endswith(SILENCE) else readings


def read_by_h11(data: bytes) -> list[Reading]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    readings: list[Reading] = []
    request: h11.Request | None = None
    body = bytearray()
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return readings
        match event:
            case h11.Request():
                request, body = event, bytearray()
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                assert request is not None
                fields = grouped(list(request.headers))
                readings.append(Reading(request.method, request.target, bytes(body), fields))
                connection.send(h11.Response(status_code=204, headers=[]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return readings
                connection.start_next_cycle()
            case _:
                return readings


def tool(name: str) -> str:
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.fail(f"{name} is missing: {INSTALL}", pytrace=False)
    return path


@contextlib.contextmanager
def running(command: list[str], log: pathlib.Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    pytest.fail(f"{process.args!r} does not listen: {log.read_text(errors='replace')}")


@contextlib.contextmanager
def node(folder: pathlib.Path) -> Iterator[int]:
    log = folder / "node.log"
    with running([tool("node"), str(RECORDER)], log) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline() or b"0")
        wait_until_it_listens(port, process, log)
        yield port


@contextlib.contextmanager
def nginx(folder: pathlib.Path) -> Iterator[int]:
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    log = folder / "nginx.log"
    command = [tool("nginx"), "-p", str(folder), "-e", str(log), "-c", str(folder / "nginx.conf")]
    with running(command, folder / "nginx.err") as process:
        wait_until_it_listens(port, process, folder / "nginx.err")
        yield port


@contextlib.contextmanager
def apache(folder: pathlib.Path, backend: int) -> Iterator[int]:
    port = free_port()
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    (folder / "apache.conf").write_text(
        APACHE.format(folder=folder, port=port, backend=backend, user=user)
    )
    command = [tool("apache2"), "-D", "FOREGROUND", "-f", str(folder / "apache.conf")]
    with running(command, folder / "apache.err") as process:
        wait_until_it_listens(port, process, folder / "apache.err")
        yield port


@contextlib.contextmanager
def peers(folder: pathlib.Path) -> Iterator[list[Peer]]:
    """Start all of them; they end with the block."""
    with contextlib.ExitStack() as stack:
        node_port = stack.enter_context(node(folder))
        ports = {
            "node": node_port,
            "nginx": stack.enter_context(nginx(folder)),
            "apache": stack.enter_context(apache(folder, node_port)),
        }
        yield [
            Peer("h11", read_by_h11),
            *[
                Peer(name, lambda data, port=port: read_over_tcp(port, data))  # type: ignore[misc]
                for name, port in ports.items()
            ],
        ]


NGINX = """
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder};
  proxy_temp_path {folder};
  fastcgi_temp_path {folder};
  uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  client_body_buffer_size 1m;
  client_body_in_single_buffer on;
  ignore_invalid_headers off;
  underscores_in_headers on;
  merge_slashes off;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      content_by_lua_block {{
        local function hex(text)
          return (text:gsub(".", function(c) return string.format("%02x", c:byte()) end))
        end
        ngx.req.read_body()
        local fields = {{}}
        for name, values in pairs(ngx.req.get_headers(0, true)) do
          if type(values) ~= "table" then values = {{ values }} end
          for _, value in ipairs(values) do
            if value == true then value = "" end
            fields[#fields + 1] = hex(name) .. ":" .. hex(value)
          end
        end
        local target = ngx.var.request:match("^%S+ (%S+)")
        ngx.header["X-Reading"] = table.concat({{
          hex(ngx.req.get_method()), hex(target), hex(ngx.req.get_body_data() or ""),
          table.concat(fields, ","),
        }}, "|")
        ngx.header["Content-Length"] = 2
        ngx.print("ok")
      }}
    }}
  }}
}}
"""

APACHE = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.log
Mutex file:{folder}
{user}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
StartServers 1
ServerLimit 1
ThreadsPerChild 16
MaxRequestWorkers 16
AllowEncodedSlashes NoDecode
MergeSlashes Off
ProxyPreserveHost On
ProxyPass / http://127.0.0.1:{backend}/ nocanon
KeepAliveTimeout 2
"""
