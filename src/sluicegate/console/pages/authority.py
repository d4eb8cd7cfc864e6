"""The certificate authority: what clients have to trust, how they are told, and its certificate.

The invariant: only certificates get here; no key ever leaves the process that signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.responses import Response

from sluicegate.access_limits import AUTHORITY_EXPIRY_WARNING_DAYS
from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry
from sluicegate.console.link import GateLost
from sluicegate.console.roles import Role
from sluicegate.tls.authority import name_for_people
from sluicegate.tls.trust_hints import PLATFORMS

__all__ = ["ENTRIES"]

_DAY_S: Final = 86_400
_NOT_FOUND: Final = 404
_FORMS: Final = {
    "pem": ("sluicegate-ca.pem", "application/x-pem-file"),
    "der": ("sluicegate-ca.cer", "application/pkix-cert"),
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """What people look at of one certificate."""

    name: str
    issuer: str
    serial: str
    sha256: str
    sha1: str
    key: str
    begins: float
    ends: float
    """Seconds since the Unix epoch."""
    days_left: int
    permitted: tuple[str, ...]
    """What alone it may certify; empty: whatever is not excluded."""
    excluded: tuple[str, ...]


async def _chain(asked: Asked) -> list[x509.Certificate]:
    """Return the certificate that signs, and those above it; empty: none signs."""
    await asked.console.sampler.look()
    status = asked.console.sampler.status
    if status is None:
        raise GateLost("the gate does not answer")
    return x509.load_pem_x509_certificates(status.authority.encode()) if status.authority else []


def _describe(certificate: x509.Certificate, now: float) -> Certificate:
    ends = certificate.not_valid_after_utc.timestamp()
    permitted, excluded = _constraints(certificate)
    return Certificate(
        name=name_for_people(certificate),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
        sha1=certificate.fingerprint(hashes.SHA1()).hex(":").upper(),  # noqa: S303 - as systems show it
        key=_describe_key(certificate),
        begins=certificate.not_valid_before_utc.timestamp(),
        ends=ends,
        days_left=int((ends - now) // _DAY_S),
        permitted=permitted,
        excluded=excluded,
    )


def _describe_key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case ec.EllipticCurvePublicKey() as key:
            return f"ECDSA, {key.curve.name}"
        case rsa.RSAPublicKey() as key:
            return f"RSA, {key.key_size} bits"
        case key:
            return type(key).__name__.strip("_")


def _constraints(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return (), ()
    permitted, excluded = found.permitted_subtrees or (), found.excluded_subtrees or ()
    return tuple(str(one.value) for one in permitted), tuple(str(one.value) for one in excluded)


async def _show(asked: Asked) -> Response:
    now = asked.console.clock.wall()
    status = asked.console.sampler.status
    return asked.page(
        "authority.html",
        chain=[_describe(one, now) for one in await _chain(asked)],
        leaves=status.leaves if status is not None else None,
        warning_days=AUTHORITY_EXPIRY_WARNING_DAYS,
        platforms=PLATFORMS,
    )


async def _export(asked: Asked) -> Response:
    chain = await _chain(asked)
    form = asked.form.get("form", "")
    if not chain or form not in _FORMS:
        asked.record("ca-export", form, result="failed", causes=("there is no such certificate",))
        return asked.page("authority_none.html", _NOT_FOUND)
    name, kind = _FORMS[form]
    encoding = serialization.Encoding.PEM if form == "pem" else serialization.Encoding.DER
    asked.record("ca-export", name)
    return Response(
        chain[0].public_bytes(encoding),
        media_type=kind,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


ENTRIES: Final = (
    Entry("/authority", _show),
    Entry(
        "/authority/export",
        _export,
        role=Role.ADMINISTRATOR,
        method="POST",
        needs_password=True,
    ),
)
