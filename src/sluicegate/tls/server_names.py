"""Whether a certificate is for a host: RFC 9525, as strictly as browsers read it.

``server_verification`` asks with the leaf of a verified chain. No I/O. The invariant: only
alternative names count, never the common name; an address is only ever matched by an address; and
a wildcard stands for exactly one whole label, the first, below at least two others.
"""

from __future__ import annotations

import ipaddress

from cryptography import x509

from .server_identity import ServerName

__all__ = ["is_for", "names_of"]


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and the addresses that a certificate is for, as they stand in it.

    Raises:
        ValueError: They cannot be read.
    """
    names = _alternative_names(certificate)
    if names is None:
        return ()
    addresses = tuple(str(one) for one in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def is_for(certificate: x509.Certificate, server: ServerName) -> bool:
    """Tell whether a certificate is for a server.

    Raises:
        ValueError: Its names cannot be read.
    """
    names = _alternative_names(certificate)
    if names is None:
        return False
    if server.is_address:
        address = ipaddress.ip_address(server.host)
        return address in names.get_values_for_type(x509.IPAddress)
    return any(_matches(one, server.host) for one in names.get_values_for_type(x509.DNSName))


def _alternative_names(certificate: x509.Certificate) -> x509.GeneralNames | None:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return None
    except x509.DuplicateExtension as error:
        raise ValueError("an extension is there twice") from error
    return x509.GeneralNames(found.value)


def _matches(pattern: str, host: str) -> bool:
    """Compare a DNS name of a certificate with a canonical one (RFC 9525 section 6.3)."""
    # ASCII alone has two cases here: a canonical name has no other letters.
    pattern = pattern.lower() if pattern.isascii() else ""
    if pattern == host:
        return "*" not in pattern
    first, _, rest = pattern.partition(".")
    if first != "*" or "*" in rest or "." not in rest:
        return False
    return host.partition(".")[2] == rest
