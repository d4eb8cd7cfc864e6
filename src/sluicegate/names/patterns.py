"""Patterns of hosts in operators' rules: one host exactly, or everything below a name.

Policy compiles them and asks them about canonical hosts. ``*.a.b`` means every name that ends in
``.a.b``, at any depth, and never ``a.b`` itself. The invariant: a rule's text is canonical or it is
refused, so a rule means what it says to whoever reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from .host import CanonicalHost, HostReason, HostRefused, canonical_host

__all__ = ["HostPattern"]

_WILDCARD: Final = "*."


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A compiled pattern; ``matches`` takes canonical hosts only."""

    host: CanonicalHost
    """The host itself, or the name below which everything matches."""

    is_wildcard: bool = False

    @classmethod
    def parse(cls, text: str, *, allow_underscore: bool = False) -> HostPattern:
        """Read ``a.b``, ``*.a.b``, ``192.0.2.1`` or ``2001:db8::1``.

        Raises:
            HostRefused: It is not a pattern, or not written canonically; the hint has the cure.
        """
        is_wildcard = text.startswith(_WILDCARD)
        rest = text.removeprefix(_WILDCARD)
        if "*" in rest:
            raise HostRefused(
                HostReason.WILDCARD_FORM, f"{text!r}: the only wildcard is a leading '*.'"
            )
        host = canonical_host(rest, allow_underscore=allow_underscore)
        if is_wildcard and host.is_address:
            raise HostRefused(HostReason.WILDCARD_FORM, f"{text!r}: nothing is below an address")
        if host.text != rest:
            written = _WILDCARD * is_wildcard + host.text
            raise HostRefused(HostReason.NOT_CANONICAL, f"{text!r} is not canonical: {written!r}")
        return cls(host, is_wildcard)

    def matches(self, host: CanonicalHost) -> bool:
        """Tell whether a host is meant; names match by whole labels, addresses never by names."""
        if not self.is_wildcard:
            return host.text == self.host.text
        return not host.is_address and host.text.endswith("." + self.host.text)

    @override
    def __str__(self) -> str:
        return _WILDCARD * self.is_wildcard + self.host.text
