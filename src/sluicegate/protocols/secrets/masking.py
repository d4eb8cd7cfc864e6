"""Masking: puts a text of the same shape in the place of each secret, also where it is encoded.

``bundled/data_loss`` uses it to redact. The invariant: the text keeps its length and everything
that is no secret; and what is returned was looked through again and holds none, else there is
nothing to return.
"""

from __future__ import annotations

import binascii
import bisect
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeAlias

from sluicegate.errors import LimitExceeded
from sluicegate.protocol_limits import SECRET_DEPTH_MAX

from .base64_runs import PHASES, base64_runs
from .escapes import ESCAPES, QUOTED_PRINTABLE, Coding, EscapeDecoder, spelled
from .kind import masked
from .pattern_set import Scanning
from .search import BASE64, END_PADDING, WIDE, Evidence, Search, SecretPatterns

__all__ = ["mask"]

_Write: TypeAlias = Callable[[int, int], bool]
"""Called with a place and a byte for it; tells whether it could be written."""


def mask(text: bytes, patterns: SecretPatterns, names: Collection[str]) -> bytes | None:
    """Mask the secrets of some kinds in a text; None if one is where it cannot be masked.

    Args:
        text: All of it; it and a few copies are in memory.
        patterns: What is looked for.
        names: The kinds that are masked.

    Raises:
        LimitExceeded: It is encoded too deeply, or too costly, to be looked through.
    """
    masking = _Masking(patterns, frozenset(names))
    root = bytearray(text)

    def write(at: int, value: int) -> bool:
        root[at] = value
        return True

    masking.mask_view(root, write, ())
    again = Search(patterns)
    for start in range(0, len(root), _PIECE_BYTES):
        again.feed(bytes(root[start : start + _PIECE_BYTES]))
    again.finish()
    return None if any(one.kind.name in names for one in again.reached) else bytes(root)


class _Masking:
    """One call of ``mask``."""

    def __init__(self, patterns: SecretPatterns, names: frozenset[str]) -> None:
        self._patterns = patterns
        self._names = names
        self._scanning: Scanning = patterns.scanning()

    def mask_view(self, data: bytearray, write: _Write, layers: tuple[str, ...]) -> None:
        """Mask what is in a view, and then what is in what it decodes to."""
        if len(layers) > SECRET_DEPTH_MAX:
            raise LimitExceeded("secret_depth_max", SECRET_DEPTH_MAX)
        seen = self._mask_finds(data, write)
        for coding in (ESCAPES, QUOTED_PRINTABLE):
            escapes = seen.escapes.get(coding.name, [])
            if escapes and not (coding is QUOTED_PRINTABLE and coding.name in layers):
                self._mask_escaped(data, write, coding, escapes, layers)
        self._mask_base64(data, write, layers)
        if seen.is_wide and WIDE not in layers:
            for parity in (0, 1):
                self._mask_wide(data, write, parity, layers)

    def _mask_finds(self, data: bytearray, write: _Write) -> Evidence:
        """Mask what is there unencoded; return what else is to be seen afterwards."""
        text = _framed(data)
        seen = self._patterns.evidence(self._scanning, text, 0)
        finds = [
            (found, kind)
            for kind, read, end in seen.secrets
            if kind.name in self._names and (found := read(text, end)) is not None
        ]
        if not finds:
            return seen
        # An escape within a secret stays one: what it stands for is masked where it is decoded.
        kept = {
            at for size, end in seen.escapes.get(ESCAPES.name, []) for at in range(end - size, end)
        }
        for found, kind in finds:
            end = found.end
            if kind.rest is not None and (rest := kind.rest.match(text, end)):
                end = rest.end()
            for at, value in enumerate(masked(text[found.start : end]), found.start):
                if value != text[at] and at <= len(data) and at not in kept:
                    _write_all(data, write, at - 1, bytes((value,)))
        return self._patterns.evidence(self._scanning, _framed(data), 0)

    def _mask_escaped(
        self,
        data: bytearray,
        write: _Write,
        coding: Coding,
        escapes: Sequence[tuple[int, int]],
        layers: tuple[str, ...],
    ) -> None:
        decoder = EscapeDecoder(coding, len(data))
        # Their ends are those in the text with a line end before it, and more behind it.
        ends = [(size, end - 1) for size, end in escapes if end <= len(data) + 1]
        parts = decoder.decode(bytes(data), 0, ends, is_last=True)
        decoded = bytearray()
        places: list[int] = []
        for _, _, value in parts:
            places.append(len(decoded))
            decoded += value

        def write_escaped(at: int, value: int) -> bool:
            index = bisect.bisect_right(places, at) - 1
            while not parts[index][2]:
                index -= 1
            start, end, meant = parts[index]
            if len(meant) == end - start:
                return _write_all(data, write, start + at - places[index], bytes((value,)))
            written = spelled(bytes(data[start:end]), value)
            return written is not None and _write_all(data, write, start, written)

        self.mask_view(decoded, write_escaped, (*layers, coding.name))

    def _mask_base64(self, data: bytearray, write: _Write, layers: tuple[str, ...]) -> None:
        for start, end in list(base64_runs(bytes(data), 0, 0)):
            places = [at for at in range(start, end) if data[at] not in b"\r\n"]
            for phase in range(min(PHASES, len(places))):
                self._mask_run(data, write, places[phase:], layers)

    def _mask_run(
        self, data: bytearray, write: _Write, places: Sequence[int], layers: tuple[str, ...]
    ) -> None:
        """Mask in one run, from one of its first places; whole quanta only are written."""
        characters = bytes(data[at] for at in places)
        standard = characters.translate(_TO_STANDARD)
        rest = len(standard) % PHASES
        padded = standard + b"A" * (-rest % PHASES) if rest != 1 else standard[:-1]
        decoded = bytearray(binascii.a2b_base64(padded))
        is_for_urls = any(one in characters for one in b"-_")

        def write_run(at: int, value: int) -> bool:
            first = at - at % 3
            quantum = bytearray(decoded[first : first + 3])
            quantum[at - first] = value
            written = binascii.b2a_base64(bytes(quantum), newline=False)
            if is_for_urls:
                written = written.translate(_FOR_URLS)
            index = first // 3 * PHASES
            return all(
                data[place] == one or _write_all(data, write, place, bytes((one,)))
                for place, one in zip(places[index : index + PHASES], written, strict=False)
            )

        self.mask_view(decoded, write_run, (*layers, BASE64))

    def _mask_wide(
        self, data: bytearray, write: _Write, parity: int, layers: tuple[str, ...]
    ) -> None:
        def write_wide(at: int, value: int) -> bool:
            return _write_all(data, write, 2 * at + parity, bytes((value,)))

        self.mask_view(data[parity::2], write_wide, (*layers, WIDE))


def _framed(data: bytearray) -> bytes:
    """Return a text with a line end before it, and some behind it, as ``Search`` looks at it."""
    return b"\n" + bytes(data) + END_PADDING


def _write_all(data: bytearray, write: _Write, start: int, values: bytes) -> bool:
    """Write through to whom a view comes from, and into the view."""
    for at, value in enumerate(values, start):
        if data[at] != value:
            if not write(at, value):
                return False
            data[at] = value
    return True


_PIECE_BYTES: Final = 256 << 10
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_FOR_URLS: Final = bytes.maketrans(b"+/", b"-_")
