"""PKCS#11 URIs (RFC 7512): which key of which token signs.

``app.authority_config`` reads one out of ``sluicegate.toml``, ``pkcs11_key`` looks for what it
names. No I/O. The invariant: what is not understood is refused, as it could have said that another
key is meant; and a PIN is never taken from a URI, which anybody may read.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from typing import Final

__all__ = ["Pkcs11Uri", "parse_pkcs11_uri"]


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """One key; what is empty is not asked for."""

    token: str = ""
    """Its label,"""
    serial: str = ""
    """and its number."""
    object: str = ""
    """The key's label,"""
    id: bytes = b""
    """and its identifier (CKA_ID)."""
    module_path: str = ""
    """The library of the token's maker."""


def parse_pkcs11_uri(text: str) -> Pkcs11Uri:
    """Read a URI.

    Raises:
        ValueError: It is none, it has an attribute that is not known here, or it does not say
            which key.
    """
    scheme, _, rest = text.partition(":")
    if scheme.lower() != "pkcs11":
        raise ValueError("it does not begin with pkcs11:")
    found = _attributes(rest)
    if found.pop("type", b"private") != b"private":
        raise ValueError("it names no private key (type=private)")
    if not found.get("object") and not found.get("id"):
        raise ValueError("it does not say which key (object=, or id=)")
    identifier = found.pop("id", b"")
    try:
        texts = {name.replace("-", "_"): value.decode("utf-8") for name, value in found.items()}
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    return Pkcs11Uri(id=identifier, **texts)


def _attributes(text: str) -> dict[str, bytes]:
    path, _, query = text.partition("?")
    found: dict[str, bytes] = {}
    for part in (*path.split(";"), *query.split("&")):
        name, equals, value = part.partition("=")
        if not part:
            continue
        if not equals or name in found:
            raise ValueError(f"{name!r} is there twice, or without a value")
        if name in _SECRETS:
            raise ValueError(f"{name!r}: a PIN does not belong there")
        if name not in _KNOWN:
            raise ValueError(f"{name!r} is not known here ({', '.join(_KNOWN)})")
        found[name] = urllib.parse.unquote_to_bytes(value)
    return found


_KNOWN: Final = ("token", "serial", "object", "id", "type", "module-path")
_SECRETS: Final = ("pin-value", "pin-source")
