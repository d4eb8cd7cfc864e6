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
from sluicegate.gate.views import LeavesView
from sluicegate.tls.authority import name_for_people
from sluicegate.tls.trust_hints import PLATFORMS

__all__ = ["ENTRIES", "Certificate", "Exported", "describe_chain", "export"]

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


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that browsers and programs keep."""

    name: str
    type: str
    """Of its content."""
    content: bytes


async def _find_chain(asked: Asked) -> list[x509.Certificate]:
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


async def describe_chain(asked: Asked) -> tuple[list[Certificate], LeavesView | None]:
    """Return the certificate that signs, those above it, and what was signed.

    Raises:
        GateLost: The gate does not answer.
    """
    now = asked.console.clock.wall()
    chain = [_describe(one, now) for one in await _find_chain(asked)]
    status = asked.console.sampler.status
    return chain, status.leaves if status is not None else None


async def export(asked: Asked, form: str) -> Exported | None:
    """Return the certificate that signs, as a file, and have that recorded; None: there is none.

    Args:
        asked: Who wants it.
        form: ``pem`` or ``der``.

    Raises:
        GateLost: The gate does not answer.
    """
    chain = await _find_chain(asked)
    if not chain or form not in _FORMS:
        asked.record("ca-export", form, result="failed", causes=("there is no such certificate",))
        return None
    name, kind = _FORMS[form]
    encoding = serialization.Encoding.PEM if form == "pem" else serialization.Encoding.DER
    asked.record("ca-export", name)
    return Exported(name, kind, chain[0].public_bytes(encoding))


async def _show(asked: Asked) -> Response:
    chain, leaves = await describe_chain(asked)
    return asked.page(
        "authority.html",
        chain=chain,
        leaves=leaves,
        warning_days=AUTHORITY_EXPIRY_WARNING_DAYS,
        platforms=PLATFORMS,
    )


async def _export(asked: Asked) -> Response:
    exported = await export(asked, asked.form.get("form", ""))
    if exported is None:
        return asked.page("authority_none.html", _NOT_FOUND)
    return Response(
        exported.content,
        media_type=exported.type,
        headers={"Content-Disposition": f'attachment; filename="{exported.name}"'},
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
