r"""What each FTP verb means to a gate, and which commands no filter may let through.

``ftp_dialogue`` asks it for every command; it stands on ``ftp`` and ``ftp_address``. The invariant:
the table is an allow list, for a verb or ``SITE`` subcommand that nobody here has read about could
move a file past the inspection (``COMB``, ``RANG``, ``CPSV``, ``LPRT``, ``SITE CPTO`` do).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sluicegate.errors import ProtocolError
from sluicegate.protocols.ftp import FtpCommand, FtpReply, encode_reply
from sluicegate.protocols.ftp_address import (
    decode_eprt_argument,
    decode_epsv_argument,
    decode_port_argument,
)

__all__ = [
    "VERBS",
    "FtpDirection",
    "FtpRefusal",
    "FtpRole",
    "FtpRules",
    "FtpVerb",
    "decode_restart_argument",
    "decode_type_argument",
    "find_refusal",
    "hide_features",
]


class FtpRole(enum.Enum):
    """What a command does to the state of the dialogue."""

    GREETING = "greeting"
    """Not a command: the reply that a server sends first."""
    UNSOLICITED = "unsolicited"
    """Not a command: a 421 that nobody asked for."""
    USER = "user"
    PASSWORD = "password"  # noqa: S105 - a role, not a secret
    REINITIALIZE = "reinitialize"
    QUIT = "quit"
    SECURITY = "security"
    PASSIVE = "passive"
    EXTENDED_PASSIVE = "extended passive"
    ACTIVE = "active"
    EXTENDED_ACTIVE = "extended active"
    TYPE = "type"
    RESTART = "restart"
    TRANSFER = "transfer"
    ABORT = "abort"
    STATUS = "status"
    OTHER = "other"


class FtpDirection(enum.StrEnum):
    """Which way the bytes of a data connection go."""

    DOWNLOAD = "download"
    UPLOAD = "upload"
    LISTING = "listing"


@dataclass(frozen=True, slots=True)
class FtpVerb:
    """One verb of the table."""

    name: str
    role: FtpRole = FtpRole.OTHER
    writes: bool = False
    #: Whether it changes anything on the server: refused by the read-only switch.
    direction: FtpDirection | None = None
    #: For verbs that use a data connection.


@dataclass(frozen=True, slots=True)
class FtpRules:
    """What the operator lets FTP clients do."""

    is_read_only: bool = False
    allows_restart: bool = False
    #: Whether ``REST n`` passes: the object then lacks its head, or is assembled from parts.
    allows_append: bool = False
    #: Whether ``APPE`` passes, with which a file is assembled from parts.


@dataclass(frozen=True, slots=True)
class FtpRefusal:
    """The reply that a command gets from the gate in place of the server's."""

    code: int
    text: str

    def to_bytes(self) -> bytes:
        """Return the reply line."""
        return encode_reply(self.code, self.text)


def find_refusal(command: FtpCommand, rules: FtpRules) -> FtpRefusal | None:
    """Say what to answer a command that must not reach the server; None for the others."""
    verb = VERBS.get(command.verb)
    if verb is None:
        return FtpRefusal(502, f"{command.verb} is not available through this gate")
    if verb.role is FtpRole.SECURITY:
        return _SECURITY_REFUSAL if command.verb == "AUTH" else _NO_SECURITY_REFUSAL
    if rules.is_read_only and (verb.writes or _writes_by_argument(command)):
        return FtpRefusal(550, f"{command.verb} refused: this gate is read-only here")
    if command.verb == "APPE" and not rules.allows_append:
        return FtpRefusal(502, "APPE refused: files are inspected whole, use STOR")
    check = _ARGUMENT_CHECKS.get(command.verb)
    return None if check is None else check(command.argument, rules)


def decode_type_argument(argument: bytes) -> bool | None:
    """Read the argument of TYPE: True for ASCII, False for image (binary), None for others."""
    if _ASCII_TYPE.fullmatch(argument):
        return True
    return False if _IMAGE_TYPE.fullmatch(argument) else None


def decode_restart_argument(argument: bytes) -> int | None:
    """Read the argument of REST as an offset in bytes; None if it is not one."""
    return int(argument) if _OFFSET.fullmatch(argument) else None


def hide_features(reply: FtpReply, rules: FtpRules) -> FtpReply:
    """Return a FEAT reply (211) with only what passes through the gate.

    Clients that see no ``AUTH TLS`` or ``REST STREAM`` do not try them.
    """
    if len(reply.lines) <= 1:
        return reply
    kept = tuple(line for line in reply.lines[1:-1] if _is_shown_feature(line, rules))
    return FtpReply(reply.code, (reply.lines[0], *kept, reply.lines[-1]), reply.raw)


def _is_shown_feature(line: bytes, rules: FtpRules) -> bool:
    name = line.removeprefix(b"211-").strip().partition(b" ")[0].decode("ascii", "replace").upper()
    if name == "REST":
        return rules.allows_restart
    verb = VERBS.get(name)
    if verb is None:
        return name in _FEATURES_SHOWN
    is_hidden = (
        verb.role is FtpRole.SECURITY
        or name == "MODE"
        or (name == "APPE" and not rules.allows_append)
    )
    return not is_hidden and not (verb.writes and rules.is_read_only)


def _check_mode(argument: bytes, _rules: FtpRules) -> FtpRefusal | None:
    # Block and compressed mode put a framing around the file that the scanner would not see
    # through.
    return None if argument.upper() == b"S" else FtpRefusal(504, "only MODE S is available")


def _check_structure(argument: bytes, _rules: FtpRules) -> FtpRefusal | None:
    # Record and page structure mark records inside the stream.
    return None if argument.upper() == b"F" else FtpRefusal(504, "only STRU F is available")


def _check_type(argument: bytes, _rules: FtpRules) -> FtpRefusal | None:
    if decode_type_argument(argument) is None:
        return FtpRefusal(504, "only TYPE A and TYPE I are available")
    return None


def _check_restart(argument: bytes, rules: FtpRules) -> FtpRefusal | None:
    offset = decode_restart_argument(argument)
    if offset is None:
        return FtpRefusal(501, "REST needs an offset in bytes")
    if offset and not rules.allows_restart:
        return FtpRefusal(502, "REST refused: files are inspected whole, fetch from the start")
    return None


def _check_site(argument: bytes, _rules: FtpRules) -> FtpRefusal | None:
    if _site_subcommand(argument) in _SITE_SUBCOMMANDS:
        return None
    return FtpRefusal(502, "this SITE command is not available through this gate")


def _check_port(argument: bytes, _rules: FtpRules) -> FtpRefusal | None:
    return _refusal_of(lambda: decode_port_argument(argument), 501)


def _check_eprt(argument: bytes, _rules: FtpRules) -> FtpRefusal | None:
    return _refusal_of(lambda: decode_eprt_argument(argument), 522)


def _check_epsv(argument: bytes, _rules: FtpRules) -> FtpRefusal | None:
    return _refusal_of(lambda: decode_epsv_argument(argument), 522)


def _refusal_of(decode: Callable[[], object], code: int) -> FtpRefusal | None:
    try:
        decode()
    except ProtocolError as error:
        # 522 must name the families (RFC 2428 section 2).
        return FtpRefusal(code, f"{error.hint}{', use (1,2)' if code == 522 else ''}")  # noqa: PLR2004 - RFC 2428
    return None


def _writes_by_argument(command: FtpCommand) -> bool:
    """Tell whether a verb that mostly reads writes with this argument."""
    if command.verb == "SITE":
        return _site_subcommand(command.argument) != "HELP"
    # Before MFMT existed, ``MDTM 20240101000000 path`` set a file's time.
    return command.verb == "MDTM" and _TIME_AND_PATH.match(command.argument) is not None


def _site_subcommand(argument: bytes) -> str:
    return argument.partition(b" ")[0].decode("ascii", "replace").upper()


_DOWN, _UP, _LIST = FtpDirection.DOWNLOAD, FtpDirection.UPLOAD, FtpDirection.LISTING
_TRANSFER, _SECURITY = FtpRole.TRANSFER, FtpRole.SECURITY

_TABLE: Final = (
    # RFC 959: access control
    FtpVerb("USER", FtpRole.USER),
    FtpVerb("PASS", FtpRole.PASSWORD),
    FtpVerb("ACCT", FtpRole.PASSWORD),
    FtpVerb("REIN", FtpRole.REINITIALIZE),
    FtpVerb("QUIT", FtpRole.QUIT),
    *(FtpVerb(name) for name in ("CWD", "CDUP", "XCWD", "XCUP")),
    # transfer parameters
    FtpVerb("PORT", FtpRole.ACTIVE),
    FtpVerb("PASV", FtpRole.PASSIVE),
    FtpVerb("TYPE", FtpRole.TYPE),
    FtpVerb("STRU"),
    FtpVerb("MODE"),
    # service
    FtpVerb("RETR", _TRANSFER, direction=_DOWN),
    FtpVerb("STOR", _TRANSFER, writes=True, direction=_UP),
    FtpVerb("STOU", _TRANSFER, writes=True, direction=_UP),
    FtpVerb("APPE", _TRANSFER, writes=True, direction=_UP),
    FtpVerb("LIST", _TRANSFER, direction=_LIST),
    FtpVerb("NLST", _TRANSFER, direction=_LIST),
    FtpVerb("REST", FtpRole.RESTART),
    FtpVerb("ABOR", FtpRole.ABORT),
    FtpVerb("STAT", FtpRole.STATUS),
    *(
        FtpVerb(name, writes=True)
        for name in ("ALLO", "DELE", "RMD", "XRMD", "MKD", "XMKD", "RNFR", "RNTO")
    ),
    FtpVerb("SITE"),
    *(FtpVerb(name) for name in ("PWD", "XPWD", "SYST", "HELP", "NOOP")),
    # RFC 2389, 2640, 7151, 3659, and drafts that only read
    *(FtpVerb(name) for name in ("FEAT", "OPTS", "LANG", "HOST", "CLNT", "SIZE", "MDTM", "MLST")),
    FtpVerb("MLSD", _TRANSFER, direction=_LIST),
    *(FtpVerb(name) for name in ("AVBL", "HASH", "XCRC", "XMD5", "XSHA", "XSHA1", "XSHA256")),
    *(FtpVerb(name, writes=True) for name in ("MFMT", "MFCT", "MFF")),
    # RFC 2428
    FtpVerb("EPRT", FtpRole.EXTENDED_ACTIVE),
    FtpVerb("EPSV", FtpRole.EXTENDED_PASSIVE),
    # RFC 2228 and 4217
    *(
        FtpVerb(name, _SECURITY)
        for name in ("AUTH", "ADAT", "PBSZ", "PROT", "CCC", "MIC", "CONF", "ENC")
    ),
)

#: Every verb that a gate lets through or refuses with a reason of its own.
VERBS: Final = {verb.name: verb for verb in _TABLE}

_ARGUMENT_CHECKS: Final = {
    "MODE": _check_mode,
    "STRU": _check_structure,
    "TYPE": _check_type,
    "REST": _check_restart,
    "SITE": _check_site,
    "PORT": _check_port,
    "EPRT": _check_eprt,
    "EPSV": _check_epsv,
}
_SITE_SUBCOMMANDS = frozenset({"HELP", "CHMOD", "CHGRP", "UMASK", "UTIME"})
#: Features that are no verbs (RFC 2640, RFC 3659 section 6).
_FEATURES_SHOWN = frozenset({"UTF8", "TVFS"})
#: 534 is "request denied for policy reasons" (RFC 2228 section 5).
_SECURITY_REFUSAL = FtpRefusal(534, "TLS is not available: this connection is inspected")
_NO_SECURITY_REFUSAL = FtpRefusal(503, "no security exchange was made with AUTH")
_ASCII_TYPE = re.compile(rb"[Aa](?: [Nn])?")
_IMAGE_TYPE = re.compile(rb"[Ii]|[Ll] ?8")
_OFFSET = re.compile(rb"[0-9]{1,18}")
_TIME_AND_PATH = re.compile(rb"[0-9]{14}[^ ]* .")
