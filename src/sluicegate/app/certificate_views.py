"""What ``status`` shows of the certificates of listeners: what they are for, and when they end.

``load`` makes the views with the settings. The invariant: nothing of a key is in them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from cryptography import x509

from sluicegate.access_limits import TLS_CERTIFICATES_MAX
from sluicegate.gate.settings import ListenerSettings
from sluicegate.gate.views import CertificateView
from sluicegate.tls import canonical_names

__all__ = ["certificate_views"]


def certificate_views(listeners: Iterable[ListenerSettings]) -> list[CertificateView]:
    """Return the certificates of listeners, each listener's once, in their order."""
    found: dict[str, list[CertificateView]] = {}
    for one in listeners:
        if one.name not in found:
            found[one.name] = list(_of_listener(one))
    return [view for views in found.values() for view in views]


def _of_listener(listener: ListenerSettings) -> Iterator[CertificateView]:
    entry = listener.entry
    tls = listener.tls if entry is None else entry.tls
    if tls is None:
        return
    for place, pair in enumerate(tls.pairs):
        names, expires, serial = _read(pair.certificate)
        yield CertificateView(
            listener=listener.name,
            names=list(names),
            expires=expires,
            serial=f"{serial:x}",
            is_default=not (place or tls.needs_known_name),
        )


@functools.lru_cache(maxsize=TLS_CERTIFICATES_MAX)
def _read(text: str) -> tuple[tuple[str, ...], float, int]:
    """Return names, end and number; ``status`` is asked often, and a worker answers it, too."""
    chain = x509.load_pem_x509_certificates(text.encode("utf-8"))
    expires = min(one.not_valid_after_utc.timestamp() for one in chain)
    return canonical_names(chain[0]), expires, chain[0].serial_number
