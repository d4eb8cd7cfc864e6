"""MessageGuard: bounds messages as they come, and takes their compression off and puts it on.

It is an extension of wsproto's, whose own one decompresses without a bound. The invariant: no more
than a message's bound is ever decompressed, and what is too large by its frame's header is refused
before its first byte.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

from typing_extensions import override
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

from .bounds import WebSocketBounds
from .deflate import Deflate
from .fault import WebSocketFault

if TYPE_CHECKING:
    from wsproto.frame_protocol import FrameDecoder, FrameProtocol

__all__ = ["MessageGuard"]


class _Inflate(Protocol):
    """zlib's decompressor, which has no public name."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Deflate(Protocol):
    """zlib's compressor."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: int, /) -> bytes: ...


class MessageGuard(Extension):
    """Of one end; wsproto asks it about every frame."""

    name = "permessage-deflate"

    def __init__(
        self, *, is_client: bool, deflate: Deflate | None, bounds: WebSocketBounds
    ) -> None:
        self.fault: WebSocketFault | None = None
        #: Why it has stopped the reading.
        self.is_compressed = False
        #: Whether the message that is read comes compressed.
        self.was_compressed = False
        #: Whether the last whole one did.
        self.size = 0
        #: Bytes of it so far, decompressed.
        self.compresses_next = False
        #: Whether the next message that is sent is to be compressed.
        self._bounds = bounds
        self._is_on = deflate is not None
        agreed = deflate or Deflate()
        client = agreed.client_bits, agreed.client_forgets
        server = agreed.server_bits, agreed.server_forgets
        self._read, self._written = (server, client) if is_client else (client, server)
        self._inflate: _Inflate | None = None
        self._deflate: _Deflate | None = None
        self._is_data = False
        self._announced = self._packed = self._fragments = 0

    @property
    def may_compress(self) -> bool:
        """Whether messages may be sent compressed."""
        # zlib cannot compress in the smallest window; a sender need not compress at all.
        return self._is_on and self._written[0] > _BITS_NOT_WRITTEN

    # -- wsproto asks ----------------------------------------------------------------------------

    @override
    def enabled(self) -> bool:
        return True

    @override
    def offer(self) -> bool:
        return False

    @override
    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        self._is_data = not opcode.iscontrol()
        if not self._is_data:
            return _NO_BITS
        self._fragments += 1
        if self._fragments > self._bounds.fragments_max:
            return self._stop(WebSocketFault.FRAGMENTS)
        self._announced += payload_length
        if self._announced > self._bounds.message_bytes_max:
            return self._stop(WebSocketFault.TOO_LARGE)
        if opcode is Opcode.CONTINUATION or not self._is_on:
            return _NO_BITS
        self.is_compressed = rsv.rsv1
        return _COMPRESSED

    @override
    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        if not self._is_data:
            return data
        if self.is_compressed:
            return self._decompressed(data)
        self.size += len(data)
        return data

    @override
    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        if not (fin and self._is_data):
            return None
        rest = self._decompressed(_TAIL) if self.is_compressed else None
        if self._read[1]:
            self._inflate = None
        self.was_compressed, self.is_compressed = self.is_compressed, False
        self.size = self._announced = self._packed = self._fragments = 0
        return rest

    @override
    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,
    ) -> tuple[RsvBits, bytes]:
        if opcode.iscontrol() or not self.compresses_next:
            return rsv, data
        self.compresses_next = False
        deflate = self._deflate
        if deflate is None:
            bits = -min(self._written[0], _BITS_USED_MAX)
            deflate = self._deflate = zlib.compressobj(
                zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, bits, _MEMORY_LEVEL
            )
        packed = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
        if self._written[1]:
            self._deflate = None
        return RsvBits(True, rsv.rsv2, rsv.rsv3), packed.removesuffix(_TAIL)

    # -- private ---------------------------------------------------------------------------------

    def _decompressed(self, data: bytes) -> bytes | CloseReason:
        inflate, bounds = self._inflate, self._bounds
        if inflate is None:
            inflate = self._inflate = zlib.decompressobj(-self._read[0])
        room = bounds.message_bytes_max - self.size
        try:
            piece = inflate.decompress(data, room + 1)
        except zlib.error:
            return self._stop(WebSocketFault.DEFLATE)
        if inflate.eof:
            # What follows a final block has no context, and no reading that all receivers share.
            return self._stop(WebSocketFault.DEFLATE)
        self._packed += len(data)
        self.size += len(piece)
        if len(piece) > room:
            return self._stop(WebSocketFault.TOO_LARGE)
        if self.size > bounds.ratio_floor_bytes and self.size > bounds.ratio_max * self._packed:
            return self._stop(WebSocketFault.BOMB)
        return piece

    def _stop(self, fault: WebSocketFault) -> CloseReason:
        self.fault = fault
        return CloseReason(fault.close_code)


_TAIL: Final = b"\x00\x00\xff\xff"
"""The end of a sync flush, which is not sent (RFC 7692 section 7.2.1)."""

_NO_BITS: Final = RsvBits(False, False, False)
_COMPRESSED: Final = RsvBits(True, False, False)
_BITS_NOT_WRITTEN: Final = 8
_BITS_USED_MAX: Final = 12
_MEMORY_LEVEL: Final = 5
"""A compressor takes 32 KiB with these, in place of 256 KiB; messages grow by a few percent."""
