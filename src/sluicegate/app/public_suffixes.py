"""Public suffixes: names below which anybody may register another one (publicsuffix.org).

``load`` hands ``is_public_suffix`` to the policy's reader. The list comes with a package and is
read at the first question. The invariant: a name of a zone that the list does not know (``corp``,
``internal``) is no public suffix: it is the operator's own.
"""

from __future__ import annotations

import functools

from publicsuffixlist import PublicSuffixList

__all__ = ["is_public_suffix"]


def is_public_suffix(name: str) -> bool:
    """Tell whether a canonical name is a public suffix, those of hosting companies included."""
    return bool(_suffixes().is_public(name))


@functools.cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)
