"""PolicyHistory: the policies that were in force, on disk, a bounded number of them.

``desk`` adds one with every reload that brings other files, and reads them for a roll-back. The
invariant: a version that is listed as kept has every file as it was; one that is damaged is an
error, never another policy.
"""

from __future__ import annotations

import pathlib
import re
from typing import Final

import msgspec

from sluicegate.errors import ConfigError
from sluicegate.gate.policy_orders import PolicyVersion
from sluicegate.policy import PolicyText, PolicyTexts
from sluicegate.policy_limits import POLICY_HISTORY_BYTES_MAX, POLICY_HISTORY_VERSIONS_MAX

from .policy_texts import digest_of
from .replaced_file import replace_file

__all__ = ["PolicyHistory"]

_CURE: Final = "is the disk full, and may the gate's user write there?"
_FACTS: Final = re.compile(r"(\d{8})\.json", re.ASCII)


class _Kept(msgspec.Struct, kw_only=True):
    """The files of one version."""

    main: str
    before: list[tuple[str, str]] = []
    after: list[tuple[str, str]] = []
    lists: dict[str, str] = {}


class PolicyHistory:
    """The versions of one gate; used by one thread at a time."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        versions_max: int = POLICY_HISTORY_VERSIONS_MAX,
        bytes_max: int = POLICY_HISTORY_BYTES_MAX,
    ) -> None:
        """Have nothing read yet.

        Args:
            folder: Where they are kept; made with the first one.
            versions_max: The oldest beyond it are let go.
            bytes_max: Of the files of all versions.
        """
        self._folder = folder
        self._versions_max = versions_max
        self._bytes_max = bytes_max
        self._rows: list[PolicyVersion] | None = None

    @property
    def rows(self) -> list[PolicyVersion]:
        """What is known of every version, the oldest first.

        Raises:
            ConfigError: They cannot be read.
        """
        if self._rows is None:
            self._rows = self._read_rows()
        return self._rows

    def find(self, version: str) -> PolicyVersion:
        """Return a version by its number, or by the beginning of its SHA-256: the newest such.

        Raises:
            ConfigError: There is none, or they cannot be read.
        """
        for row in reversed(self.rows):
            if version == str(row.number):
                return row
        for row in reversed(self.rows):
            if len(version) >= _HASH_MIN and row.policy.startswith(version):
                return row
        raise ConfigError(f"version {version}", "it is not kept", "see: sluicegate policy history")

    def texts(self, row: PolicyVersion) -> PolicyTexts:
        """Return the files of a version.

        Raises:
            ConfigError: They are not kept, cannot be read, or are not what they were.
        """
        where = f"version {row.number}"
        if not row.is_kept:
            raise ConfigError(where, f"its files are not kept: they have {row.size_bytes} bytes")
        path = self._path(row.number, "texts")
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except OSError as error:
            raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise ConfigError(str(path), f"is damaged: {error}") from error
        texts = PolicyTexts(
            kept.main,
            tuple(PolicyText(*one) for one in kept.before),
            tuple(PolicyText(*one) for one in kept.after),
            kept.lists,
        )
        if digest_of(texts) != row.texts:
            raise ConfigError(str(path), "is damaged: it is not what was in force")
        return texts

    def add(self, row: PolicyVersion, texts: PolicyTexts) -> PolicyVersion:
        """Keep a version, and let the oldest go; its number is made here.

        Raises:
            ConfigError: It cannot be written.
        """
        rows = self.rows
        row.number = rows[-1].number + 1 if rows else 1
        row.is_kept = row.size_bytes <= self._bytes_max
        kept = _Kept(
            main=texts.main,
            before=[(one.name, one.text) for one in texts.before],
            after=[(one.name, one.text) for one in texts.after],
            lists=dict(texts.lists),
        )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if row.is_kept:
                replace_file(self._path(row.number, "texts"), msgspec.json.encode(kept))
            # The facts last: what they name is there.
            replace_file(self._path(row.number, "json"), msgspec.json.encode(row))
            rows.append(row)
            self._let_go(rows)
        except OSError as error:
            raise ConfigError(
                str(self._folder), f"the policy cannot be kept: {error.strerror}", _CURE
            ) from error
        return row

    def _let_go(self, rows: list[PolicyVersion]) -> None:
        size = sum(row.size_bytes for row in rows if row.is_kept)
        while len(rows) > 1 and (len(rows) > self._versions_max or size > self._bytes_max):
            oldest = rows.pop(0)
            size -= oldest.size_bytes if oldest.is_kept else 0
            self._path(oldest.number, "json").unlink(missing_ok=True)
            self._path(oldest.number, "texts").unlink(missing_ok=True)

    def _read_rows(self) -> list[PolicyVersion]:
        try:
            names = sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(
                str(self._folder), f"cannot be read: {error.strerror}", _CURE
            ) from error
        return [self._read_row(name) for name in names if _FACTS.fullmatch(name)]

    def _read_row(self, name: str) -> PolicyVersion:
        path = self._folder / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=PolicyVersion)
        except OSError as error:
            raise ConfigError(str(path), f"cannot be read: {error.strerror}", _CURE) from error
        except msgspec.DecodeError as error:
            raise ConfigError(str(path), f"is damaged: {error}", "move it away") from error

    def _path(self, number: int, kind: str) -> pathlib.Path:
        return self._folder / f"{number:08d}.{kind}"


_HASH_MIN: Final = 6
"""Characters of a SHA-256 that mean a version; numbers are shorter."""
