"""The server of the spool benchmark: one file, by FTP and as a bare stream, both by `sendfile`.

Run as a process of its own on the load's core: `python -m benchmarks.ftp_origin`, two ports, a
file.  The gate needs FTP to know an object when it sees one; the C program gets the same bytes from
the bare port.  Threads and blocking calls: it serves one client, and its cost is not measured.
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

GREETING = "220 bench origin"
REPLIES = {
    "USER": "331 any password",
    "PASS": "230 logged in",
    "TYPE": "200 done",
    "OPTS": "200 done",
    "MODE": "200 done",
    "STRU": "200 done",
    "NOOP": "200 done",
    "SYST": "215 UNIX Type: L8",
    "PWD": '257 "/"',
    "QUIT": "221 bye",
}


def send_file(connection: socket.socket, path: Path) -> None:
    """Sends the whole file, then the end of the stream."""
    with path.open("rb") as file, contextlib.suppress(OSError):  # a client may leave early
        connection.sendfile(file)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    connection.close()


class Dialogue:
    """One FTP control connection."""

    def __init__(self, control: socket.socket, path: Path) -> None:
        self._control = control
        self._path = path
        self._passive: socket.socket | None = None

    def run(self) -> None:
        """Answers commands until the client quits or leaves."""
        with self._control, contextlib.suppress(OSError):
            self._reply(GREETING)
            for line in self._control.makefile("r", encoding="utf-8", newline="\r\n"):
                verb = line.split()[0].upper() if line.split() else ""
                self._answer(verb)
                if verb == "QUIT":
                    break
        if self._passive is not None:
            self._passive.close()

    def _reply(self, text: str) -> None:
        self._control.sendall(f"{text}\r\n".encode())

    def _answer(self, verb: str) -> None:
        if verb == "PASV":
            port = self._listen()
            self._reply(f"227 Entering Passive Mode (127,0,0,1,{port >> 8},{port & 255}).")
        elif verb == "EPSV":
            self._reply(f"229 Entering Extended Passive Mode (|||{self._listen()}|)")
        elif verb == "SIZE":
            self._reply(f"213 {self._path.stat().st_size}")
        elif verb == "RETR":
            self._retrieve()
        else:
            self._reply(REPLIES.get(verb, "502 not here"))

    def _listen(self) -> int:
        if self._passive is not None:
            self._passive.close()
        self._passive = socket.create_server(("127.0.0.1", 0))
        port: int = self._passive.getsockname()[1]
        return port

    def _retrieve(self) -> None:
        if self._passive is None:
            self._reply("425 PASV or EPSV first")
            return
        self._reply(
            f"150 Opening BINARY mode data connection ({os.path.getsize(self._path)} bytes)."
        )
        connection, _ = self._passive.accept()
        self._passive.close()
        self._passive = None
        send_file(connection, self._path)
        self._reply("226 Transfer complete.")


def serve(port: int, answer: Callable[[socket.socket], None]) -> None:
    """Accepts for ever, one thread per connection."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


def main() -> None:
    """Serves both ports until ended by a signal."""
    ftp_port, stream_port, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])

    def stream(peer: socket.socket) -> None:
        send_file(peer, path)

    def ftp(control: socket.socket) -> None:
        Dialogue(control, path).run()

    threading.Thread(target=serve, args=(stream_port, stream), daemon=True).start()
    serve(ftp_port, ftp)


if __name__ == "__main__":
    main()
