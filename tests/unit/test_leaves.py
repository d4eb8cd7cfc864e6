"""What a leaf says, who may sign it, and which one a client gets: group G of the hostile cases."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from OpenSSL import SSL

from sluicegate.access_limits import LEAF_LIFETIME_S_MAX, LEAVES_PER_CHAIN_DIVISOR
from sluicegate.tls.authority import Authority, AuthorityUnusable
from sluicegate.tls.engine import TlsEngine
from sluicegate.tls.leaf import LeafFacts, name_of, validity_of
from sluicegate.tls.leaf_cache import LeafCache, LeafKey
from sluicegate.tls.leaf_fault import LeafFault, LeafRefused
from sluicegate.tls.leaf_keys import LeafKeys, public_der
from sluicegate.tls.leaf_source import Leaf, NoLeaves
from sluicegate.tls.name_constraints import constraints_on, is_permitted
from sluicegate.tls.server_fault import ServerFault
from sluicegate.tls.signed_leaves import SignedLeaves

from .leaf_kit import (
    DAY,
    NOW,
    Answers,
    Clock,
    LocalMinter,
    authority,
    authority_certificate,
    identity,
)
from .server_tls_kit import taken

EC_KEY = ec.generate_private_key(ec.SECP256R1())
TRUSTED = authority("trusted")
UNTRUSTED = authority("untrusted")
KEYS = LeafKeys(has_rsa=True)


def facts(
    host: str = "www.example.org",
    *,
    days: tuple[float, float] = (-1, 60),
    key: object = EC_KEY,
    is_trusted: bool = True,
) -> LeafFacts:
    first, last = int(NOW + days[0] * DAY), int(NOW + days[1] * DAY)
    return LeafFacts(host, public_der(key), first, last, is_trusted)  # type: ignore[arg-type]


def signed(by: Authority = TRUSTED, **options: object) -> x509.Certificate:
    leaf = by.sign(facts(**options), NOW)  # type: ignore[arg-type]
    return x509.load_der_x509_certificate(leaf.certificate)


def refusal(by: Authority = TRUSTED, **options: object) -> LeafFault:
    with pytest.raises(LeafRefused) as caught:
        by.sign(facts(**options), NOW)  # type: ignore[arg-type]
    return caught.value.failure.fault


class World:
    """A source of leaves whose signer is in this process."""

    def __init__(self, *, is_slow: bool = False, kept_max: int = 64) -> None:
        self.clock = Clock()
        self.minter = LocalMinter(TRUSTED, UNTRUSTED, self.clock, is_slow=is_slow)
        self.leaves = SignedLeaves(self.minter, KEYS, self.clock, kept_max=kept_max)

    def ask(self, *args: object, **options: object) -> Answers:
        answers = Answers()
        self.leaves.leaf_for(identity(*args, **options), answers)  # type: ignore[arg-type]
        return answers

    def leaf(self, *args: object, **options: object) -> Leaf:
        return self.ask(*args, **options).context.leaf


# -- what it says ----------------------------------------------------------------------------------


def test_leaf_is_for_the_host_that_was_asked_for_and_for_nothing_else() -> None:
    names = signed().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("www.example.org")]


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_leaf_of_an_address_has_the_address_and_no_name(host: str) -> None:
    leaf = signed(host=host)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.IPAddress(ipaddress.ip_address(host))]
    assert names.critical
    assert not leaf.subject.rdns


def test_name_that_is_too_long_for_a_common_name_is_in_the_alternative_names_alone() -> None:
    host = f"{'a' * 60}.example.org"
    leaf = signed(host=host)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == [host]
    assert names.critical
    assert not leaf.subject.rdns


@pytest.mark.parametrize(
    "host",
    ["*.example.org", "*", "", "www.example.org\0.evil.example", "a b", "ex/ample",
     "www.EXAMPLE.org", "münchen.example", "192.0.2.0/24", "[2001:db8::1]", "fe80::1%eth0\n"],
)  # fmt: skip
def test_no_leaf_is_signed_for_what_is_no_host(host: str) -> None:
    assert refusal(host=host) is LeafFault.NAME


def test_leaf_has_what_strict_clients_look_for_and_nothing_of_the_servers() -> None:
    leaf = signed()
    assert {one.oid: one.critical for one in leaf.extensions} == {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.EXTENDED_KEY_USAGE: False,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME: False,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    }  # neither CRL distribution points nor responders (G11), nor must-staple
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert not basic.ca
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert leaf.version is x509.Version.v3


def test_leaf_with_rsa_may_encrypt_keys_and_one_with_ec_may_not() -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    usages = [
        signed(key=key).extensions.get_extension_for_class(x509.KeyUsage).value
        for key in (rsa_key, EC_KEY)
    ]
    assert [one.key_encipherment for one in usages] == [True, False]
    assert all(one.digital_signature and not one.key_cert_sign for one in usages)


def test_serials_are_unique_and_as_random_as_twenty_bytes_allow() -> None:
    serials = [TRUSTED.sign(facts(), NOW).serial for _ in range(500)]
    assert len(set(serials)) == len(serials)
    assert all(0 < one < 1 << 159 for one in serials)
    assert sum(one.bit_length() > 150 for one in serials) > 490
    seen = 0
    for one in serials:
        seen |= one
    assert seen == (1 << 159) - 1, "some bit is never set"


def test_identifier_of_the_issuer_is_what_a_custom_authority_says_of_itself() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    own = Authority([authority_certificate(key, identifier=b"our own")], key)
    found = signed(own).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert found.key_identifier == b"our own"
    assert found.authority_cert_serial_number is None


def test_leaf_is_signed_by_the_authority_and_verifies() -> None:
    for by in (TRUSTED, UNTRUSTED):
        leaf = signed(by)
        leaf.verify_directly_issued_by(by.certificate)
        assert leaf.issuer == by.certificate.subject


# -- for how long ----------------------------------------------------------------------------------

VALIDITIES = [
    # the server's days around now, and the leaf's
    ((-30, 60), (-1, 60)),
    ((-0.5, 60), (-0.5, 60)),
    ((-300, 300), (-1, 196)),
    ((-300, 0.25), (-1, 0.25)),
    ((-0.5, 3650), (-0.5, 196.5)),
]


@pytest.mark.parametrize(("server", "leaf"), VALIDITIES)
def test_leaf_is_valid_no_longer_than_its_server_and_never_beyond_197_days(
    server: tuple[float, float], leaf: tuple[float, float]
) -> None:
    first, last = validity_of(identity(days=server), NOW)
    assert (first - NOW) / DAY == pytest.approx(leaf[0], abs=1e-4)
    assert (last - NOW) / DAY == pytest.approx(leaf[1], abs=1e-4)
    assert last - first + 1 <= LEAF_LIFETIME_S_MAX == 197 * DAY


def test_leaf_of_a_server_that_was_not_verified_is_valid_for_a_day_whatever_its_own_says() -> None:
    first, last = validity_of(identity(days=(-900, -300), fault=ServerFault.EXPIRED), NOW)
    assert (first - NOW, last - NOW) == (-DAY, DAY)


@pytest.mark.parametrize(
    ("days", "fault"),
    [((-1, 197), LeafFault.VALIDITY), ((-2, -1), LeafFault.VALIDITY), ((1, 2), LeafFault.VALIDITY)],
)
def test_signer_believes_no_worker_about_validity(
    days: tuple[float, float], fault: LeafFault
) -> None:
    assert refusal(days=days) is fault


def test_leaf_is_not_valid_beyond_its_authority() -> None:
    short = authority(days=(-0.25, 5))
    leaf = signed(short)
    assert leaf.not_valid_before_utc == short.certificate.not_valid_before_utc
    assert leaf.not_valid_after_utc == short.certificate.not_valid_after_utc


@pytest.mark.parametrize("days", [(-20, -10), (10, 20)])
def test_authority_that_is_not_valid_signs_nothing(days: tuple[float, float]) -> None:
    assert refusal(authority(days=days)) is LeafFault.AUTHORITY_EXPIRED


# -- who may sign ----------------------------------------------------------------------------------


def test_authority_with_another_key_is_refused() -> None:
    with pytest.raises(AuthorityUnusable, match="another certificate's"):
        Authority([TRUSTED.certificate], EC_KEY)


def test_certificate_that_is_no_authority_is_refused() -> None:
    with pytest.raises(AuthorityUnusable, match="CA:TRUE"):
        Authority([authority_certificate(EC_KEY, is_authority=False)], EC_KEY)


def test_authority_with_a_short_key_is_refused() -> None:
    key = rsa.generate_private_key(65537, 1024)
    with pytest.raises(AuthorityUnusable, match="1024"):
        Authority([authority_certificate(key)], key)


def test_key_of_a_kind_that_clients_do_not_know_is_not_signed() -> None:
    assert refusal(key=ed25519.Ed25519PrivateKey.generate()) is LeafFault.SIGNER_FAILED


def test_key_that_is_none_is_not_signed() -> None:
    with pytest.raises(LeafRefused) as caught:
        TRUSTED.sign(LeafFacts("a.example", b"no key", int(NOW), int(NOW) + 60, True), NOW)
    assert caught.value.failure.fault is LeafFault.SIGNER_FAILED


CONSTRAINED = [
    # permitted, excluded, host, whether it is permitted
    (["example.org"], [], "example.org", True),
    (["example.org"], [], "www.a.example.org", True),
    (["example.org"], [], "badexample.org", False),
    (["example.org"], [], "example.org.evil.example", False),
    (["example.org"], [], "192.0.2.1", False),
    (["example.org"], [], "2001:db8::1", False),
    (["*.example.org"], [], "www.example.org", True),
    ([".Example.ORG"], [], "www.example.org", True),
    (["example.org", "192.0.2.0/24"], [], "192.0.2.9", True),
    (["example.org", "192.0.2.0/24"], [], "198.51.100.9", False),
    (["192.0.2.0/24"], [], "example.org", False),
    ([], ["bank.example"], "www.bank.example", False),
    ([], ["bank.example"], "www.example.org", True),
    ([], ["bank.example"], "192.0.2.1", True),
    (["example.org"], ["secret.example.org"], "a.secret.example.org", False),
    (["2001:db8::/32"], [], "2001:db8::1", True),
    (["2001:db8::/32"], [], "2001:db9::1", False),
]


@pytest.mark.parametrize(("permitted", "excluded", "host", "expected"), CONSTRAINED)
def test_constraints_on_names_hold_for_us_as_for_clients(
    permitted: list[str], excluded: list[str], host: str, *, expected: bool
) -> None:
    constraint = constraints_on(permitted, excluded)
    own = authority(extensions=[(constraint, True)])
    assert is_permitted(name_of(host), own.certificate) is expected
    if not expected:
        assert refusal(own, host=host) is LeafFault.NOT_PERMITTED
        return
    assert signed(own, host=host)


@pytest.mark.parametrize(
    "text", ["", "*", "a b/8", "münchen.example", "example.org/24", "192.0.2.1/24"]
)
def test_constraint_that_is_neither_domain_nor_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a domain nor a network"):
        constraints_on([text], [])


# -- which one a client gets -----------------------------------------------------------------------

TOLD_APART = {
    "host": {"host": "other.example.org"},
    "chain": {"chain": b"another chain"},
    "verification": {"fault": ServerFault.EXPIRED},
    "another fault": {"fault": ServerFault.WRONG_HOST},
    "kind of key": {"key_type": "rsa-2048"},
    "size of key": {"key_type": "ec-secp384r1"},
    "begin": {"days": (-31, 60)},
    "end": {"days": (-30, 61)},
}


@pytest.mark.parametrize("change", TOLD_APART.values(), ids=TOLD_APART)
def test_servers_that_differ_never_share_a_leaf(change: dict[str, object]) -> None:
    world = World()
    first, other, again = world.leaf(), world.leaf(**change), world.leaf()
    assert first.serial != other.serial
    assert again.serial == first.serial
    assert len(world.minter.asked) == 2


def test_same_server_has_one_leaf_whatever_protocol_it_chooses() -> None:
    world = World()
    contexts = [world.ask(alpn=alpn).context for alpn in ("h2", "http/1.1", "h2", "")]
    assert len({one.leaf.serial for one in contexts}) == 1
    assert [one.alpn for one in contexts] == ["h2", "http/1.1", "h2", ""]
    assert contexts[0] is contexts[2]


def test_server_that_was_not_verified_never_gets_a_leaf_that_clients_trust() -> None:
    for fault in ServerFault:
        leaf = World().leaf(fault=fault)
        assert not leaf.is_trusted
        assert leaf.issuer == "untrusted"


def test_hundred_thousand_names_have_hundred_thousand_leaves() -> None:
    cache: LeafCache[Leaf] = LeafCache(10**6)
    for number in range(10**5):
        one = identity(f"n{number}.example.org")
        leaf = Leaf(one.host, b"", (), number, "", 0, int(NOW) + DAY, is_trusted=True)
        assert cache.find(LeafKey.of(one), NOW) is None
        cache.add(LeafKey.of(one), leaf)
    for number in range(10**5):
        found = cache.find(LeafKey.of(identity(f"n{number}.example.org")), NOW)
        assert found is not None
        assert (found.host, found.serial) == (f"n{number}.example.org", number)


def test_those_who_ask_at_once_get_one_leaf_that_was_signed_once() -> None:
    world = World(is_slow=True)
    waiting = [world.ask() for _ in range(50)]
    assert not any(one.all for one in waiting)
    world.minter.go_on()
    assert len(world.minter.asked) == 1
    assert len({one.context.leaf.serial for one in waiting}) == 1
    assert world.leaves.counts.joined == 49


def test_failure_is_told_to_all_who_wait_and_not_remembered() -> None:
    world = World(is_slow=True)
    waiting = [world.ask("*.example.org") for _ in range(3)]
    world.minter.go_on()
    assert [one.failure.fault for one in waiting] == [LeafFault.NAME] * 3
    world.ask("*.example.org")
    assert len(world.minter.asked) == 2


@pytest.mark.parametrize("host", ["www.example.org", "*.example.org"], ids=["leaf", "failure"])
def test_one_that_fails_when_it_is_told_keeps_nobody_else_waiting(host: str) -> None:
    world, server = World(is_slow=True), identity(host)

    def fail(_answer: object) -> None:
        raise LookupError("ours")

    before = Answers()
    world.leaves.leaf_for(server, before)
    for _ in range(2):
        world.leaves.leaf_for(server, fail)
    behind = Answers()
    world.leaves.leaf_for(server, behind)
    with pytest.raises(LookupError):
        world.minter.go_on()
    assert len(before.all) == len(behind.all) == 1


def test_leaf_that_could_not_even_be_asked_for_is_asked_for_anew() -> None:
    world = World()
    mint, world.minter.mint = world.minter.mint, None  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError):
        world.ask()
    world.minter.mint = mint  # type: ignore[method-assign]
    assert world.ask().context


def test_flood_of_new_names_is_refused_beyond_what_may_be_waited_for() -> None:
    world = World(is_slow=True)
    waiting = [world.ask(f"n{number}.example.org") for number in range(256)]
    late = world.ask("late.example.org")
    assert late.failure.reason == "leaf-too-many: LEAVES_WAITING_MAX (256)"
    world.minter.go_on()
    assert all(one.context for one in waiting)


def test_leaf_that_is_about_to_end_is_made_anew() -> None:
    world = World()
    before = world.leaf()
    world.clock.now += 60 * DAY - 300
    assert world.leaf().serial != before.serial
    world = World()
    before = world.leaf(fault=ServerFault.EXPIRED)
    world.clock.now += DAY - 300
    assert world.leaf(fault=ServerFault.EXPIRED).serial != before.serial


def test_names_at_random_drive_out_no_name_that_is_in_use() -> None:
    world = World(kept_max=64)
    hot = [identity(f"hot{number}.example.com", chain=b"hot%d" % number) for number in range(16)]
    for _ in range(2):
        for one in hot:
            world.leaves.leaf_for(one, Answers())
    chooses = random.Random(6)
    for number in range(1000):
        world.leaf(f"r{chooses.random()}.attack.example", chain=b"wildcard")
        if number % 100 == 0:
            world.leaves.leaf_for(hot[number // 100], Answers())
    minted = world.leaves.counts.minted
    for one in hot:
        world.leaves.leaf_for(one, Answers())
    assert world.leaves.counts.minted == minted, "a hot name was forgotten"


ATTACKS = {
    "one wildcard, each name twice": lambda n: {"host": f"r{n // 2}.attack.example", "chain": b"w"},
    "self-signed, each another chain, twice": lambda n: {
        "host": "attack.example",
        "chain": b"%d" % (n // 2),
        "fault": ServerFault.SELF_SIGNED,
    },
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_who_attacks_has_a_part_of_the_room_and_no_more(attack: object) -> None:
    world = World(kept_max=64)
    hot = [identity(f"hot{number}.example.com", chain=b"hot%d" % number) for number in range(40)]
    for one in hot:
        world.leaves.leaf_for(one, Answers())
    for number in range(500):
        world.ask(**attack(number))  # type: ignore[operator]
    assert world.leaves.kept == len(hot) + 64 // LEAVES_PER_CHAIN_DIVISOR
    minted = world.leaves.counts.minted
    for one in hot:
        world.leaves.leaf_for(one, Answers())
    assert world.leaves.counts.minted == minted


def test_there_are_never_more_leaves_than_there_may_be() -> None:
    world = World(kept_max=32)
    for number in range(200):
        world.leaf(f"n{number}.example", chain=b"%d" % number)
        assert world.leaves.kept <= 32


# -- keys and handshakes ---------------------------------------------------------------------------


def test_each_leaf_has_a_key_of_its_own_and_never_the_authoritys() -> None:
    world = World()
    keys = [
        x509.load_der_x509_certificate(world.leaf(f"n{number}.example").certificate).public_key()
        for number in range(5)
    ]
    own = {
        one.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for one in (*keys, TRUSTED.certificate.public_key())
    }
    assert len(own) == 6


@pytest.mark.parametrize(
    ("of_server", "of_leaf"),
    [
        ("rsa-2048", rsa.RSAPublicKey),
        ("rsa-4096", rsa.RSAPublicKey),
        ("ec-secp256r1", ec.EllipticCurvePublicKey),
        ("ec-secp384r1", ec.EllipticCurvePublicKey),
        ("ed25519", ec.EllipticCurvePublicKey),
    ],
)
def test_leaf_has_a_key_of_its_servers_kind(of_server: str, of_leaf: type) -> None:
    leaf = World().leaf(key_type=of_server)
    assert isinstance(x509.load_der_x509_certificate(leaf.certificate).public_key(), of_leaf)


def shake_hands(
    world: World, root: Authority, options: dict[str, object], *, offers: tuple[str, ...] = ()
) -> ssl.SSLObject:
    """Let a client of the standard library that trusts ``root`` meet a leaf; return its end."""
    theirs = world.ask(**options).context.engine()
    client = ssl.create_default_context(
        cadata=root.certificate.public_bytes(serialization.Encoding.DER)
    )
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    if offers:
        client.set_alpn_protocols(list(offers))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    host = str(options.get("host", "www.example.org"))
    ours = client.wrap_bio(incoming, outgoing, server_hostname=host)
    for _ in range(3):
        with contextlib.suppress(ssl.SSLWantReadError):
            ours.do_handshake()
        if outgoing.pending:
            theirs.feed(outgoing.read())
            theirs.shake_hands()
            incoming.write(taken(theirs))
    return ours


def live(**options: object) -> tuple[World, dict[str, object]]:
    """Return a world of today, for clients that look at the clock."""
    clock = Clock(_today())
    world = World()
    by = [authority("trusted", now=clock.now), authority("untrusted", now=clock.now)]
    world.clock = clock
    world.minter = LocalMinter(by[0], by[1], clock)
    world.leaves = SignedLeaves(world.minter, KEYS, clock)
    return world, {**options, "now": clock.now}


def _today() -> float:
    from sluicegate.clock import SystemClock

    return SystemClock().wall()


@pytest.mark.parametrize("key_type", ["ec-secp256r1", "rsa-2048"])
@pytest.mark.parametrize(
    "host", ["www.example.org", "192.0.2.1", "2001:db8::1", f"{'a' * 60}.example"]
)
def test_strict_client_that_trusts_the_authority_takes_a_leaf(host: str, key_type: str) -> None:
    world, options = live(host=host, key_type=key_type)
    trusted = world.minter.trusted
    assert shake_hands(world, trusted, options).version() == "TLSv1.3"


def test_client_that_trusts_the_authority_refuses_a_leaf_of_the_untrusted_one() -> None:
    world, options = live(fault=ServerFault.EXPIRED)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(world, world.minter.trusted, options)


@pytest.mark.parametrize(
    ("chosen", "offers", "agreed"),
    [
        ("h2", ("h2", "http/1.1"), "h2"),
        ("http/1.1", ("h2", "http/1.1"), "http/1.1"),
        ("", ("h2", "http/1.1"), None),
    ],
)
def test_client_is_offered_what_the_server_chose(
    chosen: str, offers: tuple[str, ...], agreed: str | None
) -> None:
    world, options = live(alpn=chosen)
    ours = shake_hands(world, world.minter.trusted, options, offers=offers)
    assert ours.selected_alpn_protocol() == agreed


def test_gate_without_an_authority_has_no_leaves() -> None:
    answers = Answers()
    NoLeaves().leaf_for(identity(), answers)
    assert answers.failure.fault is LeafFault.NO_AUTHORITY


# -- renegotiation ---------------------------------------------------------------------------------


def negotiate(client: SSL.Connection, server: TlsEngine) -> None:
    for _ in range(4):
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        pass_on(client, server)


def pass_on(client: SSL.Connection, server: TlsEngine) -> None:
    """Let what the client has written reach the server, and its answers the client."""
    while True:
        try:
            server.feed(client.bio_read(65536))
        except SSL.WantReadError:
            return
        memory = memoryview(bytearray(65536))
        if not server.shake_hands():
            client.bio_write(memory[: server.take_into(memory)])
            return
        server.read_into(memoryview(bytearray(100)))
        if count := server.take_into(memory):
            client.bio_write(memory[:count])


def test_who_wants_to_renegotiate_is_refused_and_what_was_agreed_on_stays() -> None:
    server = World().ask().context.engine()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    negotiate(client, server)
    before = client.get_cipher_name(), client.master_key()

    client.renegotiate()
    with pytest.raises(SSL.Error, match="no renegotiation"):
        negotiate(client, server)
    assert (client.get_cipher_name(), client.master_key()) == before
