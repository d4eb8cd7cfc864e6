"""RecordType: which kinds of DNS records are read."""

from __future__ import annotations

import enum

__all__ = ["RecordType"]


class RecordType(enum.IntEnum):
    """The kinds of records that are read; the others are stepped over."""

    A = 1
    CNAME = 5
    SOA = 6
    PTR = 12
    AAAA = 28
    OPT = 41
