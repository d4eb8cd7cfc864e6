"""Which names an authority may certify: the extension nameConstraints, made and applied.

``sluicegate ca init`` makes one on request, ``authority`` asks before it signs. No I/O. The
invariant: what is permitted here is permitted by RFC 5280 section 4.2.1.10; kinds of constraints
that are not understood permit nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from cryptography import x509

__all__ = ["constraints_on", "is_permitted"]


def constraints_on(permitted: Sequence[str], excluded: Sequence[str]) -> x509.NameConstraints:
    """Make the extension.

    Where names are permitted and no network is, addresses are all excluded: a constraint on names
    says nothing about them.

    Args:
        permitted: Domains (all beneath them, too) and networks; empty: all that is not excluded.
        excluded: The same.

    Raises:
        ValueError: One is neither a domain nor a network.
    """
    may, may_not = [_subtree(one) for one in permitted], [_subtree(one) for one in excluded]
    if may and not any(isinstance(one, x509.IPAddress) for one in may):
        may_not += [x509.IPAddress(one) for one in _ALL_ADDRESSES]
    if may and not any(isinstance(one, x509.DNSName) for one in may):
        may_not.append(x509.DNSName(""))
    return x509.NameConstraints(may or None, may_not or None)


_ALL_ADDRESSES: Final = ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")


def _subtree(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(text))
    except ValueError:
        pass
    domain = text.lower().removeprefix("*.").removeprefix(".")
    if not domain or "/" in domain or "*" in domain or not domain.isascii():
        raise ValueError(f"{text!r} is neither a domain nor a network")
    return x509.DNSName(domain)


def is_permitted(name: x509.GeneralName, authority: x509.Certificate) -> bool:
    """Tell whether an authority's own certificate lets it certify a name."""
    try:
        found = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return True
    except (ValueError, x509.DuplicateExtension):
        return False
    if _is_within(name, found.excluded_subtrees or ()):
        return False
    of_kind = [one for one in found.permitted_subtrees or () if type(one) is type(name)]
    return not of_kind or _is_within(name, of_kind)


def _is_within(name: x509.GeneralName, subtrees: Iterable[x509.GeneralName]) -> bool:
    return any(_contains(one, name) for one in subtrees)


def _contains(subtree: x509.GeneralName, name: x509.GeneralName) -> bool:
    if isinstance(subtree, x509.DNSName) and isinstance(name, x509.DNSName):
        base, value = subtree.value.lower(), name.value.lower()
        # A leading dot is beyond the RFC; who writes it means what is beneath.
        if base.startswith("."):
            return value.endswith(base)
        return not base or value == base or value.endswith(f".{base}")
    if isinstance(subtree, x509.IPAddress) and isinstance(name, x509.IPAddress):
        network, address = subtree.value, name.value
        return (
            isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
            and isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
            and address in network
        )
    return False
