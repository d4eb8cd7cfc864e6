"""The web server that all relays forward to: nginx, one process, on the load's core."""

import contextlib
from collections.abc import Generator
from pathlib import Path

from benchmarks.processes import LOAD_CORE, Bench, free_port

SMALL_BODY_BYTES = 200
LARGE_BODY_BYTES = 100_000_000

NGINX_CONF = """\
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 15000; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  client_header_timeout 3600s;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /small {{ return 200 "{small}"; }}
    location = /large {{ alias {large}; }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(bench: Bench, prefix: tuple[str, ...] = ()) -> Generator[int]:
    """Runs nginx with `/small` (200 bytes) and `/large` (100 MB in memory); yields its port."""
    directory = bench.make_directory("nginx")
    memory = Path("/dev/shm")  # a tmpfs: reading the file costs the backend no disk
    large = bench.make_directory("sluicegate-bench", memory if memory.is_dir() else None) / "large"
    with large.open("wb") as file:
        for _ in range(LARGE_BODY_BYTES // 1_000_000):
            file.write(bytes(1_000_000))
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        NGINX_CONF.format(directory=directory, port=port, small="x" * SMALL_BODY_BYTES, large=large)
    )
    large.parent.chmod(0o755)
    command = [*prefix, "nginx", "-p", str(directory), "-c", str(configuration)]
    with bench.running("nginx", command, core=LOAD_CORE, port=port) as started:
        yield port
        started.check_alive()
