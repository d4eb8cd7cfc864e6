"""The tray: where datagrams lie between their receive and their departure.

One per backend. Receivers take batches out of sockets into its slots, look at them, and pass on
what may go; nothing of a plain relay is copied or made into an object. The invariant: a slot keeps
its datagram until what was passed on has left, which is before the port waits again; so passing on
is never late, and a slot is never overwritten under a send.

Why batches and not a completion for each datagram: a datagram is small, so what counts is how often
Python and the kernel are entered. One ``recvmmsg`` brings up to 64 datagrams and one ``sendmmsg``
takes them away, whereas a completion of the ring costs Python as much as handling the datagram.
"""

from __future__ import annotations

import abc
import ctypes
import errno
import mmap
import socket
import struct
from typing import Final, Protocol

from sluicegate.address import SocketAddress
from sluicegate.limits import DATAGRAMS_PER_BATCH_MAX

from .backend import SEND_FLAGS, RawSocket

__all__ = [
    "ATTEMPTS_MAX",
    "CONTROL_SHIFT",
    "HEADROOM",
    "NAME_SHIFT",
    "NOBODY",
    "RECEIVE_FLAGS",
    "SEGMENT_BYTES_MAX",
    "STALE",
    "DatagramHead",
    "DatagramOutlet",
    "DatagramTarget",
    "DatagramTray",
    "SendFailed",
]

HEADROOM: Final = 32
"""Free bytes in front of each datagram, for a header that a relay adds (SOCKS 5: 22)."""

NAME_SHIFT: Final = 5
"""Names (``sockaddr``) stand 32 bytes apart in ``DatagramTray.names``."""

CONTROL_SHIFT: Final = 6
"""Control messages stand 64 bytes apart in ``DatagramTray.controls``."""

RECEIVE_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_TRUNC
"""With ``MSG_TRUNC`` the length is the whole datagram's, so that one that was cut is known."""

STALE: Final = frozenset(
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

ATTEMPTS_MAX: Final = 2
"""How often a datagram is offered to the kernel, when it answers for an earlier one."""

SEGMENT_BYTES_MAX: Final = 9000
"""Larger datagrams are few, and beyond the packets of any network."""

ROOM_MIN: Final = 16
"""With fewer free slots than this the tray is emptied before the next receive."""

_CONTROL_HEAD: Final = struct.Struct("=Qii")
"""A ``cmsghdr``: its length with the message, level, type."""

DatagramHead = tuple[int, int, int, int]
"""Size of the name, size of the control message, flags, and the datagram's whole length, which may
be more than a slot holds: then it was cut and must not be used."""


class SendFailed(Protocol):
    """Whoever is told that a datagram could not leave."""

    def on_send_failed(self, error: int) -> None:
        """Take that the kernel refused a datagram with this errno (``EAGAIN``: no room)."""
        ...


class DatagramTarget:
    """Where datagrams go and who is told when they cannot; pinned memory for the kernel."""

    __slots__ = (
        "address",
        "control",
        "control_address",
        "control_size",
        "name",
        "name_address",
        "name_size",
        "owner",
    )

    def __init__(
        self, owner: SendFailed, address: SocketAddress | None = None, control: bytes = b""
    ) -> None:
        """Make a target.

        Args:
            owner: Told when a datagram to it could not leave.
            address: None on a connected socket.
            control: A control message for each datagram (the address to send from), or nothing.
        """
        self.owner = owner
        self.address = address
        self.name = b"" if address is None else address.packed()
        self.name_size = len(self.name)
        self.name_address = _address_of(self.name)
        self.control = control
        self.control_size = len(control)
        self.control_address = _address_of(control)


class DatagramOutlet:
    """One socket's datagrams that wait in the tray to leave."""

    __slots__ = ("entries", "is_connected", "raw", "segment_bytes_max")

    def __init__(self, raw: RawSocket, *, is_connected: bool = False) -> None:
        self.raw = raw
        self.is_connected = is_connected
        #: All go to one peer, which the socket knows.
        self.segment_bytes_max = SEGMENT_BYTES_MAX
        #: Runs of datagrams up to this size leave as one, which the kernel or the card cuts apart;
        #: lowered when the way out does not do that.
        self.entries: list[tuple[int, int, DatagramTarget]] = []
        #: Offset in the tray, length, target; in the order in which they leave.


class DatagramTray(abc.ABC):
    """Slots for one batch of datagrams after another; lives as long as its backend."""

    __slots__ = (
        "_cursor",
        "bytes_max",
        "controls",
        "first",
        "heads",
        "memory",
        "names",
        "outlets",
        "slot_count",
        "stride",
        "view",
    )

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        #: The largest datagram that a slot holds.
        self.slot_count = DATAGRAMS_PER_BATCH_MAX
        self.stride = (HEADROOM + bytes_max + 63) // 64 * 64
        self.memory = mmap.mmap(-1, self.slot_count * self.stride)
        #: Datagram ``index`` begins at ``index * stride + HEADROOM``.
        self.view = memoryview(self.memory)
        # Slices of a mapping are bytes at once; of a bytearray they would be copied twice.
        self.names = mmap.mmap(-1, self.slot_count << NAME_SHIFT)
        self.controls = mmap.mmap(-1, self.slot_count << CONTROL_SHIFT)
        self.heads: list[DatagramHead] = []
        #: The last batch; its datagrams lie in the slots from ``first`` on.
        self.first = 0
        self.outlets: list[DatagramOutlet] = []
        #: Those with something to send.
        self._cursor = 0

    def receive(self, raw: RawSocket, count_max: int = DATAGRAMS_PER_BATCH_MAX) -> int:
        """Take up to ``count_max`` datagrams out of a socket.

        Returns:
            How many ``heads`` there are now, 0 when none waits, or the negative errno of an ICMP
            answer to something that was sent (``-ECONNREFUSED``) or of the socket itself.
        """
        if self._cursor + ROOM_MIN > self.slot_count:
            self.flush()
            self._cursor = 0
        count = self._fill(raw, min(count_max, self.slot_count - self._cursor))
        if count > 0:
            self.first = self._cursor
            self._cursor += count
        return count

    def receive_one(self, raw: RawSocket) -> int:
        """Take one datagram out of a connected socket: where single ones come, at half the cost.

        Returns:
            Its whole length; it lies in slot ``first`` and has no head. A negative errno otherwise:
            ``-EAGAIN`` when none waits, else as ``receive``.
        """
        cursor = self._cursor
        if cursor + ROOM_MIN > self.slot_count:
            self.flush()
            cursor = 0
        start = cursor * self.stride + HEADROOM
        try:
            length = raw.recv_into(self.view[start : start + self.bytes_max], 0, RECEIVE_FLAGS)
        except OSError as error:
            return -(error.errno or errno.EIO)
        self.first = cursor
        self._cursor = cursor + 1
        return length

    def start_of(self, index: int) -> int:
        """Return the offset of a slot's datagram."""
        return index * self.stride + HEADROOM

    def address_of(self, index: int, size: int) -> SocketAddress:
        """Return who sent a slot's datagram; ``size`` is its head's first number."""
        at = index << NAME_SHIFT
        return SocketAddress.from_packed(self.names[at : at + size])

    def pass_on(
        self, outlet: DatagramOutlet, start: int, length: int, target: DatagramTarget
    ) -> None:
        """Let ``length`` bytes at offset ``start`` leave before the port waits again."""
        entries = outlet.entries
        if not entries:
            self.outlets.append(outlet)
        entries.append((start, length, target))

    def send(self, outlet: DatagramOutlet, data: bytes, target: DatagramTarget) -> None:
        """Send a datagram that is not in the tray, behind what waits to leave the same way."""
        entries, outlet.entries = outlet.entries, []
        if entries:
            self.outlets.remove(outlet)
            self._send(outlet, entries)
        for attempt in range(ATTEMPTS_MAX):
            try:
                self._send_bytes(outlet, data, target)
                return
            except OSError as error:
                if error.errno not in STALE or attempt == ATTEMPTS_MAX - 1:
                    target.owner.on_send_failed(error.errno or errno.EIO)
                    return

    def flush(self) -> None:
        """Let what was passed on leave, and make the slots free."""
        outlets, self.outlets = self.outlets, []
        self._cursor = 0
        for outlet in outlets:
            entries, outlet.entries = outlet.entries, []
            self._send(outlet, entries)

    def drop(self, outlet: DatagramOutlet) -> int:
        """Forget what a socket has not sent, because it closes; return how many."""
        entries, outlet.entries = outlet.entries, []
        if entries:
            self.outlets.remove(outlet)
        return len(entries)

    @abc.abstractmethod
    def _fill(self, raw: RawSocket, count_max: int) -> int:
        """Take datagrams into the slots from ``_cursor`` on, and set ``heads``."""

    def _send_bytes(self, outlet: DatagramOutlet, data: bytes, target: DatagramTarget) -> None:
        raw, address, control = outlet.raw, target.address, target.control
        if address is None:
            raw.send(data, SEND_FLAGS)
        elif not control:
            raw.sendto(data, SEND_FLAGS, address.to_kernel())
        else:
            size, level, kind = _CONTROL_HEAD.unpack_from(control)
            message = control[_CONTROL_HEAD.size : size]
            raw.sendmsg([data], [(level, kind, message)], SEND_FLAGS, address.to_kernel())

    @abc.abstractmethod
    def _send(self, outlet: DatagramOutlet, entries: list[tuple[int, int, DatagramTarget]]) -> None:
        """Send what waits; tell the owner of each datagram that cannot leave."""


def _address_of(memory: bytes) -> int:
    """Return where bytes are; whoever asks keeps them."""
    return (ctypes.cast(ctypes.c_char_p(memory), ctypes.c_void_p).value or 0) if memory else 0


class _Nobody:
    """Whoever is over, and counts nothing."""

    def on_send_failed(self, error: int) -> None:
        """Take it for one who has gone."""


NOBODY: Final = DatagramTarget(_Nobody())
"""In the place of the targets of whoever is over: with them, it would know itself."""
