"""The FTP server of the demonstration: pyftpdlib, as a process of its own.

``origin`` starts it (``python -m sluicegate.app.demo.ftp_origin FOLDER``), and reads the port that
it prints. The invariant: it serves one folder, read only, on the loopback address alone.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

from .origin import end_with_input

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
    end_with_input()
    server.serve_forever(handle_exit=False)


if __name__ == "__main__":
    serve(sys.argv[1])
