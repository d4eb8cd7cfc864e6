"""What scanners may take, in bytes, connections and time: fixed numbers, each with its reason.

``scan`` and ``[[scanner]]`` use them. The invariant: what is above one of them is not scanned, and
what is not scanned is never clean.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CLAMD_CHUNK_BYTES",
    "CLAMD_OBJECT_BYTES_MAX",
    "CLAMD_PROBE_S",
    "CLAMD_REPLY_BYTES_MAX",
    "CLAMD_RETRY_S",
    "SCANNER_CONNECTIONS_MAX",
]

CLAMD_REPLY_BYTES_MAX: Final = 4096
"""One answer of clamd; names of signatures have some 60 bytes, errors name a file at most."""

CLAMD_CHUNK_BYTES: Final = 256 << 10
"""What of an object is read and sent at a time where no descriptor can be passed."""

CLAMD_OBJECT_BYTES_MAX: Final = (2 << 30) - 1
"""ClamAV looks at no file of 2 GiB or more, whatever its configuration says."""

CLAMD_PROBE_S: Final = 60.0
"""For how long it is believed that clamd says when it reaches a limit: its configuration may have
changed with a restart that nobody noticed."""

CLAMD_RETRY_S: Final = 0.25
"""Between two attempts to reach a clamd that restarts."""

SCANNER_CONNECTIONS_MAX: Final = 64
"""Scans at once that a worker may be told to ask one scanner for; clamd has 10 threads."""
