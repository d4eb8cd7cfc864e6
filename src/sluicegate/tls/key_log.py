"""KeyLog: the file that tells a protocol analyzer the keys of connections, if an operator says so.

``[tls] key_log`` asks for it (the format is that of ``SSLKEYLOGFILE``, RFC 9850). The invariant:
there is none unless an operator wrote its path; the file is for its owner alone.
"""

from __future__ import annotations

import os
import stat

from OpenSSL import SSL

from sluicegate.errors import ConfigError

__all__ = ["KeyLog"]


class KeyLog:
    """One open file."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            ConfigError: It cannot be written, or others can read it.
        """
        self.path = path
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise ConfigError("key_log", f"cannot be written: {error.strerror}") from error
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            self.close()
            raise ConfigError("key_log", "is not a file for its owner alone", f"chmod 600 {path}")

    def watch(self, context: SSL.Context) -> None:
        """Be told the keys of a context's connections."""
        context.set_keylog_callback(self._write)

    def close(self) -> None:
        """Close the file; what handshakes that began before still tell is not written."""
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _write(self, _connection: SSL.Connection, line: bytes) -> None:
        # Once it is closed, its number may be another file's, or a client's.
        if self._descriptor >= 0:
            # One write: lines of several workers do not mix.
            os.write(self._descriptor, line + b"\n")
