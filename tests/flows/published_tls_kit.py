"""Listeners that publish and speak TLS, and clients of them over the simulated network."""

from __future__ import annotations

import dataclasses
import functools
import ssl
from collections.abc import Sequence
from typing import Any

from sluicegate.gate.settings import ListenerSettings, ServiceSettings
from sluicegate.tls import OwnPair, TlsSettings
from tests.flows.gate_kit import ENTRY, publication, settings
from tests.flows.tls_kit import client_context
from tests.pki import Issued, authority

WWW, WILD = "www.example", "shop.wild.example"


@functools.cache
def pair(*names: str) -> Issued:
    return authority("proxy").server(*names)


def own(*pairs: Sequence[str], **changes: Any) -> TlsSettings:
    """Make the TLS of a listener with a certificate for each of these lists of names."""
    first, *others = [pair(*names) for names in pairs or ([WWW], ["*.wild.example"])]
    return dataclasses.replace(
        TlsSettings(
            first.certificate_pem,
            first.key_pem,
            others=tuple(OwnPair(one.certificate_pem, one.key_pem) for one in others),
            reads_hellos=True,
            needs_known_name=True,
        ),
        **changes,
    )


def published(tls: TlsSettings | None = None, **changes: Any) -> ServiceSettings:
    """Make the settings of a gate that publishes one server inside TLS."""
    one = dataclasses.replace(publication(), **changes)
    listener = ListenerSettings("web", ENTRY, tls=own() if tls is None else tls)
    return settings(one, listeners=[listener])


def trusting(
    client: Issued | None = None, protocols: Sequence[str] = (), *, checks: bool = True
) -> ssl.SSLContext:
    """Return what a client goes by; ``checks`` the name only where it asks for one."""

    context = client_context(client)
    context.check_hostname = checks
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
