"""Scanners: the gate's side of what looks for malware in held objects.

``app`` makes one for each ``[[scanner]]`` and injects them; content filters reach them by the names
that ``filterapi`` declares. The invariant: a scanner that is down, late, full or over a limit
answers that it did not scan, never that something is clean.
"""

from __future__ import annotations

from .clamd import ClamdScanner, ClamdSettings
from .content_scanner import ContentScannerSettings, ProcessContentScanner
from .icap import IcapScanner, IcapSettings
from .scanner_link import ScannerTls
from .view import ScannerView

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
