"""Datagrams by ``recvmmsg`` and ``sendmmsg``: the tray of the io_uring and the epoll driver.

Both drivers only say when a socket may have something; all else is here. The invariant: one system
call moves a whole batch, and a datagram that the kernel refuses is told to its owner, never lost in
silence.

ctypes and not ``socket.recvmsg``: the latter makes four objects for each datagram and takes one
(2.1 µs against 0.3 µs of Python in a batch of 32). Plain integers are what ctypes converts fastest,
but it passes them as 32 bits, so pointers are ``c_void_p`` made once.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from typing import Final

from typing_extensions import override

from sluicegate.port.backend import SEND_FLAGS, RawSocket
from sluicegate.port.tray import (
    CONTROL_SHIFT,
    HEADROOM,
    NAME_SHIFT,
    RECEIVE_FLAGS,
    DatagramHead,
    DatagramOutlet,
    DatagramTarget,
    DatagramTray,
)

__all__ = ["KernelTray"]

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_sendmmsg = _libc.sendmmsg
_get_errno = ctypes.get_errno

_HEADER_SHIFT: Final = 6
"""``struct mmsghdr`` is 64 bytes on every 64-bit architecture."""
_VECTOR_SHIFT: Final = 4

_HEADER: Final = struct.Struct("<QI4xQQQQi4xI4x")
"""Name, its size, vectors, their count, control, its size, flags; and the datagram's length."""
_RESULT: Final = struct.Struct("<8xI28xQi4xI4x")
_VECTOR: Final = struct.Struct("<QQ")

_STALE: Final = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENOPROTOOPT,
        errno.EPROTO,
        errno.EINTR,
    }
)
"""An ICMP answer to an earlier datagram is told to the next send, which is then made again."""

_ATTEMPTS_MAX: Final = 2


class KernelTray(DatagramTray):
    """A tray with the kernel's message headers over its slots."""

    __slots__ = (
        "_base",
        "_receive_headers",
        "_receive_places",
        "_receive_vectors",
        "_send_headers",
        "_send_places",
        "_template",
        "_vectors",
        "_vectors_at",
    )

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max)
        count = self.slot_count
        self._base = _address_of(self.memory)
        self._receive_vectors = vectors = mmap.mmap(-1, count << _VECTOR_SHIFT)
        self._receive_headers = mmap.mmap(-1, count << _HEADER_SHIFT)
        self._send_headers = mmap.mmap(-1, count << _HEADER_SHIFT)
        self._vectors = mmap.mmap(-1, count << _VECTOR_SHIFT)
        self._vectors_at = _address_of(self._vectors)
        names, controls, at = (
            _address_of(self.names),
            _address_of(self.controls),
            _address_of(vectors),
        )
        for index in range(count):
            start = self._base + index * self.stride + HEADROOM
            _VECTOR.pack_into(vectors, index << _VECTOR_SHIFT, start, bytes_max)
            _HEADER.pack_into(
                self._receive_headers,
                index << _HEADER_SHIFT,
                names + (index << NAME_SHIFT),
                1 << NAME_SHIFT,
                at + (index << _VECTOR_SHIFT),
                1,
                controls + (index << CONTROL_SHIFT),
                1 << CONTROL_SHIFT,
                0,
                0,
            )
        self._template = self._receive_headers[:]
        #: The kernel writes sizes into the headers, which the next receive must not inherit.
        self._receive_places = _places(self._receive_headers, count)
        self._send_places = _places(self._send_headers, count)

    @override
    def _fill(self, raw: RawSocket, count_max: int) -> int:
        cursor = self._cursor
        count: int = _recvmmsg(
            raw.fileno(), self._receive_places[cursor], count_max, RECEIVE_FLAGS, None
        )
        if count <= 0:
            error = _get_errno()
            return 0 if error == errno.EAGAIN else -error
        start, end = cursor << _HEADER_SHIFT, cursor + count << _HEADER_SHIFT
        headers = self._receive_headers
        heads: list[DatagramHead] = list(_RESULT.iter_unpack(headers[start:end]))
        headers[start:end] = self._template[start:end]
        self.heads = heads
        return count

    @override
    def _send(self, outlet: DatagramOutlet, entries: list[tuple[int, int, DatagramTarget]]) -> None:
        raw = outlet.raw
        if outlet.is_connected and len(entries) == 1:
            self._send_one(raw, *entries[0])
            return
        headers, vectors, base, at = self._send_headers, self._vectors, self._base, self._vectors_at
        pack, pack_vector = _HEADER.pack_into, _VECTOR.pack_into
        for index, (start, length, target) in enumerate(entries):
            pack_vector(vectors, index << _VECTOR_SHIFT, base + start, length)
            pack(
                headers,
                index << _HEADER_SHIFT,
                target.name_address,
                target.name_size,
                at + (index << _VECTOR_SHIFT),
                1,
                target.control_address,
                target.control_size,
                0,
                0,
            )
        descriptor, total, sent, attempts = raw.fileno(), len(entries), 0, 0
        while sent < total:
            count: int = _sendmmsg(descriptor, self._send_places[sent], total - sent, SEND_FLAGS)
            if count > 0:
                sent += count
                attempts = 0
                continue
            error = _get_errno()
            attempts += 1
            if error not in _STALE or attempts >= _ATTEMPTS_MAX:
                entries[sent][2].owner.on_send_failed(error)
                sent += 1
                attempts = 0

    def _send_one(self, raw: RawSocket, start: int, length: int, target: DatagramTarget) -> None:
        view = self.view[start : start + length]
        error = 0
        for _ in range(_ATTEMPTS_MAX):
            try:
                raw.send(view, SEND_FLAGS)
                return
            except OSError as failure:
                error = failure.errno or errno.EIO
                if error not in _STALE:
                    break
        target.owner.on_send_failed(error)


def _places(memory: mmap.mmap, count: int) -> list[ctypes.c_void_p]:
    base = _address_of(memory)
    return [ctypes.c_void_p(base + (index << _HEADER_SHIFT)) for index in range(count)]


def _address_of(memory: mmap.mmap) -> int:
    """Return where a mapping is; whoever asks keeps it."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
