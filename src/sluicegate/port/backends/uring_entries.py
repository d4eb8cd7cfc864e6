"""What the io_uring driver writes into the queues: numbers, layouts, and addresses that stay.

Numbers of the kernel's interface (``include/uapi/linux/io_uring.h``) as far as the driver uses
them. The invariant: an opcode that is not in ``ALLOWED`` cannot be run, because the ring is
restricted to these.
"""

from __future__ import annotations

import errno
import struct
from ctypes import addressof, c_char
from typing import Final

from sluicegate.address import SocketAddress
from sluicegate.limits import PACKED_ADDRESSES_MAX
from sluicegate.port.backend import POLL_IN

__all__ = [
    "ALLOWED",
    "ASYNC_CANCEL",
    "BUFFER_SELECT",
    "BULK",
    "CANCEL_ALL",
    "COMPLETION",
    "CONNECT",
    "ENTER_ARGUMENT",
    "ENTER_EXT_ARG",
    "ENTER_GETEVENTS",
    "ENTRY",
    "ENTRY_OF_RECEIVE",
    "FSYNC",
    "FSYNC_DATA_ONLY",
    "LENGTH_MAX",
    "NOTHING_HAPPENED",
    "POLL_ADD",
    "READ",
    "SHAPE_ACCEPT",
    "SHAPE_DATAGRAMS",
    "SHAPE_RECEIVE",
    "SHAPE_RECEIVE_BULK",
    "SHAPE_RECEIVE_INTO",
    "SHAPE_SEND",
    "SKIP_SUCCESS",
    "SLOT",
    "SLOT_WORDS",
    "SMALL",
    "SPLICE",
    "SPLICE_MOVE",
    "SYNC_FILE_RANGE",
    "SYNC_RANGE_WRITE",
    "TIMESPEC",
    "WRITE",
    "AddressCache",
    "Request",
    "Shape",
    "address_of",
]

FSYNC: Final = 3
POLL_ADD: Final = 6
SYNC_FILE_RANGE: Final = 8
ACCEPT: Final = 13
ASYNC_CANCEL: Final = 14
CONNECT: Final = 16
READ: Final = 22
WRITE: Final = 23
SEND: Final = 26
RECV: Final = 27
SPLICE: Final = 30
ALLOWED: Final = (
    FSYNC,
    POLL_ADD,
    SYNC_FILE_RANGE,
    ACCEPT,
    ASYNC_CANCEL,
    CONNECT,
    READ,
    WRITE,
    SEND,
    RECV,
    SPLICE,
)

BUFFER_SELECT: Final = 1 << 5
SKIP_SUCCESS: Final = 1 << 6

RECV_MULTISHOT: Final = 1 << 1
ACCEPT_MULTISHOT: Final = 1 << 0
CANCEL_ALL: Final = 1 << 0 | 1 << 2
"""``IORING_ASYNC_CANCEL_ALL | ANY``."""
FSYNC_DATA_ONLY: Final = 1 << 0
SYNC_RANGE_WRITE: Final = 2
SPLICE_MOVE: Final = 1
_SOCK_CLOEXEC: Final = 0o2000000
_SEND_FLAGS: Final = 0x100 | 0x4000  # MSG_WAITALL | MSG_NOSIGNAL

ENTER_GETEVENTS: Final = 1 << 0
ENTER_EXT_ARG: Final = 1 << 3

NOTHING_HAPPENED: Final = frozenset({errno.EINTR, errno.ETIME, errno.EAGAIN, errno.EBUSY})
"""What an enter may fail with: a signal, the time-out, no memory for a request now, and overflow
that must be read first."""

ENTRY: Final = struct.Struct("<IiQQIIQQ")
"""``Shape.word`` (opcode, flags, ioprio), fd, offset, address, length, operation flags, user_data,
buffer group (low 16 bits) and splice_fd_in (high 32). The last 16 of 64 bytes stay zero."""
ENTRY_OF_RECEIVE: Final = struct.Struct("<Ii24xQQ")
COMPLETION: Final = struct.Struct("<QiI")
SLOT: Final = struct.Struct("<QIH")
TIMESPEC: Final = struct.Struct("<qq")
ENTER_ARGUMENT: Final = struct.Struct("<QIIQ")

SMALL: Final = 0
BULK: Final = 1


LENGTH_MAX: Final = 0x7FFFF000
"""What one call of the kernel moves at most (``MAX_RW_COUNT``)."""


class Shape:
    """What the entries of one kind of repeatable operation have in common."""

    __slots__ = ("group", "is_multishot", "opcode", "operation_flags", "uses_slots", "word")

    def __init__(
        self, opcode: int, *, flags: int = 0, ioprio: int = 0, operation_flags: int = 0, group: int
    ) -> None:
        self.opcode = opcode
        self.word = opcode | flags << 8 | ioprio << 16
        self.operation_flags = operation_flags
        self.group = group
        self.uses_slots = bool(flags & BUFFER_SELECT)
        self.is_multishot = bool(ioprio)


SHAPE_ACCEPT: Final = Shape(
    ACCEPT, ioprio=ACCEPT_MULTISHOT, operation_flags=_SOCK_CLOEXEC, group=SMALL
)
SHAPE_RECEIVE: Final = Shape(RECV, flags=BUFFER_SELECT, ioprio=RECV_MULTISHOT, group=SMALL)
SHAPE_RECEIVE_BULK: Final = Shape(RECV, flags=BUFFER_SELECT, group=BULK)
SHAPE_DATAGRAMS: Final = Shape(POLL_ADD, operation_flags=POLL_IN, group=SMALL)
SLOT_WORDS: Final = frozenset({SHAPE_RECEIVE.word, SHAPE_RECEIVE_BULK.word})
SHAPE_RECEIVE_INTO: Final = Shape(RECV, group=SMALL)
SHAPE_SEND: Final = Shape(SEND, operation_flags=_SEND_FLAGS, group=SMALL)

Request = tuple[Shape, int, int, int, int]
"""What it takes to submit an operation again: shape, fd, address, length, and what a send that was
cut in parts reports in the end. A plain tuple, because one is made for each receive."""


class AddressCache:
    """Addresses in the kernel's form, each at a place in memory that stays."""

    __slots__ = ("_before", "_last", "_last_packed", "_packed")

    def __init__(self) -> None:
        self._packed: dict[SocketAddress, tuple[bytearray, int, int]] = {}
        self._before = self._packed
        self._last: SocketAddress | None = None
        self._last_packed = (bytearray(), 0, 0)

    def locate(self, address: SocketAddress) -> tuple[bytearray, int, int]:
        """Return the packed address, where it is, and its size."""
        # A published port dials one object over and over; hashing it costs more than all else here.
        if address is not self._last:
            packed = self._packed.get(address)
            if packed is None:
                if len(self._packed) >= PACKED_ADDRESSES_MAX:
                    self._before = self._packed
                    self._packed = {}
                memory = bytearray(address.packed())
                packed = self._packed[address] = (memory, address_of(memory), len(memory))
            self._last = address
            self._last_packed = packed
        return self._last_packed


def address_of(memory: bytearray) -> int:
    """Return where the bytes are; whoever asks keeps them alive and never resizes them."""
    return addressof(c_char.from_buffer(memory))
