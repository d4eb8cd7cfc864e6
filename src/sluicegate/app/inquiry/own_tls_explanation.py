"""What a publishing listener that speaks TLS wants of its clients, ready to be shown.

``explanation`` has it in the place of what a rule wants of a hello that passes. The invariant: the
certificate for a name is found by the function that the gate finds it by.
"""

from __future__ import annotations

from typing import Final

from sluicegate.tls import TlsContext, TlsSettings
from sluicegate.tls.own_names import NameRefused, read_server_name

from .asked import Asked
from .hello_explanation import HelloView
from .offline_gate import OfflineGate

__all__ = ["OWN", "explain_own_tls"]

OWN: Final = "own"
"""The mode of a hello that the gate itself answers with a certificate of its own."""


def explain_own_tls(gate: OfflineGate, asked: Asked) -> HelloView | None:
    """Say what a listener wants of its clients' hellos; None: it does not speak TLS with them."""
    listeners = gate.loaded.settings.listeners
    settings = next((one.tls for one in listeners if one.name == asked.listener), None)
    if settings is None:
        return None
    certificates = gate.loaded.certificates
    names = [name for one in certificates if one.listener == asked.listener for name in one.names]
    return HelloView(
        wants={
            "unknown_names": "refuse" if settings.needs_known_name else "default certificate",
            "client_certificates": settings.client_certificates.value,
            "minimum": settings.minimum.name.removeprefix("TLSv").replace("_", "."),
        },
        names=tuple(dict.fromkeys(names)),
        sni=asked.sni,
        reason="" if asked.sni is None else _objection_to(settings, asked.sni),
        mode=OWN,
    )


def _objection_to(settings: TlsSettings, sni: str) -> str:
    try:
        TlsContext(settings).place_for(read_server_name(sni or None))
    except NameRefused as refused:
        return str(refused)
    return ""
