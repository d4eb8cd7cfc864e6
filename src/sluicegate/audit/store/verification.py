"""Verification: whether a store is what was stored, record by record.

``sluicegate log verify`` runs it. The invariant: a record that was changed, removed, added or moved
after it was stored is found, unless whoever did it has the signing key; what was cut off at the end
is found by whoever kept the link that an earlier verification printed.
"""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .chain import FIRST_LINK, Checkpoint, is_signed_by, link_of
from .partition import open_to_read, partition_files

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
    folder: pathlib.Path,
    public: bytes,
    *,
    expected: bytes | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Verification:
    """Read all of a store, and check every link and every signature.

    Args:
        folder: The store.
        public: The key that its checkpoints are checked with; kept elsewhere, if it can be.
        expected: A link that an earlier verification found at the end.
        on_progress: Told how many records were read, now and then.

    Raises:
        OSError: The folder cannot be read.
    """
    found = Verification()
    starts: list[Checkpoint] = []
    links: dict[int, bytes] = {}
    previous: tuple[int, bytes] | None = None
    for _, _, path in partition_files(folder):
        try:
            database = open_to_read(path)
        except sqlite3.Error as error:
            found.faults.append(f"{path.name}: cannot be read: {error}")
            previous = None
            continue
        with contextlib.closing(database):
            try:
                previous = _verify_partition(path, database, previous, found, links, on_progress)
                starts += _checkpoints_of(database)
            except sqlite3.Error as error:
                found.faults.append(f"{path.name}: cannot be read: {error}")
                previous = None
    _verify_checkpoints(starts, public, links, found)
    if expected is not None and expected not in links.values():
        found.faults.append("the expected link is not in the chain: it was cut off or made anew")
    return found


def _verify_partition(
    path: pathlib.Path,
    database: sqlite3.Connection,
    previous: tuple[int, bytes] | None,
    found: Verification,
    links: dict[int, bytes],
    on_progress: Callable[[int], None],
) -> tuple[int, bytes]:
    """Check one partition; return the number of its last record, and its last link."""
    facts = dict(database.execute("SELECT name, value FROM facts").fetchall())
    first, link = int(facts["first"]), bytes(facts["before"])
    if not found.first:
        found.first = first
        links[first - 1] = link
    elif previous != (first - 1, link):
        found.faults.append(f"{path.name}: does not go on where the one before it ends")
    expected = first
    for begin, last, stored in _links(database):
        if begin != expected:
            found.faults.append(f"{path.name}: record {expected} and those behind it are missing")
        rows = database.execute(
            "SELECT seq, body FROM records WHERE seq BETWEEN ? AND ? ORDER BY seq", (begin, last)
        ).fetchall()
        lines = [str(body).encode("utf-8") for _, body in rows]
        if [seq for seq, _ in rows] != list(range(begin, last + 1)):
            found.faults.append(f"{path.name}: some of records {begin} to {last} are missing")
        elif link_of(link, begin, lines) != stored:
            found.faults.append(f"{path.name}: records {begin} to {last} are not what was stored")
        link, expected = stored, last + 1
        links[last] = stored
        on_progress(last)
    (beyond,) = database.execute(
        "SELECT count(*) FROM records WHERE seq >= ? OR seq < ?", (expected, first)
    ).fetchone()
    if beyond:
        found.faults.append(f"{path.name}: {beyond} records are in no link")
    found.last, found.link = expected - 1, link
    return expected - 1, link


def _links(database: sqlite3.Connection) -> Iterator[tuple[int, int, bytes]]:
    for first, last, link in database.execute("SELECT first, last, link FROM links ORDER BY first"):
        yield int(first), int(last), bytes(link)


def _checkpoints_of(database: sqlite3.Connection) -> list[Checkpoint]:
    rows = database.execute(
        "SELECT last, link, time, first, signature FROM checkpoints ORDER BY rowid"
    )
    return [Checkpoint(*row) for row in rows]


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
