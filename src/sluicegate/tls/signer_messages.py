"""What workers and the signer say to each other: one struct per message, one per packet.

``signer_link`` speaks for a worker, ``signer_server`` in the signer. The invariant: a worker names
facts and never what is signed; a leaf comes back whole, or the code of why there is none.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from sluicegate.sandbox.message import Message

__all__ = [
    "FromSigner",
    "Mint",
    "Minted",
    "NotMinted",
    "decode_from_signer",
    "decode_to_signer",
]


class Mint(Message):
    """Sign a leaf: ``leaf.LeafFacts``, flat."""

    number: int
    host: str
    public_key: bytes
    not_before: int
    not_after: int
    is_trusted: bool


class Minted(Message):
    """The leaf: ``leaf_source.Leaf``, flat."""

    number: int
    certificate: bytes
    above: list[bytes]
    serial: str
    """In hexadecimal: longer than a number of this format."""
    issuer: str
    not_before: int
    not_after: int


class NotMinted(Message):
    """There is none."""

    number: int
    fault: str
    """The code of a ``LeafFault``."""
    detail: str


FromSigner: TypeAlias = Minted | NotMinted

_TO_SIGNER: Final[msgspec.msgpack.Decoder[Mint]] = msgspec.msgpack.Decoder(Mint)
_FROM_SIGNER: Final[msgspec.msgpack.Decoder[FromSigner]] = msgspec.msgpack.Decoder(FromSigner)


def decode_to_signer(data: bytes) -> Mint:
    """Read what a worker said.

    Raises:
        msgspec.MsgspecError: It is no such message.
    """
    return _TO_SIGNER.decode(data)


def decode_from_signer(data: bytes) -> FromSigner:
    """Read what the signer said.

    Raises:
        msgspec.MsgspecError: It is no such message.
    """
    return _FROM_SIGNER.decode(data)
