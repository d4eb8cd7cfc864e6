"""Who is believed to be a server, and who is not: groups F1 to F7 and F10, in memory."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from sluicegate.tls import MinimumKey, Revocation, ServerFailure, ServerIdentity
from tests.chains import (
    HOST,
    Certified,
    intermediate,
    make,
    resigned,
    root,
    rsa_key,
    rsa_root,
)
from tests.unit.server_tls_kit import exchange, meet, server_context, trusting

WRONG_HOST = "server-certificate-wrong-host"
UNKNOWN = "server-revocation-unknown"

GOOD = [
    ("by the root itself", lambda: root().issue()),
    ("by an intermediate", lambda: intermediate().issue()),
    ("several names", lambda: root().issue(names=["other.test", HOST])),
    ("a wildcard for one label", lambda: root().issue(names=["*.server.test"])),
    ("upper case", lambda: root().issue(names=["WWW.Server.TEST"])),
    ("a name that is permitted", lambda: limited(permits=["server.test"]).issue()),
    ("RSA with 2048 bits", lambda: rsa_root().issue(key=rsa_key(2048))),
    ("no extended key usage", lambda: root().issue(usage=None)),
]


def limited(*, permits: list[str] | None = None, excludes: list[str] | None = None) -> Certified:
    """Return an intermediate that may certify some names only."""
    return root().authority(
        permits=[x509.DNSName(one) for one in permits or ()],
        excludes=[x509.DNSName(one) for one in excludes or ()],
    )


@pytest.mark.parametrize("make_one", [one for _, one in GOOD], ids=[one for one, _ in GOOD])
def test_a_server_with_a_good_certificate_is_verified(make_one: Callable[[], Certified]) -> None:
    shown = make_one()
    met = meet(trusting(root(), rsa_root()), server_context(shown))
    assert isinstance(met.outcome, ServerIdentity)
    assert met.outcome.is_verified
    assert met.outcome.chain[0] == shown.der
    assert met.outcome.chain[-1] in {root().der, rsa_root().der}, "up to the authority"
    assert exchange(met) == b"hello"


BAD = [
    # F1
    ("F1 expired", lambda: root().issue(days=(-9, -1)), "server-certificate-expired"),
    ("F1 not yet valid", lambda: root().issue(days=(1, 9)), "server-certificate-not-yet"),
    ("F1 wrong host", lambda: root().issue(names=["other.test"]), WRONG_HOST),
    ("F1 self-signed", lambda: make(HOST, [HOST]), "server-certificate-self-signed"),
    ("F1 untrusted root", lambda: root("other").issue(), "server-certificate-untrusted"),
    (
        "F1 an expired intermediate",
        lambda: root().authority(days=(-9, -1)).issue(),
        "server-certificate-expired",
    ),
    # F2
    ("F2 a common name, no other", lambda: root().issue(names=None), WRONG_HOST),
    (
        "F2 an e-mail address, no name",
        lambda: root().issue(names=[x509.RFC822Name(f"a@{HOST}")]),
        WRONG_HOST,
    ),
    # F3
    ("F3 a wildcard two deep", lambda: root().issue(names=["*.test"]), WRONG_HOST),
    ("F3 part of a label", lambda: root().issue(names=["w*.server.test"]), WRONG_HOST),
    ("F3 a wildcard inside", lambda: root().issue(names=["www.*.test"]), WRONG_HOST),
    ("F3 two wildcards", lambda: root().issue(names=["*.*.test"]), WRONG_HOST),
    ("F3 only a wildcard", lambda: root().issue(names=["*"]), WRONG_HOST),
    ("F3 a wildcard for the parent", lambda: root().issue(names=["*.www.server.test"]), WRONG_HOST),
    ("F3 a name that begins so", lambda: root().issue(names=["www.server.test.evil"]), WRONG_HOST),
    ("F3 a name that ends so", lambda: root().issue(names=["server.test"]), WRONG_HOST),
    ("F3 a final dot", lambda: root().issue(names=[f"{HOST}."]), WRONG_HOST),
    (
        "F3 a URI",
        lambda: root().issue(names=[x509.UniformResourceIdentifier(f"https://{HOST}")]),
        WRONG_HOST,
    ),
    # F4
    (
        "F4 outside what is permitted",
        lambda: limited(permits=["other.test"]).issue(),
        "server-certificate-constraints",
    ),
    (
        "F4 excluded",
        lambda: limited(excludes=["server.test"]).issue(),
        "server-certificate-constraints",
    ),
    (
        "F4 permitted itself, another name is not",
        lambda: limited(permits=["www.server.test"]).issue(names=[HOST, "bank.test"]),
        "server-certificate-constraints",
    ),
    (
        "F4 for clients",
        lambda: root().issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        "server-certificate-purpose",
    ),
    (
        "F4 for code",
        lambda: root().issue(usage=ExtendedKeyUsageOID.CODE_SIGNING),
        "server-certificate-purpose",
    ),
    (
        "F4 an intermediate for clients",
        lambda: make(
            "i", None, root(), is_authority=True, usage=ExtendedKeyUsageOID.CLIENT_AUTH
        ).issue(),
        "server-certificate-purpose",
    ),
    (
        "F4 a longer path than is allowed",
        lambda: root().authority(path_length=0).authority("second").issue(),
        "server-certificate-path-length",
    ),
    (
        "F4 issued by a server",
        lambda: root().issue("server", ["i.test"]).issue(),
        "server-certificate-issuer",
    ),
    (
        "F4 issued by who may not sign",
        lambda: root().authority(signs_certificates=False).issue(),
        "server-certificate-issuer",
    ),
    (
        "F4 issued by who says nothing of being an authority",
        lambda: make("i", None, root(), usage=None, basic=False, signs_certificates=False).issue(),
        "server-certificate-issuer",
    ),
    # F6
    (
        "F6 RSA with 1024 bits",
        lambda: rsa_root().issue(key=rsa_key(1024)),
        "server-certificate-weak-key",
    ),
    (
        "F6 an intermediate with 1024 bits",
        lambda: rsa_root().authority(key=rsa_key(1024)).issue(),
        "server-certificate-weak-key",
    ),
    (
        "F6 SHA-1",
        lambda: resigned(rsa_root().issue(), hashes.SHA1()),
        "server-certificate-weak-signature",
    ),
    (
        "F6 MD5",
        lambda: resigned(rsa_root().issue(), hashes.MD5()),
        "server-certificate-weak-signature",
    ),
    (
        "F6 an intermediate by SHA-1",
        lambda: resigned(rsa_root().authority(), hashes.SHA1()).issue(),
        "server-certificate-weak-signature",
    ),
    # F10
    ("F10 NUL behind a name", lambda: root().issue(names=[f"{HOST}\0.evil.test"]), WRONG_HOST),
    ("F10 NUL before a name", lambda: root().issue(names=[f"evil.test\0.{HOST}"]), WRONG_HOST),
]


@pytest.mark.parametrize(
    ("make_one", "code"), [one[1:] for one in BAD], ids=[one[0] for one in BAD]
)
def test_a_server_with_a_bad_certificate_is_refused_with_a_reason_and_told_by_an_alert(
    make_one: Callable[[], Certified], code: str
) -> None:
    met = meet(trusting(root(), rsa_root()), server_context(make_one()))
    assert isinstance(met.outcome, ServerFailure)
    assert met.verdict == code
    assert met.server_broken is not None, "the server believes that it was accepted"
    assert met.alert


@pytest.mark.parametrize(
    ("make_one", "code"), [one[1:] for one in BAD], ids=[one[0] for one in BAD]
)
def test_with_leave_the_handshake_goes_on_and_tells_what_is_wrong(
    make_one: Callable[[], Certified], code: str
) -> None:
    shown = make_one()
    met = meet(trusting(root(), rsa_root()), server_context(shown), accepts=True)
    assert isinstance(met.outcome, ServerIdentity)
    assert not met.outcome.is_verified
    assert met.outcome.verification == code
    assert met.outcome.chain[0] == shown.der
    exchange(met)
    assert met.client._sessions.count == 0, "nobody is believed for having been let through once"


def test_a_chain_without_its_intermediate_is_refused() -> None:
    shown = intermediate().issue()
    met = meet(trusting(), server_context(shown, sent=[]))
    assert met.verdict == "server-certificate-untrusted"


def test_a_chain_out_of_order_and_with_others_in_it_is_verified() -> None:
    first = root().authority("first")
    shown = first.authority("second").issue()
    second = shown.issuer
    assert second is not None
    sent = [root("other"), first, second]
    assert meet(trusting(), server_context(shown, sent=sent)).verdict == "verified"


ADDRESSES = [
    ("192.0.2.7", "192.0.2.7", "verified"),
    ("2001:db8::7", "2001:db8::7", "verified"),
    ("192.0.2.7", "192.0.2.8", WRONG_HOST),
    ("192.0.2.7", x509.DNSName("192.0.2.7"), WRONG_HOST),
    ("192.0.2.7", x509.DNSName("*.0.2.7"), WRONG_HOST),
    ("192.0.2.7", "::ffff:192.0.2.7", WRONG_HOST),
    ("192.0.2.7", HOST, WRONG_HOST),
]


@pytest.mark.parametrize(("address", "name", "verdict"), ADDRESSES)
def test_an_address_is_only_matched_by_an_address(
    address: str, name: str | x509.GeneralName, verdict: str
) -> None:
    shown = root().issue("server", [name])
    met = meet(trusting(), server_context(shown), address, is_address=True)
    assert met.verdict == verdict
    assert met.server.server_name == "", "an address is no server name (RFC 6066 section 3)"


def test_a_name_is_not_matched_by_an_address_that_looks_like_it() -> None:
    met = meet(trusting(), server_context(root().issue("server", ["192.0.2.7"])))
    assert met.verdict == WRONG_HOST


def test_what_an_operator_names_as_an_authority_is_one_also_in_the_middle_or_at_the_end() -> None:
    shown = intermediate().issue()
    assert meet(trusting(intermediate()), server_context(shown, sent=[])).verdict == "verified"
    alone = make(HOST, [HOST])
    assert meet(trusting(alone), server_context(alone)).verdict == "verified"


def test_longer_keys_may_be_demanded() -> None:
    shown = rsa_root().issue(key=rsa_key(2048))
    context = trusting(rsa_root(), minimum_key=MinimumKey.RSA_3072)
    assert meet(context, server_context(shown)).verdict == "server-certificate-weak-key"
    context = trusting(root(), minimum_key=MinimumKey.RSA_3072)
    assert meet(context, server_context(root().issue())).verdict == "verified"


# -- F7 --------------------------------------------------------------------------------------------


def only(version: int, ciphers: bytes = b"") -> Callable[[SSL.Context], None]:
    def change(context: SSL.Context) -> None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        if ciphers:
            context.set_cipher_list(ciphers + b":@SECLEVEL=0")

    return change


OLD = [
    ("TLS 1.0", only(SSL.TLS1_VERSION), "server-tls-version"),
    ("TLS 1.1", only(SSL.TLS1_1_VERSION), "server-tls-version"),
    ("NULL", only(SSL.TLS1_2_VERSION, b"eNULL"), "server-tls-alert"),
    ("anonymous", only(SSL.TLS1_2_VERSION, b"aNULL"), "server-tls-alert"),
    ("no forward secrecy", only(SSL.TLS1_2_VERSION, b"kRSA"), "server-tls-alert"),
    (
        "SHA-1 in the cipher",
        only(SSL.TLS1_2_VERSION, b"ECDHE-ECDSA-AES128-SHA"),
        "server-tls-alert",
    ),
]


@pytest.mark.parametrize(("change", "code"), [one[1:] for one in OLD], ids=[one[0] for one in OLD])
def test_a_server_that_speaks_only_what_is_broken_is_refused(
    change: Callable[[SSL.Context], None], code: str
) -> None:
    shown = rsa_root().issue(key=rsa_key(2048)) if "kRSA" in str(change) else root().issue()
    met = meet(trusting(root(), rsa_root()), server_context(shown, change=change))
    assert met.verdict == code


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_what_is_not_broken_is_spoken(version: int) -> None:
    met = meet(trusting(), server_context(root().issue(), change=only(version)))
    assert isinstance(met.outcome, ServerIdentity)
    assert met.outcome.version == {SSL.TLS1_2_VERSION: "TLSv1.2"}.get(version, "TLSv1.3")


def test_a_newer_version_may_be_demanded() -> None:
    context = trusting(minimum=ssl.TLSVersion.TLSv1_3)
    server = server_context(root().issue(), change=only(SSL.TLS1_2_VERSION))
    assert meet(context, server).verdict == "server-tls-version"


# -- F5: lists -------------------------------------------------------------------------------------

KNOWN, REQUIRED = Revocation.KNOWN, Revocation.REQUIRED


def test_a_list_is_asked_about_the_server_and_about_its_issuers() -> None:
    shown, other = intermediate().issue(), intermediate().issue()
    everything = intermediate().revocations() + root().revocations()
    context = trusting(revocation=REQUIRED, revocations=everything)
    assert meet(context, server_context(shown)).verdict == "verified"
    revoking = intermediate().revocations(shown) + root().revocations()
    context = trusting(revocation=REQUIRED, revocations=revoking)
    assert meet(context, server_context(shown)).verdict == "server-certificate-revoked"
    assert meet(context, server_context(other)).verdict == "verified"
    revoking = intermediate().revocations() + root().revocations(intermediate())
    context = trusting(revocation=KNOWN, revocations=revoking)
    assert meet(context, server_context(other)).verdict == "server-certificate-revoked"


LISTS = [
    ("none of its issuer", lambda: root("other").revocations(), "verified", UNKNOWN),
    ("one that has expired", lambda: root().revocations(days=(-9, -1)), UNKNOWN, UNKNOWN),
    ("one of the future", lambda: root().revocations(days=(1, 9)), UNKNOWN, UNKNOWN),
    (
        "one that somebody else signed",
        lambda: make("root", None, is_authority=True).revocations(),
        UNKNOWN,
        UNKNOWN,
    ),
]


@pytest.mark.parametrize(
    ("make_list", "known", "required"), [one[1:] for one in LISTS], ids=[one[0] for one in LISTS]
)
def test_a_list_that_is_no_use_is_never_taken_for_good(
    make_list: Callable[[], str], known: str, required: str
) -> None:
    server = server_context(root().issue())
    for revocation, verdict in ((KNOWN, known), (REQUIRED, required)):
        context = trusting(revocation=revocation, revocations=make_list())
        assert meet(context, server).verdict == verdict


def test_nothing_hides_that_a_certificate_was_revoked() -> None:
    shown = root().issue(names=["other.test"], days=(-9, -1))
    context = trusting(revocation=KNOWN, revocations=root().revocations(shown))
    met = meet(context, server_context(shown), accepts=True)
    assert met.verdict == "server-certificate-revoked"


def test_a_server_that_shows_what_is_no_certificate_is_refused() -> None:
    """Its names are not in the form that X.509 has for them."""
    broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x03\x82\x05ab")
    shown = make(HOST, None, root(), extension=broken)
    met = meet(trusting(), server_context(shown))
    assert met.verdict == "server-certificate-untrusted", "OpenSSL builds no chain with it"
