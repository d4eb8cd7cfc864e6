"""An archive in an archive, deeper than scanners look: a question that shows who keeps silent.

``scan/clamd`` and ``scan/icap`` show it before they believe a scanner. The invariant: nothing in it
does harm, and who opens all of it has found nothing.
"""

from __future__ import annotations

import io
import zipfile
from typing import Final

__all__ = ["nested_archive"]


def nested_archive() -> bytes:
    """Return an archive, deeper than clamd can be told to look; about 10 KiB."""
    inner = b"deep"
    for _ in range(_NESTED_MAX):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("inner.zip"), inner)
        inner = packed.getvalue()
    return inner


_NESTED_MAX: Final = 120
"""Archives in one another; clamd cannot be told to open more than 100 (MaxRecursion)."""
