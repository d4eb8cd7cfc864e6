"""Time zones of schedules: read from the system's files, or from the ``tzdata`` package.

``load`` hands ``find_time_zone`` to the policy's reader. The invariant: a zone is found by its IANA
name, and a name that leads out of the folder of zones finds none.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo

__all__ = ["find_time_zone"]


def find_time_zone(name: str) -> dt.tzinfo | None:
    """Return a time zone by its IANA name; None: there is none."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
