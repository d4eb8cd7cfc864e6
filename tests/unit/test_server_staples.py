"""What a server staples, what it resumes, what it wants of us: groups F5 (OCSP) and F8."""

from __future__ import annotations

import pathlib
import stat
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL, crypto

from sluicegate.access_limits import (
    TLS_SERVER_SESSION_S_MAX,
    TLS_SERVER_SESSIONS_MAX,
    TLS_SERVER_SESSIONS_PER_SERVER_MAX,
)
from sluicegate.errors import ConfigError
from sluicegate.tls import (
    KeyLog,
    ServerContext,
    ServerFailure,
    ServerFault,
    ServerIdentity,
    ServerName,
    ServerTlsSettings,
    Stapling,
)
from sluicegate.tls.staple import read_staple
from tests.chains import HOST, Certified, intermediate, make, root, rsa_key, rsa_root
from tests.pki import now
from tests.unit.server_tls_kit import Met, exchange, meet, say_goodbye, server_context, trusting

CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
GOOD, REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED
UNKNOWN = ocsp.OCSPCertStatus.UNKNOWN


def responder(issuer: Certified, **options: object) -> Certified:
    """Return whom an issuer lets answer for it."""
    options.setdefault("usage", ExtendedKeyUsageOID.OCSP_SIGNING)
    return issuer.issue("responder", None, **options)


Answer = Callable[[Certified], bytes]
STAPLES: list[tuple[str, Answer, str, str]] = [
    # What it is; the answer; the verdict about a server whose certificate demands one, and about
    # one that stapled it unasked.
    ("nothing", lambda _: b"", "server-staple-missing", "verified"),
    ("good", lambda c: root().answer(c), "verified", "verified"),
    (
        "good, by whom the issuer lets answer",
        lambda c: root().answer(c, signer=responder(root())),
        "verified",
        "verified",
    ),
    (
        "revoked",
        lambda c: root().answer(c, REVOKED),
        "server-certificate-revoked",
        "server-certificate-revoked",
    ),
    (
        "unknown",
        lambda c: root().answer(c, UNKNOWN),
        "server-staple-invalid",
        "server-staple-invalid",
    ),
    (
        "by another authority of the same name",
        lambda c: make("root", None, is_authority=True).answer(c),
        "server-staple-invalid",
        "server-staple-invalid",
    ),
    (
        "by a server's own key",
        lambda c: root().answer(c, signer=c),
        "server-staple-invalid",
        "server-staple-invalid",
    ),
    (
        "by a certificate that may not answer",
        lambda c: root().answer(
            c, signer=responder(root(), usage=ExtendedKeyUsageOID.CODE_SIGNING)
        ),
        "server-staple-invalid",
        "server-staple-invalid",
    ),
    (
        "by whom another authority lets answer",
        lambda c: root().answer(c, signer=responder(root("other"))),
        "server-staple-invalid",
        "server-staple-invalid",
    ),
    (
        "by a responder whose certificate has expired",
        lambda c: root().answer(c, signer=responder(root(), days=(-9, -1))),
        "server-staple-invalid",
        "server-staple-invalid",
    ),
    (
        "by a responder that does not show its certificate",
        lambda c: root().answer(c, signer=responder(root()), with_certificate=False),
        "server-staple-invalid",
        "server-staple-invalid",
    ),
    (
        "of last month",
        lambda c: root().answer(c, days=(-30, -20)),
        "server-staple-stale",
        "server-staple-stale",
    ),
    (
        "of last month, without an end",
        lambda c: root().answer(c, days=(-30, None)),
        "server-staple-stale",
        "server-staple-stale",
    ),
    (
        "of last month, valid for a year",
        lambda c: root().answer(c, days=(-30, 300)),
        "server-staple-stale",
        "server-staple-stale",
    ),
    (
        "of tomorrow",
        lambda c: root().answer(c, days=(1, 3)),
        "server-staple-stale",
        "server-staple-stale",
    ),
    (
        "try later",
        lambda _: ocsp.OCSPResponseBuilder.build_unsuccessful(
            ocsp.OCSPResponseStatus.TRY_LATER
        ).public_bytes(Encoding.DER),
        "server-staple-missing",
        "verified",
    ),
]


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize(
    ("make_answer", "demanded", "unasked"),
    [one[1:] for one in STAPLES],
    ids=[one[0] for one in STAPLES],
)
def test_a_stapled_answer_is_judged(
    make_answer: Answer, demanded: str, unasked: str, version: int
) -> None:
    def only(context: SSL.Context) -> None:
        context.set_max_proto_version(version)

    for verdict, must_staple in ((demanded, True), (unasked, False)):
        shown = root().issue(must_staple=must_staple)
        server = server_context(shown, staple=make_answer(shown), change=only)
        met = meet(trusting(), server)
        assert met.verdict == verdict
        assert isinstance(met.outcome, ServerFailure) == (verdict != "verified")
        assert bool(met.alert) == (verdict != "verified"), "it is told by an alert"


def test_a_stapled_answer_may_be_demanded_of_everybody() -> None:
    context = trusting(stapling=Stapling.REQUIRED)
    shown = intermediate().issue()
    assert meet(context, server_context(shown)).verdict == "server-staple-missing"
    server = server_context(shown, staple=intermediate().answer(shown))
    assert meet(context, server).verdict == "verified"


def test_nobody_answers_for_a_certificate_that_is_an_authority_itself() -> None:
    alone = make(HOST, [HOST], must_staple=True)
    server = server_context(alone, staple=root().answer(alone))
    assert meet(trusting(alone), server).verdict == "server-staple-missing"


def test_an_answer_signed_with_rsa_is_verified_too() -> None:
    shown = rsa_root().issue(key=rsa_key(2048), must_staple=True)
    server = server_context(shown, staple=rsa_root().answer(shown))
    assert meet(trusting(rsa_root()), server).verdict == "verified"


NO_ANSWERS: list[tuple[str, Callable[[], bytes]]] = [
    ("about another certificate", lambda: root().answer(root().issue())),
    ("of another issuer", lambda: root("other").answer(_SHOWN)),
    ("no answer", lambda: b"no answer"),
    ("an answer and more", lambda: _ANSWER + b"\0"),
    ("half an answer", lambda: _ANSWER[: len(_ANSWER) // 2]),
]
"""OpenSSL does not even send them."""


@pytest.mark.parametrize(
    "make_answer", [one for _, one in NO_ANSWERS], ids=[one for one, _ in NO_ANSWERS]
)
def test_an_answer_about_something_else_is_none(make_answer: Callable[[], bytes]) -> None:
    read = read_staple(make_answer(), _SHOWN.certificate, root().certificate, now().timestamp())
    assert read.fault is ServerFault.STAPLE_INVALID


@given(st.data())
def test_an_answer_that_was_changed_anywhere_is_never_good_unless_it_says_the_same(
    data: st.DataObject,
) -> None:
    shown = _SHOWN
    answer = bytearray(_ANSWER)
    place = data.draw(st.integers(0, len(answer) - 1))
    answer[place] ^= data.draw(st.integers(1, 255))
    read = read_staple(bytes(answer), shown.certificate, root().certificate, now().timestamp())
    if read.fault is None:
        # Only what is not signed and says nothing may differ.
        before, after = (
            ocsp.load_der_ocsp_response(_ANSWER),
            ocsp.load_der_ocsp_response(bytes(answer)),
        )
        assert before.tbs_response_bytes == after.tbs_response_bytes


@given(st.binary(max_size=200))
def test_no_bytes_make_a_good_answer_or_raise(encoded: bytes) -> None:
    read = read_staple(encoded, _SHOWN.certificate, root().certificate, now().timestamp())
    assert read.fault in {ServerFault.STAPLE_INVALID, ServerFault.STAPLE_MISSING}


_SHOWN: Certified = root().issue()
_ANSWER: bytes = root().answer(_SHOWN)


# -- F8: servers that want a certificate -----------------------------------------------------------


def wanting(*, is_needed: bool, version: int) -> Callable[[SSL.Context], None]:
    mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if is_needed else 0)

    def change(context: SSL.Context) -> None:
        context.set_max_proto_version(version)
        store = context.get_cert_store()
        assert store is not None
        store.add_cert(crypto.X509.from_cryptography(root().certificate))
        context.set_verify(mode, lambda *given: bool(given[-1]))

    return change


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_server_that_would_like_a_certificate_is_known_for_it(version: int) -> None:
    server = server_context(root().issue(), change=wanting(is_needed=False, version=version))
    met = meet(trusting(), server)
    assert isinstance(met.outcome, ServerIdentity)
    assert met.outcome.is_verified
    assert met.outcome.wants_certificate
    assert exchange(met) == b"hello"


def test_one_that_does_not_ask_is_not() -> None:
    met = meet(trusting(), server_context(root().issue()))
    assert isinstance(met.outcome, ServerIdentity)
    assert not met.outcome.wants_certificate


def test_one_that_needs_it_fails_with_that_reason_or_is_known_for_it() -> None:
    """With TLS 1.3 a server says so behind the handshake, when the outcome has been told."""
    change = wanting(is_needed=True, version=SSL.TLS1_2_VERSION)
    met = meet(trusting(), server_context(root().issue(), change=change))
    assert met.verdict == "server-wants-certificate"
    change = wanting(is_needed=True, version=SSL.TLS1_3_VERSION)
    met = meet(trusting(), server_context(root().issue(), change=change))
    assert isinstance(met.outcome, ServerIdentity)
    assert met.outcome.wants_certificate


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_one_that_needs_it_gets_ours_where_there_is_one(version: int) -> None:
    ours = root().issue("gate", ["gate.test"], usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    context = trusting(certificate=ours.pem, key=ours.key_pem)
    change = wanting(is_needed=True, version=version)
    met = meet(context, server_context(root().issue(), change=change))
    assert isinstance(met.outcome, ServerIdentity)
    assert not met.outcome.wants_certificate, "it got one"
    assert exchange(met) == b"hello"
    shown = met.server.peer_certificate()
    assert shown == ours.certificate


# -- sessions --------------------------------------------------------------------------------------


class Wall:
    """The machine's clock; the chains of these tests are good whatever it says."""

    def __init__(self) -> None:
        self.now = now().timestamp()

    def __call__(self) -> float:
        return self.now


def resuming(wall: Wall, **changes: object) -> ServerContext:
    return ServerContext(ServerTlsSettings(root().pem, **changes), wall=wall)  # type: ignore[arg-type]


def talked(context: ServerContext, server: SSL.Context, host: str = HOST) -> Met:
    met = meet(context, server, host, protocols=("http/1.1",))
    assert met.verdict == "verified"
    assert exchange(met) == b"hello"
    say_goodbye(met)
    return met


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_later_handshake_is_shortened_and_has_the_identity_that_was_verified(
    version: int,
) -> None:
    context, server = (
        resuming(Wall()),
        server_context(root().issue(), change=lambda one: one.set_max_proto_version(version)),
    )
    first, second = talked(context, server), talked(context, server)
    assert not first.client.is_resumed
    assert second.client.is_resumed
    assert second.outcome == first.outcome
    assert talked(context, server).client.is_resumed, "a resumed one gives a session, too"


def test_a_session_is_for_one_name_one_list_of_protocols_and_one_set_of_settings() -> None:
    context = resuming(Wall())
    server = server_context(root().issue(names=[HOST, "other.test"]))
    talked(context, server)
    assert not talked(context, server, "other.test").client.is_resumed
    assert not meet(context, server, protocols=("h2", "http/1.1")).client.is_resumed
    assert not talked(resuming(Wall()), server).client.is_resumed
    assert talked(context, server).client.is_resumed


def test_a_session_is_used_no_longer_than_what_its_verification_rests_on() -> None:
    wall = Wall()
    context, server = resuming(wall), server_context(root().issue())
    talked(context, server)
    wall.now += TLS_SERVER_SESSION_S_MAX - 1
    assert talked(context, server).client.is_resumed
    wall.now += 2
    assert not talked(context, server).client.is_resumed, "it was verified an hour ago"


def test_a_session_ends_with_the_first_certificate_of_its_chain() -> None:
    wall = Wall()
    soon = root().authority("soon", days=(-1, 1))
    context, server = resuming(wall), server_context(soon.issue(days=(-1, 9)))
    met = talked(context, server)
    verification = met.client._verification
    assert verification.good_until == soon.certificate.not_valid_after_utc.timestamp()
    wall.now = verification.good_until + 1
    assert context.sessions.take((ServerName(HOST, 443), ("http/1.1",)), wall.now) is None


def test_a_session_ends_with_the_stapled_answer() -> None:
    shown = root().issue(must_staple=True)
    context = resuming(Wall())
    met = talked(context, server_context(shown, staple=root().answer(shown, days=(-1, 3))))
    ends = met.client._verification.good_until
    assert ends < shown.certificate.not_valid_after_utc.timestamp()


def test_sessions_are_bounded_and_the_server_used_longest_ago_makes_room() -> None:
    context, server = resuming(Wall()), server_context(root().issue())
    met = talked(context, server)
    kept = context.sessions.take(met.client._key, Wall().now)
    assert kept is not None
    for number in range(TLS_SERVER_SESSIONS_MAX + 100):
        context.sessions.keep((ServerName(f"{number}.test", 443), ()), kept)
    assert context.sessions.count == TLS_SERVER_SESSIONS_MAX
    assert context.sessions.take((ServerName("0.test", 443), ()), Wall().now) is None
    last = ServerName(f"{TLS_SERVER_SESSIONS_MAX + 99}.test", 443)
    for _ in range(TLS_SERVER_SESSIONS_PER_SERVER_MAX + 3):
        context.sessions.keep((last, ()), kept)
    taken = 0
    while context.sessions.take((last, ()), Wall().now) is not None:
        taken += 1
    assert taken == TLS_SERVER_SESSIONS_PER_SERVER_MAX


# -- the log of keys -------------------------------------------------------------------------------


def test_keys_are_logged_where_an_operator_says_so_and_for_the_owner_alone(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "keys.log"
    log = KeyLog(str(path))
    try:
        context = ServerContext(ServerTlsSettings(root().pem), log)
        meet(context, server_context(root().issue()))
    finally:
        log.close()
    lines = path.read_text().splitlines()
    assert {one.split()[0] for one in lines} >= {"CLIENT_TRAFFIC_SECRET_0"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("what", ["readable", "a link", "a folder"])
def test_a_log_of_keys_that_others_can_read_or_move_is_refused(
    tmp_path: pathlib.Path, what: str
) -> None:
    path = tmp_path / "keys.log"
    if what == "a folder":
        path.mkdir()
    elif what == "a link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.touch()
        path.chmod(0o644)
    with pytest.raises(ConfigError) as raised:
        KeyLog(str(path))
    assert raised.value.where == "key_log"


def test_a_log_of_keys_that_was_closed_writes_to_nobody(tmp_path: pathlib.Path) -> None:
    """A handshake that is under way at a reload tells its keys to the log before."""
    log = KeyLog(str(tmp_path / "keys.log"))
    log.close()
    with (tmp_path / "another").open("wb") as another:
        log._write(None, b"CLIENT_RANDOM 00 00")  # type: ignore[arg-type]
        assert another.tell() == 0
    assert (tmp_path / "another").read_bytes() == b""
    assert (tmp_path / "keys.log").read_bytes() == b""
