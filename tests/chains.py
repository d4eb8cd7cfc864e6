"""Chains of certificates for servers, good and bad in every way: made when they are needed."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.pki import DAY, now

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

HOST = "www.server.test"
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@functools.cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """Return a key of this length, the same for all tests of a process: making one takes long."""
    return rsa.generate_private_key(65537, bits)


@dataclasses.dataclass(frozen=True)
class Certified:
    """A certificate, its key, and whoever issued it."""

    certificate: x509.Certificate
    key: Key
    issuer: Certified | None = None

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def name(self) -> x509.Name:
        return self.certificate.subject

    @property
    def sent(self) -> str:
        """What a server sends: its certificate, and its issuers but the root."""
        above = self.issuer
        return self.pem + (above.sent if above is not None and above.issuer is not None else "")

    def issue(
        self,
        common_name: str = HOST,
        names: Sequence[str | x509.GeneralName] | None = (HOST,),
        **options: object,
    ) -> Certified:
        return make(common_name, names, self, **options)  # type: ignore[arg-type]

    def authority(self, common_name: str = "intermediate", **options: object) -> Certified:
        return make(common_name, None, self, is_authority=True, usage=None, **options)  # type: ignore[arg-type]

    def revocations(self, *revoked: Certified, days: tuple[int, int] = (-1, 10)) -> str:
        """Return our list of revoked certificates, as PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now() + days[0] * DAY)
            .next_update(now() + days[1] * DAY)
        )
        for one in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(one.certificate.serial_number)
                .revocation_date(now() - DAY)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM).decode()

    def answer(
        self,
        about: Certified,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        *,
        signer: Certified | None = None,
        days: tuple[int, int | None] = (-1, 3),
        algorithm: hashes.HashAlgorithm | None = None,
        with_certificate: bool = True,
    ) -> bytes:
        """Return an answer about one of the certificates that we issued (OCSP)."""
        signer = signer or self
        is_revoked = status is ocsp.OCSPCertStatus.REVOKED
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                about.certificate,
                self.certificate,
                hashes.SHA1(),
                status,
                now() + days[0] * DAY,
                None if days[1] is None else now() + days[1] * DAY,
                now() - 2 * DAY if is_revoked else None,
                None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
        )
        if signer is not self and with_certificate:
            builder = builder.certificates([signer.certificate])
        signed = builder.sign(signer.key, algorithm or hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.DER)


PEM = serialization.Encoding.PEM


def make(
    common_name: str,
    names: Sequence[str | x509.GeneralName] | None,
    issuer: Certified | None = None,
    *,
    key: Key | None = None,
    is_authority: bool = False,
    path_length: int | None = None,
    usage: ObjectIdentifier | None = SERVER,
    days: tuple[int, int] = (-1, 30),
    signs_certificates: bool | None = None,
    permits: Sequence[x509.GeneralName] = (),
    excludes: Sequence[x509.GeneralName] = (),
    must_staple: bool = False,
    basic: bool = True,
    extension: x509.ExtensionType | None = None,
) -> Certified:
    """Make one certificate."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() + days[0] * DAY)
        .not_valid_after(now() + days[1] * DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if basic:
        constraints = x509.BasicConstraints(ca=is_authority, path_length=path_length)
        builder = builder.add_extension(constraints, True)
    if names:
        general = [_general(one) if isinstance(one, str) else one for one in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
    if extension is not None:
        builder = builder.add_extension(extension, False)
    if signs_certificates is None:
        signs_certificates = is_authority
    builder = builder.add_extension(_key_usage(signs=signs_certificates), True)
    if permits or excludes:
        limits = x509.NameConstraints(list(permits) or None, list(excludes) or None)
        builder = builder.add_extension(limits, True)
    if must_staple:
        feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
        builder = builder.add_extension(feature, False)
    signer = key if issuer is None else issuer.key
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(above, False)
    return Certified(builder.sign(signer, hashes.SHA256()), key, issuer)


def resigned(made: Certified, algorithm: hashes.HashAlgorithm) -> Certified:
    """Sign a certificate of an RSA issuer anew, by a hash that nobody should sign by any more."""
    assert made.issuer is not None
    signer = made.issuer.key
    assert isinstance(signer, rsa.RSAPrivateKey)
    by = {"sha1": b"\x05", "md5": b"\x04"}[algorithm.name]
    signed = made.certificate.tbs_certificate_bytes.replace(SHA256_RSA, SHA256_RSA[:-1] + by)
    signature = signer.sign(signed, padding.PKCS1v15(), algorithm)
    der = made.der.replace(made.certificate.tbs_certificate_bytes, signed)
    der = der.replace(SHA256_RSA, SHA256_RSA[:-1] + by)
    der = der.replace(made.certificate.signature, signature)
    return Certified(x509.load_der_x509_certificate(der), made.key, made.issuer)


SHA256_RSA = bytes.fromhex("06092a864886f70d01010b")
"""``sha256WithRSAEncryption``; those of the other hashes differ in the last byte."""


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


@functools.cache
def root(name: str = "root") -> Certified:
    """Return the root of this name, the same for all tests of a process."""
    return make(name, None, is_authority=True, usage=None, days=(-1, 60))


@functools.cache
def rsa_root() -> Certified:
    return make("rsa root", None, is_authority=True, usage=None, days=(-1, 60), key=rsa_key(2048))


@functools.cache
def intermediate(name: str = "intermediate") -> Certified:
    return root().authority(name)
