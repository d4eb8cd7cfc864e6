"""Authorities, servers and minters for tests about leaves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluicegate.tls.authority import Authority, SigningKey, hash_for, usage
from sluicegate.tls.leaf import LeafFacts
from sluicegate.tls.leaf_fault import LeafFailure, LeafRefused
from sluicegate.tls.leaf_source import Leaf, LeafAnswer, LeafContext
from sluicegate.tls.server_fault import ServerFault
from sluicegate.tls.server_identity import ServerIdentity

DAY = 86400
NOW = 1_800_000_000.0


class Clock:
    """A wall clock that stands until it is moved."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def identity(
    host: str = "www.example.org",
    *,
    chain: bytes = b"chain",
    fault: ServerFault | None = None,
    key_type: str = "ec-secp256r1",
    days: tuple[float, float] = (-30, 60),
    alpn: str = "",
    now: float = NOW,
) -> ServerIdentity:
    return ServerIdentity(
        host=host,
        port=443,
        chain=(chain, b"root"),
        key_type=key_type,
        not_before=now + days[0] * DAY,
        not_after=now + days[1] * DAY,
        names=("*.example.org",),
        issuer="an authority",
        version="TLSv1.3",
        cipher="TLS_AES_128_GCM_SHA256",
        alpn=alpn,
        fault=fault,
    )


def authority_certificate(
    key: SigningKey,
    name: str = "an inspecting authority",
    *,
    days: tuple[float, float] = (-1, 3650),
    now: float = NOW,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    identifier: bytes | None = None,
    is_authority: bool = True,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime.fromtimestamp(now + days[0] * DAY, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(now + days[1] * DAY, dt.UTC))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
    )
    own = (
        x509.SubjectKeyIdentifier(identifier)
        if identifier is not None
        else x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    )
    builder = builder.add_extension(own, critical=False)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    return builder.sign(key, hash_for(key))


def authority(name: str = "an inspecting authority", **options: object) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority([authority_certificate(key, name, **options)], key)  # type: ignore[arg-type]


class LocalMinter:
    """Signs in this process, at once or when it is told to."""

    def __init__(
        self, trusted: Authority, untrusted: Authority, clock: Clock, *, is_slow: bool = False
    ) -> None:
        self.asked: list[LeafFacts] = []
        self.trusted, self.untrusted, self._clock = trusted, untrusted, clock
        self._is_slow = is_slow
        self._kept: list[Callable[[], None]] = []

    def mint(self, facts: LeafFacts, then: Callable[[Leaf | LeafFailure], None]) -> None:
        self.asked.append(facts)
        if self._is_slow:
            self._kept.append(lambda: then(self._sign(facts)))
        else:
            then(self._sign(facts))

    def go_on(self) -> None:
        kept, self._kept = self._kept, []
        for one in kept:
            one()

    def _sign(self, facts: LeafFacts) -> Leaf | LeafFailure:
        signs = self.trusted if facts.is_trusted else self.untrusted
        try:
            return signs.sign(facts, self._clock.wall())
        except LeafRefused as refused:
            return refused.failure


class Answers:
    """What a source has told."""

    def __init__(self) -> None:
        self.all: list[LeafAnswer] = []

    def __call__(self, answer: LeafAnswer) -> None:
        self.all.append(answer)

    @property
    def contexts(self) -> list[LeafContext]:
        assert not [one for one in self.all if isinstance(one, LeafFailure)]
        return self.all  # type: ignore[return-value]

    @property
    def context(self) -> LeafContext:
        (only,) = self.contexts
        return only

    @property
    def failure(self) -> LeafFailure:
        (only,) = self.all
        assert isinstance(only, LeafFailure)
        return only
