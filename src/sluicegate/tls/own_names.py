"""OwnNames: which of our certificates is for the name that a client asks for.

``context`` makes one of a listener's certificates, ``named_engine`` asks it for each client. The
invariant: a name is read by the one canonicaliser of hosts, and a wildcard stands for exactly one
whole label, the first, as clients read it (RFC 9525 section 6.3).
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from sluicegate.errors import SluicegateError
from sluicegate.names import CanonicalHost, HostRefused, canonical_host
from sluicegate.protocols.tls_hello import SniFault, TlsFault

from .server_names import names_of

__all__ = ["NameRefused", "OwnNames", "canonical_names", "read_server_name"]


class NameRefused(SluicegateError):
    """The name in a client's hello is none that it may ask for; ``str`` is the reason's code."""


class OwnNames:
    """Of the certificates of one listener, in their order."""

    __slots__ = ("_each", "_places")

    def __init__(self, certificates: Sequence[x509.Certificate]) -> None:
        self._each = tuple(frozenset(canonical_names(one)) for one in certificates)
        self._places: dict[str, int] = {}
        for place, names in enumerate(self._each):
            for name in names:
                self._places.setdefault(name, place)  # the first one that has it

    def find(self, host: CanonicalHost) -> int | None:
        """Return the place of the certificate for a host; None: there is none."""
        for key in _keys_of(host):
            if (place := self._places.get(key)) is not None:
                return place
        return None

    def covers(self, place: int, host: CanonicalHost) -> bool:
        """Tell whether the certificate at a place is for a host."""
        names = self._each[place]
        return any(key in names for key in _keys_of(host))


def canonical_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses that a certificate is for, and that a client can ask for.

    Raises:
        ValueError: They cannot be read.
    """
    found: list[str] = []
    for name in names_of(certificate):
        rest = name.removeprefix("*.")
        try:
            host = canonical_host(rest, allow_underscore=True)
        except HostRefused:
            continue  # no client can ask for it
        if rest == name:
            found.append(host.text)
        elif not host.is_address and "." in host.text:
            found.append(f"*.{host.text}")
    return tuple(dict.fromkeys(found))


def read_server_name(text: str | None) -> CanonicalHost | str:
    """Return the host that a hello names, or the code of what is wrong (RFC 6066 section 3)."""
    if text is None:
        return SniFault.MISSING.code
    try:
        host = canonical_host(text, allow_underscore=True)
    except HostRefused as refused:
        return f"{TlsFault.SNI_FORM.code}: {refused.reason}"
    if host.is_address:
        return f"{SniFault.ADDRESS.code}: {host.text}"
    return f"{TlsFault.SNI_FORM.code}: final dot" if text.endswith(".") else host


def _keys_of(host: CanonicalHost) -> tuple[str, ...]:
    """Return what a certificate for a host may have, the exact name first."""
    _, dot, rest = host.text.partition(".")
    if host.is_address or not dot or "." not in rest:
        return (host.text,)
    return host.text, f"*.{rest}"
