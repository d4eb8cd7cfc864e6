"""The server of the spool benchmark: it answers each connection with one file, by `sendfile`.

Run as a process of its own on the load's core: `python -m benchmarks.origin`, a port, a file.
Threads and blocking calls: it serves one client, and its cost is not measured.
"""

import contextlib
import socket
import sys
import threading
from pathlib import Path


def send_file(connection: socket.socket, path: Path) -> None:
    """Sends the whole file, then the end of the stream, and waits for the receiver's."""
    # A client that only looks whether the port is open leaves early.
    with connection, path.open("rb") as file, contextlib.suppress(OSError):
        connection.sendfile(file)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def main() -> None:
    """Serves until ended by a signal."""
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=send_file, args=(connection, path), daemon=True).start()


if __name__ == "__main__":
    main()
