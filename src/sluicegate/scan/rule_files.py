"""Files of YARA rules: those of a folder and those that are shipped, read as one set.

``app/scanners`` reads a set when a configuration is loaded, ``content_scanner`` again when the
files change. The invariant: two sets of one version have the same rules, and a set is whole: what
cannot be read, or is too much, is an error and no smaller set.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.resources
import os
import pathlib
import stat
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from sluicegate.scan_limits import RULE_FILES_MAX, RULES_BYTES_MAX

__all__ = ["Fingerprint", "RuleFilesError", "RuleSet", "fingerprint", "read_rules"]

Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of change in ns and inode of each file: another one means other rules."""

_SUFFIXES: Final = (".yar", ".yara")


class RuleFilesError(Exception):
    """A set of rules cannot be had; ``where`` names the file or the folder."""

    def __init__(self, where: str, cause: str, cure: str) -> None:
        super().__init__(f"{where}: {cause}")
        self.where = where
        self.cause = cause
        self.cure = cure


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Sources of rules, and the name of their version."""

    sources: tuple[tuple[str, bytes], ...]
    """Name and text of each file, ordered by name."""

    @property
    def version(self) -> str:
        """SHA-256 of names and texts, hexadecimal."""
        digest = hashlib.sha256()
        for name, text in self.sources:
            digest.update(b"%d %d " % (len(name.encode()), len(text)))
            digest.update(name.encode() + text)
        return digest.hexdigest()

    def lend(self) -> tuple[int, int]:
        """Return a sealed descriptor with all sources, and its size; the caller closes it.

        Raises:
            OSError: No memory or no descriptor is left.
        """
        packed = msgspec.msgpack.encode(self.sources)
        descriptor = os.memfd_create("rules", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            rest = memoryview(packed)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor, len(packed)

    @staticmethod
    def read_lent(packed: bytes) -> RuleSet:
        """Read what ``lend`` lent.

        Raises:
            msgspec.MsgspecError: It is something else.
        """
        return RuleSet(_DECODER.decode(packed))


_DECODER: Final = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def fingerprint(folder: pathlib.Path | None) -> Fingerprint:
    """Return what tells whether the files of a folder have changed, without reading them.

    Raises:
        RuleFilesError: The folder cannot be looked into.
    """
    if folder is None:
        return ()
    found: list[tuple[str, int, int, int]] = []
    for path in _files_of(folder):
        try:
            facts = path.stat()
        except OSError as error:
            raise RuleFilesError(str(path), f"cannot be read: {error.strerror}", _CURE) from error
        found.append((path.name, facts.st_size, facts.st_mtime_ns, facts.st_ino))
    return tuple(found)


def read_rules(folder: pathlib.Path | None, *, with_shipped: bool) -> RuleSet:
    """Read a set of rules; it blocks.

    Args:
        folder: Whose files ending in ``.yar`` and ``.yara`` are read; None: none.
        with_shipped: Whether the rules that come with the gate are part of it.

    Raises:
        RuleFilesError: A file cannot be read, or there is too much.
    """
    sources: list[tuple[str, bytes]] = []
    if with_shipped:
        package = importlib.resources.files("sluicegate.scan") / "rules"
        sources += [
            (f"shipped/{one.name}", one.read_bytes())
            for one in sorted(package.iterdir(), key=lambda one: one.name)
            if one.name.endswith(_SUFFIXES)
        ]
    total = 0
    for path in _files_of(folder) if folder is not None else ():
        try:
            text = path.read_bytes()
        except OSError as error:
            raise RuleFilesError(str(path), f"cannot be read: {error.strerror}", _CURE) from error
        total += len(text)
        if total > RULES_BYTES_MAX:
            raise RuleFilesError(
                str(folder), f"more than RULES_BYTES_MAX ({RULES_BYTES_MAX}) bytes", _FEWER
            )
        sources.append((path.name, text))
    return RuleSet(tuple(sources))


def _files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        found = sorted(one for one in folder.iterdir() if one.name.endswith(_SUFFIXES))
        is_plain = [stat.S_ISREG(one.stat().st_mode) for one in found]
    except OSError as error:
        raise RuleFilesError(str(folder), f"cannot be read: {error.strerror}", _CURE) from error
    if not all(is_plain):
        odd = found[is_plain.index(False)]
        raise RuleFilesError(str(odd), "is no file", "keep rules in plain files")
    if len(found) > RULE_FILES_MAX:
        raise RuleFilesError(str(folder), f"more than RULE_FILES_MAX ({RULE_FILES_MAX})", _FEWER)
    return found


_CURE: Final = "the user of the gate must be able to read it"
_FEWER: Final = "keep those that you need"
