"""Privileges: from the user that started the gate to the one that it works as.

``run`` and ``supervise`` call it first, before a filter is loaded, a file made or a thread started.
The invariant: it returns only as the user that was asked for, without a capability that is not
needed, and with no way back; whatever cannot be given up is an error, and the gate does not start.

Listeners need no root: the one capability that their ports may need (``CAP_NET_BIND_SERVICE``) is
kept while some configured port asks for it, so that a reload can open one, too. Workers give it up.
Dialling from a client's own address needs ``CAP_NET_ADMIN``, in the process that dials: it is kept,
by workers too, only if the policy at the start has a network rule that asks for it.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pathlib
import pwd
import resource
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sluicegate.address import SocketAddress
from sluicegate.errors import ConfigError

__all__ = [
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "Account",
    "capabilities_in_force",
    "change_account",
    "drop_capabilities",
    "find_account",
    "has_capability",
    "hide_memory",
    "needs_low_ports",
    "prepare_folder",
]

NET_BIND_SERVICE: Final = 10
NET_ADMIN: Final = 12

_PR_SET_DUMPABLE: Final = 4
_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITIES_MAX: Final = 64
_SETPCAP: Final = 8
_NAMES: Final = {NET_BIND_SERVICE: "CAP_NET_BIND_SERVICE", NET_ADMIN: "CAP_NET_ADMIN"}

_LOW_PORTS: Final = pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a gate works as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def find_account(user: str, group: str) -> Account | None:
    """Look the configured user and group up; None when neither is configured.

    Raises:
        ConfigError: There is no such user or group, it is root, or only a group is given.
    """
    if not user:
        if group:
            raise ConfigError('"group" in [service]', "is given without a user", 'add "user"')
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            '"user" in [service]',
            f"there is no user {user!r}",
            f"systemd-sysusers, or: useradd --system --no-create-home {user}",
        ) from None
    try:
        gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
    except KeyError:
        raise ConfigError(
            '"group" in [service]', f"there is no group {group!r}", f"groupadd --system {group}"
        ) from None
    if entry.pw_uid == 0:
        raise ConfigError('"user" in [service]', "is root", "name a user of the gate's own")
    return Account(user, entry.pw_uid, gid, tuple(os.getgrouplist(user, gid)))


def needs_low_ports(addresses: Iterable[SocketAddress]) -> bool:
    """Tell whether some port can be bound with ``CAP_NET_BIND_SERVICE`` only."""
    try:
        first = int(_LOW_PORTS.read_text(encoding="ascii"))
    except (OSError, ValueError):
        first = 1024  # the kernel's own default, where it does not say (before 4.11)
    return any(0 < address.port < first for address in addresses)


def prepare_folder(path: pathlib.Path, account: Account) -> None:
    """Make a private folder of the account's, unless something is there; that is left as it is.

    Raises:
        OSError: It cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    # By descriptor: nobody can put another file in its place meanwhile.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, account.uid, account.gid)
    finally:
        os.close(descriptor)


def change_account(account: Account | None, *, kept: int) -> None:
    """Become the account and give up every capability that is not in the mask ``kept``.

    Without an account the user stays, and the capabilities go all the same. Also sets
    ``no_new_privs``, so that no program that is started later gets any back, and lets nobody read
    this process's memory (no core files, no debugger of the same user).

    Raises:
        ConfigError: It is not this process's to do, or the kernel refuses.
    """
    try:
        if account is not None and not _is_account(account):
            if os.geteuid() != 0:
                raise ConfigError(
                    '"user" in [service]',
                    f"is {account.name!r}, and the gate was started as uid {os.geteuid()}",
                    "start it as that user, or as root",
                )
            _prctl(_PR_SET_KEEPCAPS, 1)
            os.setgroups(account.groups)
            os.setresgid(account.gid, account.gid, account.gid)
            _drop_bounding(kept)
            os.setresuid(account.uid, account.uid, account.uid)
        drop_capabilities(kept)
        hide_memory()
    except OSError as error:
        raise ConfigError(
            "privileges", f"cannot be given up: {error}", "start the gate as root, or as its user"
        ) from error
    if account is not None:
        _check_no_way_back(account)


def drop_capabilities(kept: int) -> None:
    """Give up every capability that is not in the mask, on this thread and those it starts.

    Raises:
        OSError: The kernel refuses.
    """
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _drop_bounding(kept)
    permitted, _ = _read_capabilities()
    left = permitted & kept
    low, high = left & 0xFFFFFFFF, left >> 32
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; the low halves first.
    if _libc.capset(header, struct.pack("<6I", low, low, low, high, high, high)):
        raise _last_error("capset")
    for number in range(_CAPABILITIES_MAX):
        if left & 1 << number:
            # A new version that takes over is another program: it would have to do without.
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if any(mask & ~kept for mask in _read_capabilities()):
        raise OSError("capabilities are left after they were given up")


def hide_memory() -> None:
    """Let nobody of the same user read this process's memory: no core files, no debugger.

    Raises:
        OSError: The kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)  # an exec sets it again


def capabilities_in_force() -> list[str]:
    """Return what is left, for people."""
    permitted, _ = _read_capabilities()
    names = [name for number, name in _NAMES.items() if permitted & 1 << number]
    others = permitted.bit_count() - len(names)
    return names + ([f"{others} others"] if others else [])


def has_capability(number: int) -> bool:
    """Tell whether this process has a capability in force."""
    _, effective = _read_capabilities()
    return bool(effective & 1 << number)


def _is_account(account: Account) -> bool:
    return os.getresuid() == (account.uid,) * 3 and os.getresgid() == (account.gid,) * 3


def _check_no_way_back(account: Account) -> None:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        if _is_account(account):
            return
    raise ConfigError("privileges", "could be got back after they were given up", "report this")


def _drop_bounding(kept: int) -> None:
    """Shrink what programs started later could ever have; only its owner may, and nobody need."""
    _, effective = _read_capabilities()
    if not effective & 1 << _SETPCAP:
        return
    for number in range(_CAPABILITIES_MAX):
        if not kept & 1 << number and _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            _prctl(_PR_CAPBSET_DROP, number)


def _read_capabilities() -> tuple[int, int]:
    """Return the permitted and the effective set."""
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    if _libc.capget(header, data):
        raise _last_error("capget")
    effective, permitted, _, effective_high, permitted_high, _ = struct.unpack("<6I", data.raw)
    return permitted | permitted_high << 32, effective | effective_high << 32


def _prctl(option: int, value: int, second: int = 0) -> None:
    if _libc.prctl(option, value, second, 0, 0):
        raise _last_error(f"prctl({option})")


def _last_error(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), call)
