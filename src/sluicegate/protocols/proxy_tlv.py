r"""What a PROXY header of version 2 may carry behind its addresses: TLVs, and their checksum.

``proxy_protocol`` calls it. The invariant: the lengths of all TLVs, and of those inside an SSL TLV,
add up exactly to what contains them, and a checksum that is present is right.

>>> f"{checksum(b'123456789'):08x}"
'e3069283'
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sluicegate.errors import ProtocolError, Side
from sluicegate.protocol_limits import PROXY_TLVS_MAX

__all__ = [
    "ProxySsl",
    "ProxyTlv",
    "ProxyTlvKind",
    "append_checksum",
    "checksum",
    "decode_ssl",
    "decode_tlvs",
    "encode_tlvs",
]


class ProxyTlvKind(enum.IntEnum):
    """The kinds that haproxy's text names."""

    ALPN = 0x01
    AUTHORITY = 0x02
    """The host name that the client asked the peer for (SNI)."""
    CRC32C = 0x03
    NOOP = 0x04
    """Padding."""
    UNIQUE_ID = 0x05
    SSL = 0x20
    """Contains others: ``decode_ssl``."""
    NETNS = 0x30


@dataclass(frozen=True, slots=True)
class ProxyTlv:
    """One addition; ``kind`` may be none of ``ProxyTlvKind``, for applications have their own."""

    kind: int
    value: bytes


@dataclass(frozen=True, slots=True)
class ProxySsl:
    """What the peer says of the client's TLS."""

    client: int
    #: Bits: 1 over TLS, 2 a certificate on this connection, 4 one in this TLS session.
    verify: int
    #: 0: a certificate was presented and verified.
    tlvs: tuple[ProxyTlv, ...]
    #: Kinds 0x21 to 0x25: version, CN, cipher, algorithms of signature and key.


def decode_tlvs(header: bytes, start: int) -> tuple[ProxyTlv, ...]:
    """Read the TLVs of a whole header from ``start`` to its end; leave out padding and checksum.

    Raises:
        ProtocolError: A length is wrong, there are too many, or the checksum is.
    """
    found: list[ProxyTlv] = []
    walked = _walk(header, start)
    if sum(tlv.kind == ProxyTlvKind.CRC32C for tlv, _ in walked) > 1:
        raise _malformed("has two checksums")
    for tlv, at in walked:
        if tlv.kind == ProxyTlvKind.CRC32C:
            _check_checksum(header, at, tlv.value)
        elif tlv.kind == ProxyTlvKind.UNIQUE_ID and len(tlv.value) > _UNIQUE_ID_BYTES_MAX:
            raise _malformed(f"has a unique id longer than {_UNIQUE_ID_BYTES_MAX} bytes")
        elif tlv.kind != ProxyTlvKind.NOOP:
            if tlv.kind == ProxyTlvKind.SSL:
                decode_ssl(tlv.value)
            found.append(tlv)
    return tuple(found)


def decode_ssl(value: bytes) -> ProxySsl:
    """Read what an SSL TLV contains.

    Raises:
        ProtocolError: It is too short, or a length inside it is wrong.
    """
    if len(value) < _SSL_HEAD:
        raise _malformed("has an SSL TLV that is too short")
    verify = int.from_bytes(value[1:_SSL_HEAD], "big")
    return ProxySsl(value[0], verify, tuple(tlv for tlv, _ in _walk(value, _SSL_HEAD)))


def encode_tlvs(tlvs: Sequence[ProxyTlv]) -> bytes:
    """Return TLVs as they travel.

    Raises:
        ValueError: There are more than a reader would take, one is a checksum (which
            ``append_checksum`` makes), or one is longer than its length field can say.
    """
    if len(tlvs) >= PROXY_TLVS_MAX:
        raise ValueError(
            f"{len(tlvs)} TLVs are too many: a checksum included, {PROXY_TLVS_MAX} fit"
        )
    parts: list[bytes] = []
    for tlv in tlvs:
        if tlv.kind == ProxyTlvKind.CRC32C:
            raise ValueError("a checksum is made last, over the whole header: has_checksum=True")
        if len(tlv.value) > _VALUE_BYTES_MAX:
            raise ValueError(f"a TLV of {len(tlv.value)} bytes does not fit its length field")
        parts.append(bytes((tlv.kind,)) + len(tlv.value).to_bytes(2, "big") + tlv.value)
    return b"".join(parts)


def append_checksum(head: bytes, block: bytes) -> bytes:
    """Return the whole header: ``head``, which has no length yet, block, and checksum."""
    length = len(block) + _TLV_HEAD + _CHECKSUM_BYTES
    tlv_head = bytes((ProxyTlvKind.CRC32C,)) + _CHECKSUM_BYTES.to_bytes(2, "big")
    before = head + length.to_bytes(2, "big") + block + tlv_head
    return before + checksum(before + bytes(_CHECKSUM_BYTES)).to_bytes(_CHECKSUM_BYTES, "big")


def checksum(data: bytes) -> int:
    """Return the CRC32c of RFC 3720, appendix B.4 (``zlib`` has the other polynomial)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _walk(data: bytes, start: int) -> list[tuple[ProxyTlv, int]]:
    """Cut TLVs; each with the place of its value."""
    found: list[tuple[ProxyTlv, int]] = []
    while start < len(data):
        value_at = start + _TLV_HEAD
        end = value_at + int.from_bytes(data[start + 1 : value_at], "big")
        if value_at > len(data) or end > len(data):
            raise _malformed("has a TLV that is longer than what contains it")
        if len(found) == PROXY_TLVS_MAX:
            raise _malformed(f"has more than {PROXY_TLVS_MAX} TLVs")
        found.append((ProxyTlv(data[start], data[value_at:end]), value_at))
        start = end
    return found


def _check_checksum(header: bytes, at: int, value: bytes) -> None:
    if len(value) != _CHECKSUM_BYTES:
        raise _malformed("has a checksum that is not four bytes long")
    blank = header[:at] + bytes(_CHECKSUM_BYTES) + header[at + _CHECKSUM_BYTES :]
    if checksum(blank) != int.from_bytes(value, "big"):
        raise _malformed("has a wrong checksum")


def _malformed(how: str) -> ProtocolError:
    return ProtocolError(f"a PROXY header {how}", Side.CLIENT)


def _crc_table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


#: The polynomial, its bits reversed.
_CASTAGNOLI: Final = 0x82F63B78
_CRC_TABLE: Final = _crc_table()
_TLV_HEAD: Final = 3
_SSL_HEAD: Final = 5
_CHECKSUM_BYTES: Final = 4
_VALUE_BYTES_MAX: Final = 0xFFFF
_UNIQUE_ID_BYTES_MAX: Final = 128
