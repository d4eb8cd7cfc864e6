"""OidcRefused: why somebody is not let in by a provider's word.

``oidc`` raises it and pages answer it. The invariant: nothing is loaded for it that a console
without a provider does without.
"""

from __future__ import annotations

from sluicegate.errors import SluicegateError

__all__ = ["OidcRefused"]


class OidcRefused(SluicegateError):
    """Somebody is not let in by the provider's word: ``cause`` is for people and records."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause
