"""A pyftpdlib server as a process: ``python ftp_origin.py '{"folder": ..., "host": ...}'``."""

from __future__ import annotations

import json
import os
import sys
import threading

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

options = json.loads(sys.argv[1])
authorizer = DummyAuthorizer()
for user in ("user", "release-bot"):
    authorizer.add_user(user, "secret", options["folder"], perm="elradfmwMT")
authorizer.add_anonymous(options["folder"], perm="elradfmwMT", msg_login="Welcome.")


class Handler(FTPHandler):
    # RFC 959's own way to abort, and an address that a NAT would need.
    masquerade_address = options.get("masquerade")


Handler.authorizer = authorizer
# Tests log in much more often than people.
Handler.auth_failed_timeout = 0
server = FTPServer((options["host"], 0), Handler)
server.max_cons = 0
print(server.address[1], flush=True)


def end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_input, daemon=True).start()
server.serve_forever(handle_exit=False)
