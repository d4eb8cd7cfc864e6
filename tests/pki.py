"""Certificates for tests, made when they are needed: authorities, servers, clients, and lists."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import ipaddress
import pathlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

UPN = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
DAY = dt.timedelta(days=1)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclasses.dataclass(frozen=True)
class Issued:
    """A certificate and its key, as PEM."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def write(self, folder: pathlib.Path, name: str) -> tuple[pathlib.Path, pathlib.Path]:
        """Write both, the key for its owner alone; return the paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_text(self.certificate_pem)
        key.touch(0o600)
        key.write_text(self.key_pem)
        return certificate, key


class Authority:
    """One certificate authority."""

    def __init__(self, name: str = "test authority") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name([(NameOID.COMMON_NAME, name)])
        builder = _builder(
            self.name, self.name, self.key.public_key(), now() - DAY, now() + 30 * DAY
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, True)
        ski = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = builder.add_extension(ski, False)
        self.certificate = builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def server(self, *names: str, **options: object) -> Issued:
        """Issue a server's certificate for names and addresses."""
        general: list[x509.GeneralName] = []
        for name in names:
            try:
                general.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                general.append(x509.DNSName(name))
        return self.issue([(NameOID.COMMON_NAME, names[0])], general, **options)

    def client(self, name: str = "", *, units: Sequence[str] = (), **options: object) -> Issued:
        """Issue a client's certificate with a common name and organizational units."""
        subject = [(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
        if name:
            subject.append((NameOID.COMMON_NAME, name))
        options.setdefault("usage", ExtendedKeyUsageOID.CLIENT_AUTH)
        general = options.pop("general", [])
        return self.issue(subject, general, **options)  # type: ignore[arg-type]

    def issue(
        self,
        subject: Sequence[tuple[ObjectIdentifier, str]],
        general: Sequence[x509.GeneralName],
        *,
        usage: ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
        days: tuple[int, int] = (-1, 10),
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(
            _name(subject),
            self.name,
            key.public_key(),
            now() + days[0] * DAY,
            now() + days[1] * DAY,
        )
        if general:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(general)), False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)

    def revocations(self, *revoked: Issued) -> str:
        """Return a list of revoked certificates, as PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now() - DAY)
            .next_update(now() + 10 * DAY)
        )
        for one in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(one.certificate.serial_number)
                .revocation_date(now() - DAY)
                .build()
            )
        signed = builder.sign(self.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()


def principal(name: str) -> x509.OtherName:
    """Return a user principal name, as Windows writes it into certificates."""
    encoded = name.encode()
    return x509.OtherName(UPN, bytes([0x0C, len(encoded)]) + encoded)


@functools.cache
def authority(name: str = "test authority") -> Authority:
    """Return the authority of this name, the same one for all tests of a process."""
    return Authority(name)


def _name(attributes: Sequence[tuple[ObjectIdentifier, str]]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begins: dt.datetime,
    ends: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
