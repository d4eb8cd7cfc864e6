"""Signatures of the HTTP filter: bytes that must not be in a URL, a header, or a part of a body.

``http_filter`` makes its tables with it and scans bodies piece by piece. The invariant: what is
found does not depend on how a body was cut, and no byte of a signature's range goes on before it is
sure that none was found that begins there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from sluicegate.protocols.executables import HEAD_BYTES_NEEDED, executable_kind

from .settings import FilterSettings

__all__ = ["BodyScan", "Executables", "Signature"]

Place = Literal["url", "request-header", "request-body", "response-header", "response-body"]

Executables = Literal["pass", "windows", "all"]

_RANGE_BYTES_MAX: Final = 512 << 10
"""How far into a body a signature may be looked for: so much is held back at most, which is half of
what ``stream_hold_bytes_max`` allows by default."""

_SIGNATURE_BYTES_MAX: Final = 1024
_MAGIC_BYTES: Final = 4
_FAT_OR_JAVA: Final = b"\xca\xfe\xba\xbe"
"""Begins fat Mach-O files and Java classes, which are told apart by what follows."""


class Signature(FilterSettings):
    """One entry of ``signatures``."""

    name: str = Field(min_length=1, max_length=100, examples=["evil-botnet"])
    """What clients and records are told was found."""
    place: Place
    """Where it is looked for. URLs are searched as they are written and decoded once; bodies
    without their content coding."""
    header: str = Field(default="", pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]*$", examples=["Cookie"])
    """The header whose values are searched; empty searches all names and values."""
    text: str = Field(default="", max_length=_SIGNATURE_BYTES_MAX, examples=["cmd.exe"])
    """What is looked for, in UTF-8, and in bodies in UTF-16, too; or else ``hex``."""
    hex: str = Field(default="", pattern=r"^([0-9A-Fa-f]{2})*$", examples=["4d5a9000"])
    """The same in bytes."""
    ignore_case: bool = True
    """Whether letters of ASCII count in either case."""
    from_byte: int = Field(default=0, ge=0, lt=_RANGE_BYTES_MAX)
    """Where in a body the search begins."""
    to_byte: int = Field(default=100, ge=1, le=_RANGE_BYTES_MAX)
    """Before which byte of a body it ends; a signature counts that lies before it as a whole."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.text) == bool(self.hex):
            raise ValueError('either "text" or "hex" says what is looked for')
        if self.from_byte + len(self.needle) > self.to_byte:
            raise ValueError(
                'the range from "from_byte" to "to_byte" is shorter than the signature'
            )
        if self.header and not self.place.endswith("-header"):
            raise ValueError('"header" is for signatures in headers')
        return self

    @property
    def needle(self) -> bytes:
        """What is looked for, folded where case does not matter."""
        return self._folded(self.text.encode() if self.text else bytes.fromhex(self.hex))

    @property
    def needles(self) -> tuple[bytes, ...]:
        """What is looked for in bodies, whose own first bytes may say that they are in UTF-16."""
        if not self.text:
            return (self.needle,)
        wide = [self.text.encode("utf-16-le"), self.text.encode("utf-16-be")]
        return (self.needle, *map(self._folded, wide))

    def _folded(self, needle: bytes) -> bytes:
        return needle.lower() if self.ignore_case else needle

    def is_in(self, text: bytes) -> bool:
        """Tell whether it is anywhere in some bytes."""
        return self.needle in (text.lower() if self.ignore_case else text)


class _Needle:
    """One signature in a body."""

    __slots__ = ("end", "ignores_case", "name", "needle", "start")

    def __init__(self, signature: Signature, needle: bytes) -> None:
        self.name = signature.name
        self.needle = needle
        self.ignores_case = signature.ignore_case
        self.start, self.end = signature.from_byte, signature.to_byte

    def is_in(self, data: bytes, folded: bytes, at: int) -> bool:
        """Tell whether it is in its range, of which ``data`` begins at byte ``at``."""
        start, end = max(0, self.start - at), self.end - at
        return (
            end > 0 and (folded if self.ignores_case else data).find(self.needle, start, end) >= 0
        )

    def may_begin_at(self, data: bytes, folded: bytes, at: int) -> int:
        """Return from which byte of ``data`` on it may have begun; the length if nowhere."""
        end, looked = len(data), folded if self.ignores_case else data
        for place in range(max(0, end - len(self.needle) + 1, self.start - at), end):
            is_in_range = at + place + len(self.needle) <= self.end
            if is_in_range and self.needle.startswith(looked[place:]):
                return place
        return end


class BodyScan:
    """Looks for signatures, and for executables, in one body.

    Args:
        signatures: Those about such bodies.
        executables: Which are refused.
        is_stream: Whether its reader waits for every piece: then only what may be a beginning is
            held back, else everything up to the end of the last range.
    """

    __slots__ = ("_at", "_end", "_executables", "_is_stream", "_needles")

    def __init__(
        self, signatures: Sequence[Signature], executables: Executables, *, is_stream: bool
    ) -> None:
        self._needles = [_Needle(one, needle) for one in signatures for needle in one.needles]
        self._executables = executables
        self._end = max((needle.end for needle in self._needles), default=0)
        self._is_stream = is_stream
        self._at = 0
        #: How many bytes have gone on.

    @property
    def is_done(self) -> bool:
        """Whether nothing that still comes is of interest."""
        return self._executables == "pass" and self._at >= self._end

    def judge(self, data: bytes, *, is_last: bool) -> str | int:
        """Return the name of what was found, or how many of the bytes may go on.

        Args:
            data: What did not go on before, and what has come since.
            is_last: Whether the body ends here.
        """
        folded = data.lower()
        for needle in self._needles:
            if needle.is_in(data, folded, self._at):
                return needle.name
        kept = 0 if self._is_early(data) and not is_last else len(data)
        if self._executables != "pass" and kept:
            kind = executable_kind(data)
            if kind is not None and (self._executables == "all" or kind in {"pe", "dos"}):
                return "executable"
            self._executables = "pass"
        if kept and not is_last:
            kept = self._releasable(data, folded)
        self._at += kept
        return kept

    def _is_early(self, data: bytes) -> bool:
        """Tell whether it cannot be said yet what kind of file begins here."""
        if self._executables == "pass" or self._at:
            return False
        is_undecided = data.startswith(_FAT_OR_JAVA) and len(data) < HEAD_BYTES_NEEDED
        return len(data) < _MAGIC_BYTES or is_undecided

    def _releasable(self, data: bytes, folded: bytes) -> int:
        if self._is_stream:
            places = [one.may_begin_at(data, folded, self._at) for one in self._needles]
            return min(places, default=len(data))
        return len(data) if self._at + len(data) >= self._end else 0
