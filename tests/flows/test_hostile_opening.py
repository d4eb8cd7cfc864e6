"""Group F where TLS is opened: what a client is shown of a server that is not who it should be.

The certificates are those of ``unit/test_server_verification``; what is new here is the client,
which must see a failure, or an authority that it does not know, and never a leaf that it trusts.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from sluicegate.testing.peers import PeerStream
from tests.chains import HOST, Certified, root, rsa_root
from tests.flows.entry_kit import Names
from tests.flows.opening_kit import (
    NAME,
    Opened,
    TlsOrigin,
    client_context,
    get,
    open_tls,
    plan_of,
    rule,
    trusted,
    untrusted,
)
from tests.flows.tls_kit import server_context
from tests.unit.test_server_verification import BAD
from tests.unit.test_server_verification import GOOD as GOOD_SERVERS

ids = [one[0] for one in BAD]


def server_of(shown: Certified) -> TlsOrigin:
    """Return a server with a certificate that OpenSSL itself would not show."""
    origin = TlsOrigin()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    origin.context = server_context(shown, into=context)
    return origin


def ask(shown: Certified, tls: str, context: ssl.SSLContext | None = None) -> Opened:
    names = Names().put(HOST, "93.184.216.34")
    plan = plan_of(rule(tls, to=f'"{HOST}"'), (), root(), rsa_root())
    asked = get("/", HOST)
    origin = server_of(shown)
    return open_tls(
        asked, origin=origin, plan=plan, names=names, name=HOST, host=HOST, context=context
    )


@pytest.mark.parametrize("make_one", [one[1] for one in GOOD_SERVERS], ids=lambda _: "")
def test_f_good_servers_are_opened(make_one: Callable[[], Certified]) -> None:
    found = ask(make_one(), 'mode = "inspect"')

    assert found.met.statuses == [200]
    assert found.end.tls_verification == "verified"


@pytest.mark.parametrize(("make_one", "code"), [one[1:] for one in BAD], ids=ids)
def test_f9_nothing_is_signed_and_nothing_sent_where_a_server_is_not_verified(
    make_one: Callable[[], Certified], code: str
) -> None:
    found = ask(make_one(), 'mode = "inspect"')

    assert found.end.outcome == "refused"
    assert found.end.reason.partition(":")[0] == code
    assert found.end.tls_verification == code
    assert found.minter.asked == []
    assert found.met.issuer == ""
    assert found.origin.seen == []


@pytest.mark.parametrize(("make_one", "code"), [one[1:] for one in BAD], ids=ids)
def test_f9_a_server_that_a_rule_lets_be_shown_has_a_leaf_that_nobody_trusts(
    make_one: Callable[[], Certified], code: str
) -> None:
    shown, tls = make_one(), 'mode = "inspect", unverified = "show"'
    found = ask(shown, tls)
    assert found.met.error == "CERTIFICATE_VERIFY_FAILED", "a client that trusts the gate's own"
    assert found.origin.seen == []

    found = ask(shown, tls, client_context("http/1.1", knows=untrusted()))
    assert found.met.statuses == [200]
    assert found.end.tls_verification == code
    assert trusted().certificate.subject != untrusted().certificate.subject


def test_f9_a_server_that_was_shown_is_asked_again_only_with_the_same_certificate() -> None:
    expired, other = (root().issue(names=[HOST], days=(-9, -1)) for _ in range(2))
    for later, statuses in ((expired, [200, 200]), (other, [200, 502])):
        origin = server_of(expired)
        origin.closes = True

        async def changes(stream: PeerStream, origin: TlsOrigin = origin) -> None:
            await TlsOrigin.serve(origin, stream)
            origin.context = server_context(later)  # noqa: B023 - it is called in the loop

        origin.serve = changes  # type: ignore[method-assign]
        names = Names().put(HOST, "93.184.216.34")
        tls = 'mode = "inspect", unverified = "show"'
        found = open_tls(
            get("/", HOST),
            get("/", HOST),
            origin=origin,
            plan=plan_of(rule(tls, to=f'"{HOST}"'), (), root()),
            names=names,
            name=HOST,
            host=HOST,
            context=client_context("http/1.1", knows=untrusted()),
        )
        assert found.met.statuses == statuses
        if later is other:
            assert found.reasons[-1] == "inside-other-server"


@pytest.mark.parametrize("server", [("http/1.1",), ("h2", "http/1.1"), ("h2",), ()], ids=str)
@pytest.mark.parametrize("client", [("http/1.1",), ("h2", "http/1.1"), ()], ids=str)
def test_e15_no_client_agrees_on_what_its_server_did_not(
    client: tuple[str, ...], server: tuple[str, ...]
) -> None:
    shown = root().issue(names=[NAME])
    origin = TlsOrigin(context=server_context(shown, protocols=server))
    found = open_tls(get(), origin=origin, context=client_context(*client))

    chosen = origin.ends[0].selected_alpn_protocol()
    assert found.met.alpn == chosen
    assert chosen in {None, *client}
    if chosen != "h2":  # this client speaks HTTP/1 whatever it has agreed on
        assert found.met.statuses == [200]
