"""Steering: the kernel gives all connections of one client address to one worker.

``doors`` attaches the program to each group of listening sockets. It is an optimisation, nothing
depends on it: without it the kernel spreads connections by address and port of both ends, and what
is counted per client is counted over all workers all the same (``census``). The invariant: ``slot``
computes what the program computes.

The program is classic BPF (``SO_ATTACH_REUSEPORT_CBPF``, Linux 4.5, no privilege needed). It mixes
the source address as MurmurHash3 ends its hashes, so that neighbouring addresses spread evenly, and
begins with a number of this start of the gate, so that nobody can compute outside which addresses
meet on one worker.
"""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct
from typing import Final

from sluicegate.port.backend import RawSocket

__all__ = ["attach", "program", "slot"]

_SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""``asm-generic/socket.h``; Python has no name for it."""

_NETWORK_HEADER: Final = 0xFFF00000
"""``SKF_NET_OFF``: loads count from the network header, whatever was pulled before."""

_SOURCE: Final = {socket.AF_INET: (12,), socket.AF_INET6: (8, 12, 16, 20)}
"""Where the words of a source address are in their headers."""

_FIRST, _SECOND = 0x85EBCA6B, 0xC2B2AE35
_MASK: Final = 0xFFFFFFFF

_LD_WORD, _TAX, _RET_A = 0x20, 0x07, 0x16
_LDX_K, _XOR_X, _MUL_K, _RSH_K, _MOD_K = 0x01, 0xAC, 0x24, 0x74, 0x94


def program(family: int, slots: int, seed: int) -> bytes:
    """Return the instructions (``struct sock_filter``) for a group of ``slots`` sockets."""
    lines: list[tuple[int, int]] = [(_LDX_K, seed)]
    for offset in _SOURCE[socket.AddressFamily(family)]:
        lines += [
            (_LD_WORD, _NETWORK_HEADER + offset),
            (_XOR_X, 0),
            *_MIX,
            (_TAX, 0),  # the next word is mixed into this
        ]
    lines += [(_MOD_K, slots), (_RET_A, 0)]
    return b"".join(struct.pack("HBBI", code, 0, 0, value) for code, value in lines)


def _shift(count: int) -> list[tuple[int, int]]:
    """Return ``A ^= A >> count``: X is free while a word is mixed."""
    return [(_TAX, 0), (_RSH_K, count), (_XOR_X, 0)]


_MIX: Final = [
    *_shift(16),
    (_MUL_K, _FIRST),
    *_shift(13),
    (_MUL_K, _SECOND),
    *_shift(16),
]


def slot(host: str, slots: int, seed: int) -> int:
    """Return the slot that the program chooses for a client's address."""
    packed = ipaddress.ip_address(host).packed
    mixed = seed
    for at in range(0, len(packed), 4):
        mixed ^= int.from_bytes(packed[at : at + 4], "big")
        mixed = (mixed ^ mixed >> 16) * _FIRST & _MASK
        mixed = (mixed ^ mixed >> 13) * _SECOND & _MASK
        mixed ^= mixed >> 16
    return mixed % slots


def attach(member: RawSocket, family: int, slots: int, seed: int) -> str:
    """Attach the program to the group of a listening socket; return why not, or nothing."""
    text = program(family, slots, seed)
    memory = ctypes.create_string_buffer(text, len(text))
    header = struct.pack("HP", len(text) // 8, ctypes.addressof(memory))
    try:
        member.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, header)
    except OSError as error:
        return error.strerror or "refused"
    return ""
