"""``[ca]`` of ``sluicegate.toml``: the authority that signs what clients see where TLS is opened.

``config`` puts the table into its model, ``authority_files`` opens what it names. The invariant:
what is here is no secret; workers are given it, and nothing that leads them to the keys.
"""

from __future__ import annotations

import pathlib
import ssl
from dataclasses import dataclass
from typing import Final, Literal

import pydantic

from sluicegate.documents import Document, Findings, Model
from sluicegate.tls.pkcs11_uri import parse_pkcs11_uri

from .secret_files import SecretTable

__all__ = ["AuthoritySettings", "AuthorityTable", "TokenSettings", "TokenTable", "to_authority"]


class TokenTable(Model):
    """``token`` of ``[ca]``."""

    uri: str = pydantic.Field(min_length=1, examples=["pkcs11:token=gate;object=sluicegate-ca"])
    module: str = pydantic.Field(default="", examples=["/usr/lib/softhsm/libsofthsm2.so"])
    """The library of the token's maker; default: ``module-path`` in the URI."""
    pin: SecretTable | None = None


class AuthorityTable(Model):
    """``[ca]``."""

    dir: str = pydantic.Field(default="", description="default: ca in state_dir")
    token: TokenTable | None = None
    """Where the key is, if it is not ``ca.key`` in ``dir``."""
    leaf_keys: Literal["mirror", "ec"] = "mirror"
    """RSA for servers that have RSA, or P-256 for all."""
    minimum: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that clients may speak inside."""


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """A key in a token, without what opens it."""

    uri: str
    module: str
    pin: SecretTable | None


@dataclass(frozen=True, slots=True)
class AuthoritySettings:
    """What ``[ca]`` says."""

    folder: pathlib.Path
    """Of certificates and keys; no process but the signer's reads in it."""
    token: TokenSettings | None = None
    has_rsa_leaves: bool = True
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2

    @property
    def certificate_path(self) -> pathlib.Path:
        """The certificate of the authority that clients trust, and what is sent with leaves."""
        return self.folder / "ca.pem"

    @property
    def key_path(self) -> pathlib.Path:
        """Its key, unless a token has it."""
        return self.folder / "ca.key"

    @property
    def untrusted_certificate_path(self) -> pathlib.Path:
        """The certificate of the authority that nobody is to trust."""
        return self.folder / "untrusted.pem"

    @property
    def untrusted_key_path(self) -> pathlib.Path:
        """Its key."""
        return self.folder / "untrusted.key"


def to_authority(
    table: AuthorityTable | None,
    folder: pathlib.Path,
    state_dir: pathlib.Path,
    document: Document,
    findings: Findings,
) -> AuthoritySettings | None:
    """Return the settings; None without ``[ca]``, or, with a finding, when they are wrong.

    Args:
        table: As it was written.
        folder: Where relative paths begin.
        state_dir: Where the gate keeps what is its own.
        document: Where it was written.
        findings: Where errors go.
    """
    if table is None:
        return None
    token = None
    if table.token is not None:
        token = _to_token(table.token, document, findings)
        if token is None:
            return None
    return AuthoritySettings(
        folder=folder / table.dir if table.dir else state_dir / "ca",
        token=token,
        has_rsa_leaves=table.leaf_keys == "mirror",
        minimum=_VERSIONS[table.minimum],
    )


def _to_token(table: TokenTable, document: Document, findings: Findings) -> TokenSettings | None:
    try:
        uri = parse_pkcs11_uri(table.uri)
    except ValueError as error:
        findings.refuse(document.where(("ca", "token", "uri")), str(error), _URI_CURE)
        return None
    module = table.module or uri.module_path
    if not module:
        findings.refuse(
            document.where(("ca", "token")),
            "does not say by which library",
            'module = "/usr/lib/softhsm/libsofthsm2.so", for example',
        )
        return None
    return TokenSettings(table.uri, module, table.pin)


_URI_CURE: Final = 'for example "pkcs11:token=gate;object=sluicegate-ca", and pin = { file = "…" }'
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
