"""Conditions of a gate that alerts are about, as its status shows them.

The process that raises alerts looks every few seconds. The invariant: a condition is told only when
two looks, one after the other, have seen it: what a restart or a reload takes away for a moment is
none.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from sluicegate.access_limits import AUTHORITY_EXPIRY_WARNING_DAYS, TLS_EXPIRY_WARNING_DAYS
from sluicegate.app.spool_room import SpoolRoom
from sluicegate.audit.alerts import Condition
from sluicegate.gate.views import Phase, StatusView

__all__ = ["ConditionWatch", "conditions_in"]

_NEARLY = 0.9
_OF_PROCESSES = "process-missing"
_MISSING = frozenset({"waiting", "silent"})
_DAY_S = 86_400


class ConditionWatch:
    """What was so at the last look."""

    def __init__(self) -> None:
        """Begin without having looked."""
        self._before: dict[tuple[str, str], Condition] | None = None

    def steady(self, found: list[Condition], *, is_whole: bool = True) -> list[Condition] | None:
        """Return those that were so at the last look, too; None: there was none to compare with.

        Args:
            found: What is so.
            is_whole: False: only processes were looked at, and the rest is as it was.
        """
        before, now = self._before, {(one.name, one.about): one for one in found}
        if not is_whole and before is not None:
            now |= {key: one for key, one in before.items() if one.name != _OF_PROCESSES}
        self._before = now
        if before is None:
            return None
        return [one for key, one in now.items() if key in before]


def conditions_in(
    status: StatusView, room: SpoolRoom, free_bytes: int, now: float
) -> list[Condition] | None:
    """Return what is so; None: the gate ends, and nothing can be said.

    Of a gate that no worker serves only processes are known: else nobody would be told that the
    last of them is gone.

    Args:
        status: Of the gate.
        room: Of held objects.
        free_bytes: What their file system has left.
        now: In seconds since the Unix epoch.
    """
    if status.phase in {Phase.DRAINING, Phase.STOPPED}:
        return None
    processes = list(_of_processes(status))
    if status.phase is Phase.STARTING:
        return processes
    return [
        *processes,
        *_of_scanners(status),
        *_of_the_log(status),
        *_of_the_spool(status, room, free_bytes),
        *_of_certificates(status, now),
    ]


def _of_processes(status: StatusView) -> Iterator[Condition]:
    for one in status.workers:
        if one.state in _MISSING:
            message = "it does not answer" if one.state == "silent" else "it is not there"
            yield Condition(name=_OF_PROCESSES, about=one.name, message=message)


def _of_scanners(status: StatusView) -> Iterator[Condition]:
    for name in dict.fromkeys(one.name for one in status.scanners if one.state != "working"):
        problem = next((one.problem for one in status.scanners if one.name == name), "")
        yield Condition(name="scanner-down", about=name, message=problem)


def _of_the_log(status: StatusView) -> Iterator[Condition]:
    if status.records_failure or status.phase is Phase.REFUSING:
        message = status.records_failure or "new traffic is refused"
        yield Condition(name="log-unwritable", message=message)
    if status.store_failure:
        yield Condition(name="store-failing", message=status.store_failure)


def _of_the_spool(status: StatusView, room: SpoolRoom, free_bytes: int) -> Iterator[Condition]:
    if status.spool_bytes > _NEARLY * room.bytes_max:
        message = f"{status.spool_bytes} of {room.bytes_max} bytes are taken"
        yield Condition(name="spool-nearly-full", about="spool_bytes_max", message=message)
    if free_bytes < room.free_bytes_min / _NEARLY:
        message = f"{free_bytes} bytes are left, {room.free_bytes_min} are to be left"
        yield Condition(name="spool-nearly-full", about="spool_free_bytes_min", message=message)


def _of_certificates(status: StatusView, now: float) -> Iterator[Condition]:
    if status.authority:
        chain = x509.load_pem_x509_certificates(status.authority.encode())
        ends = min(one.not_valid_after_utc.timestamp() for one in chain)
        if ends - now < AUTHORITY_EXPIRY_WARNING_DAYS * _DAY_S:
            yield _expiry("authority", ends, now)
    for one in status.certificates:
        if one.expires - now < TLS_EXPIRY_WARNING_DAYS * _DAY_S:
            name = one.names[0] if one.names else one.serial
            yield _expiry(f"listener {one.listener}: {name}", one.expires, now)


def _expiry(about: str, ends: float, now: float) -> Condition:
    days = int((ends - now) // _DAY_S)
    message = f"{days} days are left" if days >= 0 else "it has ended"
    return Condition(name="authority-expires", about=about, message=message)
