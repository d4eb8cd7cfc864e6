"""What a rule wants of a ClientHello, and what it says of one, ready to be shown.

``explanation`` has it among what follows from an answer. The invariant: hellos are judged by the
function that the gate judges them by; of one that is only imagined, its name alone is known.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from sluicegate.names import CanonicalHost, Unresolved
from sluicegate.policy import AnyRule, Publication
from sluicegate.policy.tls_check import (
    SNI_ELSEWHERE,
    SNI_NOT_ALLOWED,
    TLS_VERSIONS,
    HelloFacts,
    TlsCheck,
    judge_hello,
)
from sluicegate.policy.tls_opening import TlsMode

from .asked import Asked
from .offline_gate import Decided, OfflineGate

__all__ = ["HelloView", "asked_by_hello", "explain_hello"]


class HelloView(msgspec.Struct, kw_only=True):
    """What is wanted of a ClientHello, and whether one has it."""

    wants: dict[str, str]
    """By the keys of ``tls`` in a rule."""
    names: tuple[str, ...] = ()
    """What it has to name one of; none: anything, or what an address is called."""
    sni: str | None = None
    """The name in the hello that was judged; empty: it has none; absent: none was judged."""
    reason: str = ""
    """Why it is refused, as records write it."""
    mode: str = "splice"
    """What is done with TLS that passes."""
    opening: dict[str, str] = {}
    """How, where it is opened: by the keys of ``tls`` in a rule."""


def explain_hello(
    asked: Asked, rule: AnyRule | None, named: Decided | None = None
) -> HelloView | None:
    """Say what a rule that allows a connection wants of its hello; None: nothing.

    Args:
        asked: What is asked, with the name in the hello if one is to be judged.
        rule: That allows it.
        named: The answer about that name, of a client that named an address.
    """
    check = _check_of(asked, rule)
    if check is None:
        return None
    view = HelloView(
        wants={
            "sni": check.sni.value,
            "without_sni": check.without_sni.value,
            "address_as_sni": check.address_as_sni.value,
            "ech": check.ech.value,
            "not_tls": check.not_tls.value,
            "version_min": _VERSIONS.get(check.version_min, "any"),
        },
        names=_names_of(check, asked),
        sni=asked.sni,
    )
    _add_opening(view, check, asked)
    if asked.sni is not None:
        verdict = judge_hello(check, _facts_of(asked.sni), asked.host)
        view.reason = verdict.reason
        if verdict.leads_here is not None and named is not None:
            view.reason = _objection_to(named, verdict.leads_here, asked)
    return view


def asked_by_hello(gate: OfflineGate, asked: Asked, rule: AnyRule | None) -> Asked | None:
    """Return what a hello asks for that has to lead to the address that its client named."""
    check = _check_of(asked, rule)
    if check is None or asked.sni is None or not gate.is_proxy(asked.listener):
        return None
    host = judge_hello(check, _facts_of(asked.sni), asked.host).leads_here
    return None if host is None else replace(asked, host=host, addresses=None, sni=None)


def _add_opening(view: HelloView, check: TlsCheck, asked: Asked) -> None:
    host = asked.host
    if host is None:
        return
    if host.is_address and asked.sni:
        # Whom the name in the hello leads to is who the server has to be.
        host = judge_hello(check, _facts_of(asked.sni), host).leads_here or host
    mode = check.mode_for(host, asked.port)
    view.mode = mode.value
    if mode is TlsMode.INSPECT:
        opening = check.opening
        view.opening = {
            "unverified": opening.unverified.value,
            "client_certificates": opening.client_certificates.value,
            "not_http": opening.not_http.value,
        }


def _check_of(asked: Asked, rule: AnyRule | None) -> TlsCheck | None:
    if rule is None or rule.tls is None or asked.protocol != "tcp" or asked.is_web_request:
        return None
    port = rule.server.port if isinstance(rule, Publication) else asked.port
    return rule.tls if rule.tls.covers(port) else None


def _facts_of(sni: str) -> HelloFacts:
    return HelloFacts(True, sni or None, None, max(TLS_VERSIONS.values()))


def _names_of(check: TlsCheck, asked: Asked) -> tuple[str, ...]:
    if check.sni.value == "any":
        return ()
    if asked.host is None:
        return tuple(map(str, check.names))
    return () if asked.host.is_address else (asked.host.text,)


def _objection_to(named: Decided, host: CanonicalHost, asked: Asked) -> str:
    if named.destination is not None and not named.destination.is_allowed:
        return f"{SNI_NOT_ALLOWED}: {host} {named.destination.reason}"
    found = named.found
    if isinstance(found, Unresolved):
        return f"{SNI_ELSEWHERE}: {host} {found.reason}"
    address = None if asked.host is None else asked.host.address
    if found is not None and address not in {one.judgement.address for one in found.dialable}:
        return f"{SNI_ELSEWHERE}: {host}"
    return "" if named.is_allowed else f"{SNI_NOT_ALLOWED}: {host} {named.reason}"


_VERSIONS = {number: name for name, number in TLS_VERSIONS.items()}
