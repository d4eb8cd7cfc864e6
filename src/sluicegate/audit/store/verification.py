"""Verification: whether a store is what was stored, record by record.

``sluicegate log verify`` runs it. The invariant: a record that was changed, removed, added or moved
after it was stored is found, unless whoever did it has the signing key; what was cut off at the end
is found by whoever kept the link that an earlier verification printed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sluicegate.errors import ConfigError

from .chain import FIRST_LINK, Checkpoint, is_signed_by, link_of
from .place import StorePlace
from .reader import open_readings
from .reading import SqlReading

__all__ = ["Verification", "verify_store"]


@dataclass(slots=True)
class Verification:
    """What was found."""

    first: int = 0
    """The number of the oldest record."""
    last: int = 0
    """The number of the newest one."""
    link: bytes = FIRST_LINK
    """The link at the end: kept elsewhere, it holds all of today's log to what it is."""
    checkpoints: int = 0
    """Signatures that are right."""
    signed_last: int = 0
    """The number of the last record that a signature covers."""
    signed_time: float = 0.0
    """When that was signed, in seconds since the Unix epoch."""
    faults: list[str] = field(default_factory=list[str])
    """What is wrong, the oldest first; the first of one partition may bring others with it."""


def verify_store(
    place: StorePlace,
    public: bytes,
    *,
    expected: bytes | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Verification:
    """Read all of a store, and check every link and every signature.

    Args:
        place: The store.
        public: The key that its checkpoints are checked with; kept elsewhere, if it can be.
        expected: A link that an earlier verification found at the end.
        on_progress: Told how many records were read, now and then.

    Raises:
        ConfigError: There is no store, or none of it can be read.
    """
    found = Verification()
    starts: list[Checkpoint] = []
    links: dict[int, bytes] = {}
    previous: tuple[int, bytes] | None = None
    readings = open_readings(place)
    try:
        for partition in reversed(list(readings.newest_first())):
            try:
                previous = _verify_partition(partition, previous, found, links, on_progress)
                starts += partition.checkpoints()
            except ConfigError as error:
                found.faults.append(f"{partition.name}: {error.cause}")
                previous = None
    finally:
        readings.close()
    _verify_checkpoints(starts, public, links, found)
    if expected is not None and expected not in links.values():
        found.faults.append("the expected link is not in the chain: it was cut off or made anew")
    return found


def _verify_partition(
    partition: SqlReading,
    previous: tuple[int, bytes] | None,
    found: Verification,
    links: dict[int, bytes],
    on_progress: Callable[[int], None],
) -> tuple[int, bytes] | None:
    """Check one partition; return the number of its last record, and its last link."""
    begun = partition.begin()
    if begun is None:
        return previous  # let go meanwhile
    first, link = begun
    name = partition.name
    if not found.first:
        found.first = first
        links[first - 1] = link
    elif previous != (first - 1, link):
        found.faults.append(f"{name}: does not go on where the one before it ends")
    expected = first
    for begin, last, stored in partition.links():
        if begin != expected:
            found.faults.append(f"{name}: record {expected} and those behind it are missing")
        records = partition.records(begin, last)
        lines = [record.line.encode("utf-8") for record in records]
        if [record.seq for record in records] != list(range(begin, last + 1)):
            found.faults.append(f"{name}: some of records {begin} to {last} are missing")
        elif link_of(link, begin, lines) != stored:
            found.faults.append(f"{name}: records {begin} to {last} are not what was stored")
        link, expected = stored, last + 1
        links[last] = stored
        on_progress(last)
    beyond = partition.count_outside(first, expected)
    if beyond:
        found.faults.append(f"{name}: {beyond} records are in no link")
    found.last, found.link = expected - 1, link
    return expected - 1, link


def _verify_checkpoints(
    checkpoints: list[Checkpoint], public: bytes, links: dict[int, bytes], found: Verification
) -> None:
    """Check signatures against links, and that the log begins where the last one says it does."""
    for checkpoint in checkpoints:
        where = f"the checkpoint behind record {checkpoint.last}"
        if not is_signed_by(public, checkpoint):
            found.faults.append(f"{where} is not signed by this key")
        elif checkpoint.last not in links and checkpoint.last >= found.first:
            found.faults.append(f"{where} is about records that are not there")
        elif links.get(checkpoint.last, checkpoint.link) != checkpoint.link:
            found.faults.append(f"{where} says that the records before it were others")
        else:
            found.checkpoints += 1
            found.signed_last, found.signed_time = checkpoint.last, checkpoint.time
    if checkpoints and checkpoints[-1].first != found.first:
        found.faults.append(
            f"the log begins with record {found.first}, and should with {checkpoints[-1].first}"
        )
    if not checkpoints and found.last >= found.first > 0:
        found.faults.append("nothing in it is signed")
