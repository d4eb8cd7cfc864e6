"""Passwords, keys, certificates and pages that ``sluicegate.toml`` leads to, read once for all.

``load`` makes one and hands it to whoever needs a file; the supervisor, which may read them, passes
what it read to its workers, which may not. The invariant: what a worker is given is what the
supervisor checked, and a secret is in no message about what is wrong with it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import pydantic

from sluicegate.access_limits import SECRET_FILE_BYTES_MAX
from sluicegate.documents import Document, Findings, Model, read_document
from sluicegate.documents.places import KeyPath
from sluicegate.errors import ConfigError
from sluicegate.identity import read_private_file

__all__ = ["SecretFiles", "SecretTable", "read_secret_of"]


class SecretTable(Model):
    """Where a password is: exactly one of three."""

    file: str = pydantic.Field(default="", examples=["ldap.password"])
    environment: str = ""
    """A variable of the environment that the gate is started with."""
    credential: str = ""
    """Of systemd: ``LoadCredential=`` or ``LoadCredentialEncrypted=`` in the unit."""


class SecretFiles:
    """What was read, by where it is."""

    def __init__(self, folder: pathlib.Path, given: Mapping[str, str] | None = None) -> None:
        """Begin to read.

        Args:
            folder: Where relative paths begin.
            given: What somebody else has read; nothing is read then.
        """
        self.texts: dict[str, str] = dict(given or {})
        self.is_given = given is not None
        #: Whether somebody else has read them: this is a worker.
        self._folder = folder

    def read_file(
        self, name: str, document: Document, at: KeyPath, findings: Findings, *, holds: str = ""
    ) -> str | None:
        """Return the text of a file; None, with a finding, when it cannot be had.

        Args:
            name: As the operator wrote it.
            document: Where it was written.
            at: Under which key.
            findings: Where errors go.
            holds: What everybody could read, in words; empty: it is nothing secret.
        """
        path = self._folder / name
        return self._read(f"file:{path}", document, at, findings, lambda: _file(path, holds))

    def read_first(self, paths: Sequence[str]) -> str | None:
        """Return the text of the first file of the system's that is there; None: none of them."""
        for path in paths:
            key = f"file:{path}"
            if key not in self.texts and not self.is_given and pathlib.Path(path).is_file():
                # It may be a link, and is the system's: whoever owns it owns everything here.
                with contextlib.suppress(OSError):
                    self.texts[key] = pathlib.Path(path).read_text("utf-8", "replace")
            if key in self.texts:
                return self.texts[key]
        return None

    def list_folder(
        self, name: str, document: Document, at: KeyPath, findings: Findings
    ) -> list[str] | None:
        """Return the names of the files in a folder; None, with a finding, when it cannot be had.

        Args:
            name: As the operator wrote it.
            document: Where it was written.
            at: Under which key.
            findings: Where errors go.
        """
        path = self._folder / name
        text = self._read(f"folder:{path}", document, at, findings, lambda: _names_in(path))
        return None if text is None else text.splitlines()

    def read_secret(
        self, table: SecretTable, document: Document, at: KeyPath, findings: Findings
    ) -> str | None:
        """Return a password; None, with a finding, when it cannot be had."""
        places = [name for name in _PLACES if getattr(table, name)]
        if len(places) != 1:
            findings.refuse(
                document.where(at), "must name one place where the password is", _PLACE_CURE
            )
            return None
        name: str = getattr(table, places[0])
        if places[0] == "file":
            return _without_line_end(
                self.read_file(name, document, (*at, "file"), findings, holds="the password")
            )
        where = (*at, places[0])
        if places[0] == "environment":
            return self._read(
                f"environment:{name}", document, where, findings, lambda: _variable(name)
            )
        return _without_line_end(
            self._read(f"credential:{name}", document, where, findings, lambda: _credential(name))
        )

    def _read(
        self,
        key: str,
        document: Document,
        at: KeyPath,
        findings: Findings,
        read: Callable[[], str],
    ) -> str | None:
        if key not in self.texts:
            if self.is_given:
                findings.refuse(document.where(at), "was not handed over", "restart the gate")
                return None
            try:
                self.texts[key] = read()
            except ConfigError as error:
                findings.refuse(document.where(at), f"{error.where}: {error.cause}", error.cure)
                return None
        return self.texts[key]


def read_secret_of(path: pathlib.Path, table: SecretTable, at: KeyPath) -> str:
    """Return a password that a configuration leads to, for a command.

    Args:
        path: Of ``sluicegate.toml``.
        table: What it says there.
        at: Under which key.

    Raises:
        ConfigRefused: It cannot be had.
    """
    findings = Findings()
    document = read_document(path.read_text(encoding="utf-8"), path.name, findings)
    assert document is not None, "the table was read out of it"
    text = SecretFiles(path.absolute().parent).read_secret(table, document, at, findings)
    findings.raise_errors()
    assert text is not None, "what cannot be had is a finding"
    return text


def _file(path: pathlib.Path, holds: str) -> str:
    text = read_private_file(
        path,
        bytes_max=SECRET_FILE_BYTES_MAX,
        holds=holds,
        danger="could put another in its place",
        cure="relative paths begin at the folder of sluicegate.toml",
        is_public=not holds,
    ).text
    if not text.strip():
        # Whoever named a file meant something by it: an empty list of authorities is not
        # everybody whom the machine trusts, and an empty one of revocations is not none.
        raise ConfigError(str(path), "is empty", "write it again, or leave the key out")
    return text


def _names_in(path: pathlib.Path) -> str:
    try:
        names = sorted(one.name for one in path.iterdir() if one.is_file())
    except OSError as error:
        cure = "relative paths begin at the folder of sluicegate.toml"
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", cure) from error
    return "\n".join(name for name in names if name.isprintable())


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ConfigError(name, "is not in the environment", "set it where the gate is started")
    return value


def _credential(name: str) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        cure = f"LoadCredential={name}:PATH in the unit"
        raise ConfigError(name, "systemd has handed no credentials over", cure)
    if "/" in name:
        raise ConfigError(name, "has a slash, and is a credential's name")
    return _file(pathlib.Path(folder) / name, "the password")


def _without_line_end(text: str | None) -> str | None:
    return text.removesuffix("\n").removesuffix("\r") if text is not None else None


_PLACES: Final = ("file", "environment", "credential")
_PLACE_CURE: Final = '{ file = "ldap.password" }, { environment = "…" } or { credential = "…" }'
