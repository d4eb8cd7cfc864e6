"""Servers that were verified a moment ago: what is dialled once, and what is verified anew."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Awaitable, Callable

import pytest

from sluicegate.access_limits import TLS_VALIDATION_KEPT_S, TLS_VALIDATIONS_KEPT_MAX
from sluicegate.gate.known_validations import KnownValidations
from sluicegate.gate.settings import ServiceSettings
from sluicegate.tls import MinimumKey, ServerIdentity, ServerProof
from tests.chains import root
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import Gate, play
from tests.flows.opening_kit import NAMES, SITE, Met, TlsOrigin, get, meets, plan_of, requests, rule
from tests.flows.tls_kit import client_context

VALIDATE = rule('mode = "validate"')


def server_trusting() -> ssl.SSLContext:
    context = client_context()
    context.load_verify_locations(cadata=root().pem)
    return context


def visits(
    between: Callable[[Gate], Awaitable[None]] | None = None,
    *,
    origin: TlsOrigin | None = None,
    plan: ServiceSettings | None = None,
    later: TlsOrigin | None = None,
) -> tuple[list[int], Gate, list[Met]]:
    """Let two clients come; return how many connections the server had after each."""
    server = origin or TlsOrigin()
    counts: list[int] = []
    met = [Met(), Met()]

    async def scenario(gate: Gate) -> None:
        serving = [server]

        async def serve(stream: object) -> None:
            counts[-1] += 1
            await serving[0].serve(stream)  # type: ignore[arg-type]

        gate.serve(serve, address=SITE)
        for number, one in enumerate(met):
            counts.append(0)
            peer = meets(requests(get()), met=one, context=server_trusting())
            await gate.ended(gate.call(peer))
            await gate.idle()
            if not number and between is not None:
                await between(gate)
            if later is not None:
                serving[0] = later

    names = Names()
    for known, found in NAMES.items():
        names.put(known, found)
    gate = play(scenario, plan or plan_of(VALIDATE), exchange=names)
    return counts, gate, met


def test_the_second_connection_within_a_minute_is_dialled_once() -> None:
    counts, gate, met = visits()
    assert counts == [2, 1]
    assert [[one.status for one in it.answers] for it in met] == [[200], [200]]
    assert [(one.tls, one.tls_verification) for one in gate.ends] == [("validate", "verified")] * 2


async def much_later(gate: Gate) -> None:
    later = gate.clock.monotonic() + TLS_VALIDATION_KEPT_S
    await gate.until(lambda: gate.clock.monotonic() > later)


async def other_settings(gate: Gate) -> None:
    plan = plan_of(VALIDATE)
    assert plan.server_tls is not None
    stricter = dataclasses.replace(plan.server_tls, minimum_key=MinimumKey.RSA_3072)
    await gate.service.apply(dataclasses.replace(plan, server_tls=stricter))


@pytest.mark.parametrize("between", [much_later, other_settings])
def test_it_is_verified_anew_later_and_by_other_settings(
    between: Callable[[Gate], Awaitable[None]],
) -> None:
    counts, _, _ = visits(between)
    assert counts == [2, 2]


def test_a_refusal_is_not_kept() -> None:
    wrong = TlsOrigin(root().issue(names=["other.example"]))
    counts, gate, met = visits(origin=wrong, later=TlsOrigin())
    assert counts == [1, 2]
    assert [one.outcome for one in gate.ends] == ["refused", "released"]
    assert [one.status for one in met[1].answers] == [200]


def proof(until: float = 1e9) -> ServerProof:
    identity = object.__new__(ServerIdentity)
    return ServerProof(identity, (), until)


def test_it_is_for_the_very_host_port_address_and_settings() -> None:
    known = KnownValidations()
    known.keep(("a.example", 443, SITE, 1), proof(), 0.0)
    assert known.find(("a.example", 443, SITE, 1), 1.0, 1.0) is not None
    for other in (
        ("b.example", 443, SITE, 1),
        ("a.example", 444, SITE, 1),
        ("a.example", 443, SITE.with_port(444), 1),
        ("a.example", 443, SITE, 2),
    ):
        assert known.find(other, 1.0, 1.0) is None


def test_it_is_never_longer_than_its_certificates_are_good() -> None:
    known, key = KnownValidations(), ("a.example", 443, SITE, 1)
    known.keep(key, proof(until=10.0), 0.0)
    assert known.find(key, 1.0, 9.0) is not None
    assert known.find(key, 1.0, 10.0) is None
    assert len(known) == 0


def test_the_oldest_is_forgotten_where_there_is_no_room() -> None:
    known = KnownValidations()
    for number in range(TLS_VALIDATIONS_KEPT_MAX + 1):
        known.keep((f"h{number}.example", 443, SITE, 1), proof(), 0.0)
    assert len(known) == TLS_VALIDATIONS_KEPT_MAX
    assert known.find(("h0.example", 443, SITE, 1), 1.0, 1.0) is None
    assert known.find(("h1.example", 443, SITE, 1), 1.0, 1.0) is not None
