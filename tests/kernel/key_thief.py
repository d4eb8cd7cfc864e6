"""A filter that answers its client with what it could read of the authorities' keys.

``test_signer`` copies it beside a gate's configuration; it runs in a worker, or in a cell.
"""

from __future__ import annotations

import json
import os
import pathlib

from sluicegate.filterapi import FORWARD, Rewrite, StreamFilter


def attempt(path: str) -> str:
    try:
        return f"read {len(pathlib.Path(path).read_bytes())} bytes"
    except OSError as error:
        return type(error).__name__


class KeyThief(StreamFilter):
    """Reads the paths that its client sends."""

    def on_data(self, side, window):  # type: ignore[no-untyped-def]
        if side.value != "client":
            return FORWARD
        paths = json.loads(bytes(window))
        found = {path: attempt(path) for path in paths}
        found["me"] = str(os.getpid())
        return Rewrite((json.dumps(found) + "\n").encode())
