"""Scanners: the gate's side of what looks for malware in held objects.

``app`` makes one for each ``[[scanner]]`` and injects them; content filters reach them by the names
that ``filterapi`` declares. The invariant: a scanner that is down, late, full or over a limit
answers that it did not scan, never that something is clean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .clamd import ClamdScanner, ClamdSettings
    from .content_scanner import ContentScannerSettings, ProcessContentScanner
    from .icap import IcapScanner, IcapSettings
    from .scanner_link import ScannerTls
    from .view import ScannerView
else:
    __getattr__ = front(
        __name__,
        clamd=("ClamdScanner", "ClamdSettings"),
        content_scanner=("ContentScannerSettings", "ProcessContentScanner"),
        icap=("IcapScanner", "IcapSettings"),
        scanner_link=("ScannerTls",),
        view=("ScannerView",),
    )

__all__ = [
    "ClamdScanner",
    "ClamdSettings",
    "ContentScannerSettings",
    "IcapScanner",
    "IcapSettings",
    "ProcessContentScanner",
    "ScannerTls",
    "ScannerView",
]
