"""Census: what clients do on the other workers of a gate, and what those hold.

The supervisor makes the memory; each worker writes its own part of it and reads the others'
(``flood_count`` says when). The invariant: a part has one writer, and what is written at once is
one word, so nothing is locked and nothing is read half written; a worker that was killed is taken
out by clearing its part, and nothing that it counted stays behind.

A part is 1024 groups of 16 cells: the marks of clients, then four words for each. A client's group
is a keyed digest of what it is counted under, so that nobody can choose addresses that crowd one.
Only clients that use much of a bound have a cell; one whose group is full of others that do has its
share of each bound.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
from typing import Final

from sluicegate.process_limits import PROCESS_ROWS_MAX

from .flood_count import LEASES, MINUTE_S, FloodClient, Rate, SharedCounts

__all__ = ["Census"]

_GROUP: Final = 16
_GROUPS: Final = 1 << 10
_CELLS: Final = _GROUP * _GROUPS
_WORDS: Final = 4
_MARKS_BYTES: Final = 8 * _CELLS
_PART_BYTES: Final = _MARKS_BYTES * (1 + _WORDS)
_HEADER_BYTES: Final = 8192
_KEY_BYTES: Final = 16
_ROWS, _USED, _HELD = 2, 3, 3 + PROCESS_ROWS_MAX
"""Words of the header, behind the key: rows in use, then the cells that each row uses, then the
bytes that its spool holds."""
_ALL_BYTES: Final = _HEADER_BYTES + PROCESS_ROWS_MAX * _PART_BYTES

_LEVEL_BITS: Final = 21
_LEVEL_MAX: Final = (1 << _LEVEL_BITS) - 1
_RATE_BITS: Final = 20
_RATE_MAX: Final = (1 << _RATE_BITS) - 1
_MINUTE_MASK: Final = (1 << (64 - 2 * _RATE_BITS)) - 1


class Census:
    """One process's view: it writes the part of ``row`` and reads all."""

    __slots__ = ("_key", "_map", "_owners", "_row", "_words")

    def __init__(self, descriptor: int, row: int) -> None:
        """Map the memory that ``make`` made; the descriptor stays the caller's."""
        self._map = mmap.mmap(descriptor, _ALL_BYTES)
        self._words = memoryview(self._map).cast("Q")
        self._key = self._map[:_KEY_BYTES]
        self._row = row
        self._owners: dict[int, FloodClient] = {}
        #: The clients that have a cell here, by its number.

    @staticmethod
    def make() -> int:
        """Return the descriptor of new memory; pages are taken as they are used."""
        descriptor = os.memfd_create("sluicegate-census", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _ALL_BYTES)
        os.pwrite(descriptor, secrets.token_bytes(_KEY_BYTES), 0)
        return descriptor

    # -- of a worker: clients ------------------------------------------------------------------

    @property
    def workers(self) -> int:
        """How many workers there may be; never less than two, since one may get company."""
        return max(2, self._words[_ROWS] - 1)

    def exchange(self, client: FloodClient, now: float) -> SharedCounts | None:
        """Write a client's counts, read those of the others; None when there is no room for it."""
        if not client.mark:
            client.mark, client.group = self._place_of(client.key)
        if client.cell < 0:
            self._claim(client, now)
        else:
            self._write(client)
        return None if client.cell < 0 else self._read_others(client, now)

    def write_open(self, client: FloodClient) -> None:
        """Write what a client that has a cell has open, so far as that is a lease's worth.

        Less is written as nothing: what comes and goes costs nothing then.
        """
        bounds, parts, shown = client.bounds, LEASES * self.workers, 0
        if client.connections >= bounds.connections_max // parts:
            shown = min(client.connections, _LEVEL_MAX)
        if client.half_open >= bounds.half_open_max // parts:
            shown |= min(client.half_open, _LEVEL_MAX) << _LEVEL_BITS
        if client.udp_sessions >= bounds.udp_sessions_max // parts:
            shown |= min(client.udp_sessions, _LEVEL_MAX) << 2 * _LEVEL_BITS
        self._words[self._words_at(self._row, client.cell)] = shown
        client.is_shown = shown != 0

    def _write(self, client: FloodClient) -> None:
        words, at = self._words, self._words_at(self._row, client.cell)
        self.write_open(client)
        words[at + 1] = _pack(client.connects)
        words[at + 2] = 0 if client.requests is None else _pack(client.requests)
        words[at + 3] = 0 if client.denied is None else _pack(client.denied)

    def release(self, client: FloodClient) -> None:
        """Take a client's counts out."""
        cell, client.cell = client.cell, -1
        client.is_shown = False
        self._words[self._mark_at(self._row, cell)] = 0
        self._words[_USED + self._row] -= 1
        del self._owners[cell]

    def _claim(self, client: FloodClient, now: float) -> None:
        """Give a client a cell, that of an idle one if need be."""
        first = client.group * _GROUP
        for cell in range(first, first + _GROUP):
            owner = self._owners.get(cell)
            if owner is not None:
                if not owner.is_idle(now):
                    continue
                self.release(owner)
            client.cell = cell
            self._owners[cell] = client
            self._write(client)
            at = self._mark_at(self._row, cell)
            self._words[at] = int.from_bytes(client.mark, "little")
            self._words[_USED + self._row] += 1
            return

    def _read_others(self, client: FloodClient, now: float) -> SharedCounts:
        found, words, mark = SharedCounts(), self._words, client.mark
        for row in range(words[_ROWS]):
            if row == self._row or not words[_USED + row]:
                continue
            begin = self._mark_at(row, client.group * _GROUP) << 3
            at = self._map.find(mark, begin, begin + 8 * _GROUP)
            if at >= 0:
                cell = client.group * _GROUP + ((at - begin) >> 3)
                _add(found, self._words_of(row, cell), now)
        return found

    def _words_of(self, row: int, cell: int) -> list[int]:
        at = self._words_at(row, cell)
        return self._words[at : at + _WORDS].tolist()

    @staticmethod
    def _mark_at(row: int, cell: int) -> int:
        return ((_HEADER_BYTES + row * _PART_BYTES) >> 3) + cell

    @staticmethod
    def _words_at(row: int, cell: int) -> int:
        return ((_HEADER_BYTES + row * _PART_BYTES + _MARKS_BYTES) >> 3) + cell * _WORDS

    def _place_of(self, key: str | bytes) -> tuple[bytes, int]:
        """Return what marks a client's cell, never zeros, and the number of its group."""
        data = key if isinstance(key, bytes) else key.encode()
        digest = hashlib.blake2b(data, digest_size=12, key=self._key).digest()
        mark = digest[:8] if any(digest[:8]) else b"\1" * 8
        return mark, int.from_bytes(digest[8:], "little") % _GROUPS

    # -- of a worker: what it holds ------------------------------------------------------------

    def held_elsewhere(self) -> int:
        """Return the bytes that the spools of all other workers hold."""
        words = self._words
        held = sum(words[_HELD : _HELD + words[_ROWS]].tolist())
        return held - words[_HELD + self._row]

    def note_held(self, count: int) -> None:
        """Take what the spool of this worker holds."""
        self._words[_HELD + self._row] = count

    # -- of the supervisor ---------------------------------------------------------------------

    def clear(self, row: int) -> None:
        """Take a worker out, or let a new one have its part."""
        self._words[_USED + row] = self._words[_HELD + row] = 0
        self._words[_ROWS] = max(self._words[_ROWS], row + 1)
        # Gives the pages back; they are zero when they are used again.
        self._map.madvise(mmap.MADV_REMOVE, _HEADER_BYTES + row * _PART_BYTES, _PART_BYTES)


def _pack(rate: Rate) -> int:
    minute = round(rate.ends / MINUTE_S) & _MINUTE_MASK
    return (
        minute << 2 * _RATE_BITS
        | min(rate.current, _RATE_MAX) << _RATE_BITS
        | min(rate.previous, _RATE_MAX)
    )


def _add(found: SharedCounts, words: list[int], now: float) -> None:
    """Add what one worker says of a client."""
    levels, connects, requests, denied = words
    found.connections += levels & _LEVEL_MAX
    found.half_open += (levels >> _LEVEL_BITS) & _LEVEL_MAX
    found.udp_sessions += (levels >> 2 * _LEVEL_BITS) & _LEVEL_MAX
    found.connects += _used(connects, now)
    found.requests += _used(requests, now)
    found.denied += _used(denied, now)


def _used(word: int, now: float) -> float:
    """Return what a packed rate comes to now; its minute may be over."""
    current, previous = (word >> _RATE_BITS) & _RATE_MAX, word & _RATE_MAX
    ends = now // MINUTE_S + 1
    covered = ends - now / MINUTE_S
    age = (int(ends) - (word >> 2 * _RATE_BITS)) & _MINUTE_MASK
    if age == 0:
        return current + previous * covered
    return current * covered if age == 1 else 0.0
