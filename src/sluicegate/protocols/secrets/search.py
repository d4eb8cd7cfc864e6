"""Search: looks through one text for secrets, piece by piece, also through what encodes it.

``bundled/data_loss`` feeds it an object. What it decodes (escapes, base 64, quoted-printable,
UTF-16) it looks through likewise, to a depth. The invariant: what is found does not depend on where
the text is cut, and what it could not look through it says: ``LimitExceeded``, never nothing.

A piece is matched together with the last ``SECRET_SPAN_BYTES_MAX`` bytes before it; of the matches
those count that end in the piece. As the engine reports every end of every match, that are all.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from sluicegate.errors import LimitExceeded
from sluicegate.protocol_limits import (
    SECRET_DEPTH_MAX,
    SECRET_SPAN_BYTES_MAX,
    SECRET_VALUES_MAX,
    SECRET_WORK_FLOOR_BYTES,
    SECRET_WORK_RATIO_MAX,
)

from .base64_runs import Base64Decoder
from .escapes import ESCAPES, QUOTED_PRINTABLE, Coding, EscapeDecoder
from .kind import Kind, Reader
from .pattern_set import PatternSet, Scanning

__all__ = ["BASE64", "END_PADDING", "WIDE", "Evidence", "Search", "SecretPatterns", "Sighting"]

END_PADDING: Final = b"\n" * 256
"""What a text is looked at with behind its end, for expressions that look beyond a secret."""


@dataclass(slots=True)
class Sighting:
    """What was found of one kind."""

    kind: Kind
    values: set[bytes] = field(default_factory=set[bytes])
    """Digests of the different ones; at most ``SECRET_VALUES_MAX``."""
    where: str = ""
    """Through which encodings one was seen, the shortest way: ``base64 / escaped``; empty: as it
    is."""


@dataclass(slots=True)
class Evidence:
    """What a scan saw."""

    secrets: list[tuple[Kind, Reader, int]] = field(default_factory=list[tuple[Kind, Reader, int]])
    """Whose they may be, who reads them, and where their match ends."""
    escapes: dict[str, list[tuple[int, int]]] = field(
        default_factory=dict[str, list[tuple[int, int]]]
    )
    """By coding: how long each is, and where it ends; in order."""
    is_wide: bool = False
    """Whether there is text with a NUL behind each character."""


class SecretPatterns:
    """The kinds that are looked for, compiled; serves many searches."""

    def __init__(self, kinds: Sequence[Kind], counts_min: Mapping[str, int] | None = None) -> None:
        """Compile.

        Args:
            kinds: What to look for.
            counts_min: How many of a kind there must be, where not as many as the kind says.

        Raises:
            PatternError: An expression is none.
        """
        self.kinds = tuple(kinds)
        asked = counts_min or {}
        self.counts_min = {one.name: asked.get(one.name, one.count_min) for one in kinds}
        self._readers = [(kind, one.read) for kind in kinds for one in kind.expressions]
        escapes = [(c.name, one) for c in (ESCAPES, QUOTED_PRINTABLE) for one in c.patterns]
        self._escapes = [(name, size) for name, (_, size) in escapes]
        patterns = [
            *(one.pattern for kind in kinds for one in kind.expressions),
            *(pattern for _, (pattern, _) in escapes),
            _WIDE,
        ]
        self._patterns = PatternSet(patterns, once={len(patterns) - 1})

    def scanning(self) -> Scanning:
        """Return what one search scans with."""
        return self._patterns.scanning()

    def evidence(self, scanning: Scanning, text: bytes, fresh: int) -> Evidence:
        """Look through a text for what ends behind ``fresh``.

        Raises:
            LimitExceeded: There is too much of it.
        """
        seen = Evidence()
        readers, escapes = self._readers, self._escapes
        for number, end in scanning.matches(text):
            if end <= fresh:
                continue
            if number < len(readers):
                kind, read = readers[number]
                seen.secrets.append((kind, read, end))
            elif number < len(readers) + len(escapes):
                name, size = escapes[number - len(readers)]
                seen.escapes.setdefault(name, []).append((size, end))
            else:
                seen.is_wide = True
        for found in seen.escapes.values():
            # The engine promises no order between expressions.
            found.sort(key=_end)
        return seen


class Search:
    """One text."""

    def __init__(self, patterns: SecretPatterns, within: str = "") -> None:
        """Begin.

        Args:
            patterns: What is looked for.
            within: What the text was taken out of, for records: ``zip``.
        """
        self.sightings: dict[str, Sighting] = {}
        #: By the name of the kind.
        self._patterns = patterns
        self._within = within
        self._scanning = patterns.scanning()
        self._size = 0
        self._work = 0
        self._root = _View(self, (), is_begun=False)

    def absorb(self, other: Search) -> None:
        """Count what was found in another part of the same object."""
        for name, theirs in other.sightings.items():
            ours = self.sightings.setdefault(name, theirs)
            room = SECRET_VALUES_MAX - len(ours.values)
            ours.values.update(itertools.islice(theirs.values - ours.values, room))

    def feed(self, piece: bytes) -> None:
        """Look through the next bytes; some 256 KiB at a time do best.

        Raises:
            LimitExceeded: It is encoded too deeply, or too costly, to be looked through.
        """
        self._size += len(piece)
        self._root.feed(piece)

    def finish(self) -> None:
        """Take that nothing follows.

        Raises:
            LimitExceeded: As for ``feed``.
        """
        self._root.feed(b"", is_last=True)

    @property
    def reached(self) -> list[Sighting]:
        """What was found, of the kinds of which there are enough."""
        least = self._patterns.counts_min
        return [one for name, one in self.sightings.items() if len(one.values) >= least[name]]

    # -- what the views tell ---------------------------------------------------------------------

    def look(self, text: bytes, fresh: int, where: str) -> Evidence:
        """Scan, keep the secrets that are some, and return the rest."""
        self._work += len(text) - fresh
        if self._work > SECRET_WORK_RATIO_MAX * self._size + SECRET_WORK_FLOOR_BYTES:
            raise LimitExceeded("secret_work_ratio_max", SECRET_WORK_RATIO_MAX)
        seen = self._patterns.evidence(self._scanning, text, fresh)
        for kind, read, end in seen.secrets:
            found = read(text, end)
            if found is not None:
                self._keep(kind, found.value, where)
        return seen

    def _keep(self, kind: Kind, value: bytes, where: str) -> None:
        if self._within:
            where = f"{self._within} / {where}" if where else self._within
        sighting = self.sightings.get(kind.name)
        if sighting is None:
            sighting = self.sightings[kind.name] = Sighting(kind, where=where)
        elif where.count("/") < sighting.where.count("/") or not where:
            sighting.where = where
        if len(sighting.values) < SECRET_VALUES_MAX:
            # Not the secret: it is in memory for as long as it must be, and in no dump.
            sighting.values.add(hashlib.blake2b(value, digest_size=16).digest())


_Key: TypeAlias = tuple[str, int]
"""An encoding, and the place from which it is decoded."""


class _View:
    """A text as it is, or as an encoding has it: what is looked through, and what comes out of it.

    The views of a search are a tree; each is made when there is something for it to decode.
    """

    __slots__ = (
        "_base64",
        "_children",
        "_decoders",
        "_layers",
        "_narrowed",
        "_search",
        "_tail",
        "_tail_at",
        "_where",
    )

    def __init__(self, search: Search, layers: tuple[str, ...], *, is_begun: bool) -> None:
        """Begin a text.

        Args:
            search: Whose it is.
            layers: What was decoded.
            is_begun: Whether its first bytes are missing: then nothing begins with the next.
        """
        self._search = search
        self._layers = layers
        self._where = " / ".join(layers)
        self._tail = b"" if is_begun else b"\n"
        self._tail_at = -len(self._tail)
        #: Where in the text the tail begins: a line end stands before the text.
        self._decoders: dict[str, EscapeDecoder] = {}
        self._base64 = Base64Decoder()
        self._narrowed = 0
        #: Up to where UTF-16 was decoded.
        self._children: dict[_Key, _View] = {}

    def feed(self, piece: bytes, *, is_last: bool = False) -> None:
        """Look through the next bytes, and through what they decode to."""
        text, fresh = self._tail + piece, len(self._tail)
        end = len(text)
        if is_last:
            text += END_PADDING
        seen = self._search.look(text, fresh, self._where)
        for coding in (ESCAPES, QUOTED_PRINTABLE):
            # What the padding completes is none: ``=`` at the end of base 64.
            escapes = [one for one in seen.escapes.get(coding.name, ()) if one[1] <= end]
            self._unescape(coding, text, escapes, is_last=is_last)
        for phase, decoded in enumerate(self._base64.decode(text, fresh, is_last=is_last)):
            self._tell((BASE64, phase), decoded, is_last=is_last)
        self._narrow(text, is_wide=seen.is_wide, is_last=is_last)
        kept = max(0, len(text) - _TAIL_BYTES)
        self._tail, self._tail_at = text[kept:], self._tail_at + kept

    def skip(self) -> None:
        """Go on elsewhere: nothing reaches from here to the next bytes, and none begins there."""
        end = self._tail_at + len(self._tail)
        self._tail, self._tail_at = b"", end
        for decoder in self._decoders.values():
            decoder.skip(end)
        self._base64.skip()
        self._narrowed = end
        for child in self._children.values():
            child.skip()

    def _unescape(
        self, coding: Coding, text: bytes, escapes: list[tuple[int, int]], *, is_last: bool
    ) -> None:
        name = coding.name
        decoder = self._decoders.get(name)
        if decoder is None:
            if not escapes or (coding is QUOTED_PRINTABLE and name in self._layers):
                return
            decoder = self._decoders[name] = EscapeDecoder(coding, SECRET_SPAN_BYTES_MAX)
            decoder.skip(max(0, self._tail_at))
        done, near = decoder.done, list[bytes]()
        for start, end, part in decoder.decode(text, self._tail_at, escapes, is_last=is_last):
            if start != done:
                self._tell((name, 0), b"".join(near))
                near.clear()
                self._skip((name, 0))
            near.append(part)
            done = end
        self._tell((name, 0), b"".join(near), is_last=is_last)

    def _narrow(self, text: bytes, *, is_wide: bool, is_last: bool) -> None:
        """Take every second byte, from the first and from the second on."""
        if (WIDE, 0) not in self._children:
            if not is_wide or WIDE in self._layers:
                return
            self._narrowed = max(0, self._tail_at)
            for parity in (0, 1):
                self._child((WIDE, parity), is_begun=self._narrowed > 0)
        fresh = text[self._narrowed - self._tail_at :]
        for parity in (0, 1):
            every_second = fresh[(parity - self._narrowed) % 2 :: 2]
            self._tell((WIDE, parity), every_second, is_last=is_last)
        self._narrowed += len(fresh)

    # -- what comes out --------------------------------------------------------------------------

    def _tell(self, key: _Key, decoded: bytes, *, is_last: bool = False) -> None:
        child = self._children.get(key)
        if child is None and decoded:
            child = self._child(key, is_begun=False)
        if child is not None and (decoded or is_last):
            child.feed(decoded, is_last=is_last)

    def _skip(self, key: _Key) -> None:
        child = self._children.get(key)
        if child is None:
            self._child(key, is_begun=True)
        else:
            child.skip()

    def _child(self, key: _Key, *, is_begun: bool) -> _View:
        if len(self._layers) == SECRET_DEPTH_MAX:
            raise LimitExceeded("secret_depth_max", SECRET_DEPTH_MAX)
        child = _View(self._search, (*self._layers, key[0]), is_begun=is_begun)
        self._children[key] = child
        return child


_TAIL_BYTES: Final = SECRET_SPAN_BYTES_MAX + 16
"""What is kept of a text: before an escape that is cut, a whole secret."""


def _end(found: tuple[int, int]) -> int:
    return found[1]


BASE64: Final = "base64"
WIDE: Final = "UTF-16"

#: Eight characters of ASCII with a NUL between them, whichever end comes first.
_WIDE: Final = rb"(?:[\t\n\r -~]\x00){8}"
