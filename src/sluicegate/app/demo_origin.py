"""The FTP server of the demonstration: pyftpdlib, as a process of its own.

``demo`` starts it (``python -m sluicegate.app.demo_origin FOLDER``), reads the port that it prints,
and ends it by closing its standard input, so that it cannot outlive the demonstration. The
invariant: it serves one folder, read only, on the loopback address alone.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from typing import Any

__all__ = ["serve"]


def serve(folder: str) -> None:
    """Serve a folder to anonymous users until the standard input ends."""
    # Loaded here, by name: an optional dependency, and one without types.
    authorizers: Any = importlib.import_module("pyftpdlib.authorizers")
    handlers: Any = importlib.import_module("pyftpdlib.handlers")
    servers: Any = importlib.import_module("pyftpdlib.servers")
    logging.basicConfig(level=logging.ERROR)
    authorizer = authorizers.DummyAuthorizer()
    authorizer.add_anonymous(folder, perm="elr")
    handler = type("Handler", (handlers.FTPHandler,), {"authorizer": authorizer})
    server = servers.FTPServer(("127.0.0.1", 0), handler)
    print(server.address[1], flush=True)  # noqa: T201 - read by whoever started it
    threading.Thread(target=_end_with_input, daemon=True).start()
    server.serve_forever(handle_exit=False)


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    # The process has nothing to save, and its loop has no way to be told from a thread.
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
