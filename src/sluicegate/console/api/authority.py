"""What the API can be asked about the certificate authority.

``operations`` has these in its table. The invariant: certificates are sent, and never a key.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from sluicegate.console.pages.authority import Certificate, describe_chain, export
from sluicegate.console.roles import Role
from sluicegate.gate.views import LeavesView

from .operation import Called, Operation, ProblemRaised, Proof

__all__ = ["OPERATIONS"]

_NOT_FOUND: Final = 404


class Authority(msgspec.Struct):
    """Who signs the certificates that clients see where TLS is opened."""

    chain: list[Certificate]
    """The one that signs, and those above it; none: none signs."""
    leaves: LeavesView | None


class Export(msgspec.Struct, forbid_unknown_fields=True):
    """How the certificate is wanted."""

    form: Literal["pem", "der"] = "pem"
    proof: Proof | None = None


class ExportedFile(msgspec.Struct):
    """The certificate that signs, as a file."""

    name: str
    type: str
    content: bytes
    """In base64."""


async def _authority(called: Called) -> Authority:
    return Authority(*await describe_chain(called.asked))


async def _export(called: Called) -> ExportedFile:
    wanted: Export = called.body
    exported = await export(called.asked, wanted.form)
    if exported is None:
        raise ProblemRaised(_NOT_FOUND, "this gate has no certificate authority")
    return ExportedFile(exported.name, exported.type, exported.content)


OPERATIONS: Final = (
    Operation(name="readAuthority", path="/authority", answer=_authority, reply=Authority,
              summary="The certificate authority, as clients have to trust it."),
    Operation(name="exportCertificate", path="/authority/export", method="POST",
              role=Role.ADMINISTRATOR, answer=_export, body=Export, reply=ExportedFile,
              needs_proof=True, summary="The certificate that signs, as a file.",
              failures={404: "There is no such certificate."}),
)  # fmt: skip
