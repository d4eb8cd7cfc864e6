"""Credentials of the Basic scheme, as ``Proxy-Authorization`` has them (RFC 7617).

CONNECT and the web proxy read them with it. The invariant: a value has one reading: encodings that
decoders take differently are refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from sluicegate.protocols.entry import Credentials

__all__ = ["read_basic"]


def read_basic(value: bytes) -> Credentials | None:
    """Read ``Basic`` and ``base64(user ":" password)``; None for another scheme.

    Raises:
        ValueError: What stands behind ``Basic`` is anything else.
    """
    scheme, _, text = value.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    token = text.strip(b" ")
    try:
        decoded = base64.b64decode(token, validate=True)
    except binascii.Error as error:
        raise ValueError(token) from error
    username, colon, password = decoded.partition(b":")
    # Encoded back, because bits that no byte uses may differ and mean nothing to other decoders.
    if not colon or base64.b64encode(decoded) != token or _CONTROL.search(decoded):
        raise ValueError(token)
    return Credentials(username, password)


_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
