"""What the gate and a scanner process say to each other: one struct per message, one per packet.

``pool`` speaks for the gate, ``examination.server`` in the process. The invariant: the gate
believes nothing that a process says beyond its types: texts are cut, numbers looked up, lists
bounded.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from sluicegate.sandbox.message import Message

__all__ = [
    "ArchiveBounds",
    "Begin",
    "Begun",
    "Examine",
    "Examined",
    "FromProcess",
    "Load",
    "LoadFailed",
    "Loaded",
    "Member",
    "MemberEnd",
    "PartFacts",
    "ToProcess",
    "Unable",
    "decode_from_process",
    "decode_to_process",
]


class ArchiveBounds(msgspec.Struct, array_like=True, frozen=True):
    """How much of one object is unpacked."""

    depth_max: int
    entries_max: int
    bytes_max: int
    """Of everything that is unpacked."""
    member_bytes_max: int
    """Of one member: it is looked at in memory."""
    ratio_max: int
    forwarded_bytes_max: int
    """What is sent back of members at most, for others to look at."""


# -- to a process ----------------------------------------------------------------------------------


class Begin(Message):
    """The bounds of all that follows; first, and once."""

    bounds: ArchiveBounds
    cpu_s: float
    """Of one object; beyond it the kernel ends the process."""
    passes_closed: list[str]
    """Kinds of containers that may stay closed."""


class Load(Message):
    """Compile these rules and use them from now on; ``RuleSet.lend``'s descriptor comes along."""

    version: str
    size: int
    """Of what the descriptor holds, in bytes."""


class Examine(Message):
    """Look at an object; its descriptor, open for reading, comes along."""

    number: int
    size: int
    name: str
    content_type: str
    is_text: bool
    """Whether its receiver converts line ends."""
    is_shown: bool
    """Whether what is inside is sent back, to be looked at by others, too: ``Member``."""
    has_texts: bool
    """Whether the texts of documents are among it, as their readers see them."""


# -- from a process --------------------------------------------------------------------------------


class Begun(Message):
    """It is confined and takes objects."""


class Unable(Message):
    """It cannot work on this machine."""

    cause: str


class Loaded(Message):
    """The rules are in use."""

    version: str
    rules: int
    warnings: list[str]


class LoadFailed(Message):
    """The rules are wrong; those before stay in use."""

    version: str
    causes: list[str]


class PartFacts(msgspec.Struct, array_like=True):
    """``filterapi.FoundPart``, flat."""

    path: str
    kind: str
    named: str
    within: str
    size: int
    count: int
    traits: list[str]


class Member(Message):
    """A piece of a member that other scanners shall see."""

    number: int
    path: str
    data: bytes


class MemberEnd(Message):
    """The member is whole."""

    number: int


class Examined(Message):
    """What came of an object."""

    number: int
    outcome: str
    reason: str
    parts: list[PartFacts]


ToProcess: TypeAlias = Begin | Load | Examine
FromProcess: TypeAlias = Begun | Unable | Loaded | LoadFailed | Member | MemberEnd | Examined

_TO_PROCESS: Final[msgspec.msgpack.Decoder[ToProcess]] = msgspec.msgpack.Decoder(ToProcess)
_FROM_PROCESS: Final[msgspec.msgpack.Decoder[FromProcess]] = msgspec.msgpack.Decoder(FromProcess)


def decode_to_process(data: bytes) -> ToProcess:
    """Read what the gate said.

    Raises:
        msgspec.MsgspecError: It is no such message.
    """
    return _TO_PROCESS.decode(data)


def decode_from_process(data: bytes) -> FromProcess:
    """Read what a process said.

    Raises:
        msgspec.MsgspecError: It is no such message.
    """
    return _FROM_PROCESS.decode(data)
