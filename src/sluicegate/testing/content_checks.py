"""What every content filter must do, whatever it looks for: one call checks all of it.

``check_content_filter`` is for the tests of filter authors. The invariant: a check asks only what
holds for every content filter, so a failure is the filter's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sluicegate.filterapi import (
    ContentFilter,
    Direction,
    Release,
    Replace,
    Scanner,
    TransferOffer,
)

from .check_report import CheckReport, SkipCheck, run_checks
from .difference import shown
from .inspecting import InspectedObject, inspect_object
from .playbook import Playbook, offer_of
from .scripted_peer import PlaybookError
from .sizes import BulkBytes, memory_ceiling
from .watched import check_factory

__all__ = ["check_content_filter"]

_SAMPLES: Final = (b"", b"x", b"plain text\n" * 50, bytes(range(256)) * 20)

_HOSTILE: Final = (
    b"PK\x03\x04" + b"\xff" * 60,
    b"PK\x05\x06" + b"\0" * 18,
    b"MZ" + b"\0" * 62,
    b"\x7fELF",
    b"%PDF-1.7\n" + b"\xff" * 30,
    b"\x1f\x8b\x08\x00",
    b"\0" * 5000,
)
"""Beginnings of things that are not what they say."""


@dataclass(frozen=True, slots=True)
class _Subject:
    make: Callable[[], ContentFilter]
    samples: tuple[bytes, ...]
    offer: TransferOffer
    bulk: BulkBytes
    memory: int | str
    scanners: Mapping[str, Scanner]

    def inspect(self, body: bytes | BulkBytes, **limits: Any) -> InspectedObject:
        """Send one object through a new instance."""
        return inspect_object(self.make(), body, self.offer, limits=limits, scanners=self.scanners)


def check_content_filter(
    make: Callable[[], ContentFilter],
    samples: tuple[bytes, ...] = _SAMPLES,
    *,
    offer: TransferOffer | None = None,
    bulk: int | str = "16 MiB",
    memory: int | str = "12 MiB",
    scanners: Mapping[str, Scanner] | None = None,
) -> CheckReport:
    """Check what every content filter must do.

    Args:
        make: The class, or what makes an instance.
        samples: Objects that it can judge, of which it must say something; also of its own kind.
        offer: What they are called, and their direction; something that the filter wants.
        bulk: The size of a large object; 0 leaves that check out.
        memory: A ceiling for what is allocated while it is judged (the gate's and the kit's own
            part is about 6 MiB): read large objects piece by piece.
        scanners: Whom it asks, by name.

    Returns:
        The names of the checks.

    Raises:
        ChecksFailed: It broke promises; all of them are named.
        TypeError: ``make`` makes no content filter.
    """
    __tracebackhide__ = True
    check_factory(make, (ContentFilter,))
    subject = _Subject(
        make,
        samples,
        offer or offer_of("object"),
        BulkBytes.of(bulk),
        memory,
        scanners or {},
    )
    return run_checks(_CHECKS, subject)


# -- the checks; their names are what an author reads --------------------------------------------


def _answers_with_a_verdict(subject: _Subject) -> None:
    for body in subject.samples:
        seen = subject.inspect(body)
        if seen.error is not None:
            raise PlaybookError(
                f"{_shortly(body)}: it raised {type(seen.error).__name__}: {seen.error}"
            ) from seen.error
        if seen.verdict is None:
            raise PlaybookError(
                f"{_shortly(body)}: it was not asked; give an offer that its wants ask for"
            )
        if seen.reason.endswith("which is no verdict"):
            raise PlaybookError(f"{_shortly(body)}: {seen.reason}")


def _what_it_says_is_what_happens(subject: _Subject) -> None:
    for body in subject.samples:
        seen = subject.inspect(body)
        wanted = b""
        if isinstance(seen.verdict, Release):
            wanted = body
        elif isinstance(seen.verdict, Replace):
            wanted = seen.verdict.body
        if seen.received != wanted:
            raise PlaybookError(
                f"{_shortly(body)}: {seen.verdict!r}, and the receiver got {len(seen.received)} "
                f"bytes, not {len(wanted)}"
            )


def _says_the_same_of_an_object_in_a_file(subject: _Subject) -> None:
    for body in subject.samples:
        in_memory, in_file = subject.inspect(body), subject.inspect(body, spool_memory_bytes_max=0)
        _compare(body, in_memory, in_file, "in memory", "in a file")


def _says_the_same_twice(subject: _Subject) -> None:
    instance = subject.make()
    for body in subject.samples:
        first = inspect_object(instance, body, subject.offer)
        second = inspect_object(instance, body, subject.offer)
        _compare(body, first, second, "the first time", "the second time")


def _refuses_what_it_cannot_read(subject: _Subject) -> None:
    dice = random.Random(0)  # noqa: S311 - must be repeatable
    cut = [body[: len(body) // 2] for body in subject.samples if len(body) > 1]
    for body in (*_HOSTILE, *cut, dice.randbytes(3000)):
        seen = subject.inspect(body)
        if seen.error is not None and seen.received_count:
            raise PlaybookError(f"{_shortly(body)}: it raised, and the object was delivered")


def _lets_go_when_a_side_breaks_off(subject: _Subject) -> None:
    body = max(subject.samples, key=len)
    for is_sender in (True, False):
        for share in (0, 2):
            with Playbook(subject.make, offer=subject.offer, scanners=subject.scanners) as play:
                sender, receiver = play.server, play.client
                if subject.offer.direction is Direction.UPLOAD:
                    sender, receiver = receiver, sender
                sender.sends(body[: len(body) * share // 4])
                (sender if is_sender else receiver).resets()


def _lets_go_when_it_takes_too_long(subject: _Subject) -> None:
    for body in subject.samples:
        seen = subject.inspect(body, inspect_timeout_s=0.0)
        if seen.verdict is None and seen.received_count:
            raise PlaybookError(f"{_shortly(body)}: no verdict in time, and it was delivered")


def _judges_two_objects_at_once(subject: _Subject) -> None:
    bodies = (min(subject.samples, key=len), max(subject.samples, key=len))
    alone = [subject.inspect(body) for body in bodies]
    with Playbook(subject.make, offer=subject.offer, scanners=subject.scanners) as play:
        pair = [play.connect(client="10.1.1.1:0"), play.connect(client="10.1.1.2:0")]
        is_upload = subject.offer.direction is Direction.UPLOAD
        ends = [(e.client, e.server) if is_upload else (e.server, e.client) for e in pair]
        for (sender, _), body in zip(ends, bodies, strict=True):
            sender.sends(body[: len(body) // 2])
        for (sender, _), body in zip(ends, bodies, strict=True):
            sender.sends(body[len(body) // 2 :])
            sender.ends()
        for (_, receiver), one in zip(ends, alone, strict=True):
            if receiver.reads() != one.received:
                raise PlaybookError("two objects at once are judged otherwise than one by one")
        play.filter_errors.clear()  # an object that it cannot judge is refused here, too


def _judges_a_large_object_in_bounded_memory(subject: _Subject) -> None:
    bound = subject.make().wants.bytes_max
    if not subject.bulk.size or (bound is not None and subject.bulk.size > bound):
        raise SkipCheck("it judges no objects of this size")
    with memory_ceiling(subject.memory):
        subject.inspect(subject.bulk)


def _compare(
    body: bytes, one: InspectedObject, other: InspectedObject, when: str, then: str
) -> None:
    if (one.verdict, one.outcome, one.received) != (other.verdict, other.outcome, other.received):
        raise PlaybookError(
            f"{_shortly(body)}:\n{when} {one.verdict!r} ({one.outcome}: {one.reason})\n"
            f"{then} {other.verdict!r} ({other.outcome}: {other.reason})"
        )


def _shortly(body: bytes) -> str:
    return f"object of {len(body)} bytes, {shown(body[:24])}{'…' if len(body) > 24 else ''}"  # noqa: PLR2004 - what fits a line


_CHECKS: Final = (
    _answers_with_a_verdict,
    _what_it_says_is_what_happens,
    _says_the_same_of_an_object_in_a_file,
    _says_the_same_twice,
    _refuses_what_it_cannot_read,
    _lets_go_when_a_side_breaks_off,
    _lets_go_when_it_takes_too_long,
    _judges_two_objects_at_once,
    _judges_a_large_object_in_bounded_memory,
)
