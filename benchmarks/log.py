"""`python -m benchmarks.log`: how fast records get into the store, and what questions cost then.

`make bench-log` comes here. Records of requests, connections, decisions and objects of many clients
and sites are stored in batches as the gate's are; then the questions of the console's pages are
asked, each in a process that has the store just opened. The targets are 20,000 records of each
second of CPU time, 200 ms for a page's question, and 20 µs for the 99th of a hundred records that a
worker hands over. The exit status is 1 when one is missed.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import click
import msgspec

from sluicegate.app.postgres_config import PostgresTable, place_at
from sluicegate.audit import ConnectionRecord, RecordSender
from sluicegate.audit.frames import BatchReader, Note, NoteKind, frame_note
from sluicegate.audit.search import parse_query
from sluicegate.audit.store import (
    LogPosition,
    LogStore,
    SqlitePlace,
    StorePlace,
    StoreReader,
    has_store,
)
from sluicegate.audit.store.log_store import Retention, open_partitions
from sluicegate.clock import SystemClock
from sluicegate.testing.clock import ManualClock

RECORDS_PER_S_MIN = 20_000
QUESTION_MS_MAX = 200.0
ENQUEUE_US_MAX = 20.0
ENQUEUED = 200_000
BATCH = 1_000
SCHEMA = "sluicegate_benchmark"
ROUNDS = 5
BEGIN = 1_790_000_000.0
RATE = 2_000
"""Records of a second of the time that they tell of."""

RULES = ("web", "mail", "build", "updates", "everything-else")
KINDS = ("request", "request", "request", "connection", "decision", "transfer")


def records(count: int) -> Iterator[dict[str, object]]:
    """Yield records as a busy gate makes them; the same ones in every run."""
    chance = random.Random(7)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        is_refused = chance.random() < 0.03
        site = f"h{int(chance.paretovariate(0.8)) % 5_000}.d{chance.randrange(500)}.example.com"
        record: dict[str, object] = {
            "kind": kind,
            "time": BEGIN + number / RATE,
            "connection": f"c-{number // 3:x}",
            "session": f"s-{number % 400:x}",
            "client": f"10.0.{number % 4}.{chance.randrange(100)}:{40_000 + number % 20_000}",
            "rule": RULES[chance.randrange(len(RULES))],
            "reason": "filter:antivirus" if is_refused else "allowed",
        }
        if kind in {"request", "decision"}:
            record |= {"verdict": "denied" if is_refused else "allowed", "listener": "proxy"}
        if kind in {"request", "connection"}:
            record |= {
                "outcome": "refused" if is_refused else "released",
                "server": f"192.0.2.{chance.randrange(256)}:443",
                "bytes_to_client": chance.randrange(100_000),
                "bytes_to_server": 300,
            }
        if kind == "request":
            path = f"/packages/p{chance.randrange(40_000)}/file-{chance.randrange(90)}.tar.gz"
            record |= {
                "request": f"r-{number:x}",
                "method": "GET",
                "url": f"https://{site}{path}",
                "status": 403 if is_refused else 200,
                "duration_ms": round(chance.expovariate(0.05), 3),
                "policy": "ab" * 32,
            }
        elif kind == "transfer":
            record |= {
                "name": f"file-{chance.randrange(90)}.tar.gz",
                "direction": "download",
                "protocol": "http",
                "verdict": "refused" if is_refused else "released",
                "bytes": chance.randrange(1 << 22),
                "sha256": f"{chance.getrandbits(256):064x}",
            }
        else:
            record["target" if kind == "decision" else "host"] = site
        yield record


def enqueue() -> float:
    """Hand records over as a worker does; return what the 99th of 100 takes, in microseconds.

    Each time is that of one call: most put the record into a list, every eighth makes text of them.
    """
    return asyncio.run(_enqueue())


async def _enqueue() -> float:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    tally = memoryview(bytearray(64)).cast("Q")
    sender = RecordSender(16 << 20, SystemClock(), click.echo, tally)
    sender.attach(ours)
    theirs.send(frame_note(Note(NoteKind.WRITTEN, 0)))
    loop, reader = asyncio.get_running_loop(), BatchReader()

    def take() -> None:
        for batch in reader.feed(theirs.recv(1 << 20)):
            theirs.send(frame_note(Note(NoteKind.WRITTEN, batch.number)))

    loop.add_reader(theirs, take)
    taken: list[int] = []
    for number in range(ENQUEUED):
        record = ConnectionRecord(
            time=BEGIN, connection=f"c-{number:x}", session="s-1", client="10.0.0.1:40000",
            listener="proxy", rule="web", server="192.0.2.1:443", started=BEGIN, duration_s=0.25,
            outcome="released", reason="closed", bytes_to_server=300, bytes_to_client=number,
            host="www.example.com", entry="http-connect",
        )  # fmt: skip
        began = time.perf_counter_ns()
        sender.write(record)
        taken.append(time.perf_counter_ns() - began)
        if number % 16 == 0:
            await asyncio.sleep(0)
    await sender.close(10)
    loop.remove_reader(theirs)
    theirs.close()
    assert not sender.lost, "the writer takes everything"
    return statistics.quantiles(taken, n=100)[98] / 1000


def store(place: StorePlace, count: int) -> float:
    """Store records; return how many of each second of CPU time."""
    clock = ManualClock(0.0, BEGIN)
    opened = LogStore(place, clock, Retention(days=90, bytes_max=1 << 50))
    used, offset = 0.0, 0
    batch: list[bytes] = []
    for number, record in enumerate(records(count), 1):
        batch.append(msgspec.json.encode(record))
        if len(batch) < BATCH and number < count:
            continue
        offset += sum(len(line) + 1 for line in batch)
        clock.advance(len(batch) / RATE)
        began = time.process_time()
        opened.append(batch, LogPosition(1, offset))
        used += time.process_time() - began
        batch = []
        if number % 1_000_000 == 0:
            click.echo(f"stored {number:,} records, {number / used:,.0f}/s", err=True)
    began = time.process_time()
    opened.close()
    return count / (used + time.process_time() - began)


def questions(count: int) -> dict[str, Callable[[StoreReader], object]]:
    """Return the questions of the console's pages."""
    now = BEGIN + count / RATE

    def search(text: str) -> Callable[[StoreReader], object]:
        query = parse_query(text, now)
        return lambda reader: reader.search(query, 50, seconds_max=10)

    return {
        "overview: a day by minute": lambda reader: reader.minutes(now - 86_400, now, 600),
        "overview: top clients": lambda reader: reader.top("client", now - 86_400, now, 10),
        "overview: top sites": lambda reader: reader.top("host", now - 86_400, now, 10),
        "overview: reasons of refusals": lambda reader: reader.top("reason", now - 86_400, now, 10),
        "overview: latencies": lambda reader: reader.latencies(now - 86_400, now),
        "log: the newest": search(""),
        "log: refused": search("verdict:refused"),
        "log: one client": search("client:10.0.3.77"),
        "log: a network, one rule": search("client:10.0.2.0/24 rule:mail kind:transfer"),
        "log: one site": search("host:h1.d42.example.com"),
        "log: below a domain": search("host:*.d42.example.com verdict:denied"),
        "log: words": search("p31337 file-7"),
        "log: one connection": search(f"connection:c-{count // 7:x}"),
        "log: refused a while ago": search("verdict:denied time<1h"),
        "log: large": search("bytes_to_client>99000 status:200"),
    }


def ask(place: StorePlace, count: int) -> dict[str, float]:
    """Ask everything; return the median of each in milliseconds."""
    medians: dict[str, float] = {}
    for name, question in questions(count).items():
        taken: list[float] = []
        for _ in range(ROUNDS):
            reader = StoreReader(place, SystemClock())
            began = time.perf_counter()
            question(reader)
            taken.append((time.perf_counter() - began) * 1000)
            reader.close()
        medians[name] = statistics.median(taken)
    return medians


def place_of(folder: pathlib.Path, server: str | None) -> StorePlace:
    """Return where records are to be stored, and are not yet."""
    if server is None:
        return SqlitePlace(folder=str(folder))
    place = place_at(PostgresTable(server=server, schema_name=SCHEMA), folder, folder)
    if has_store(place):
        raise click.UsageError(f"DROP SCHEMA {SCHEMA} CASCADE; first")
    return place


def bytes_of(place: StorePlace) -> int:
    """Return the bytes of a store's files, or of its tables with their indexes."""
    partitions = open_partitions(place)
    try:
        return sum(partitions.size(name) for name in partitions.names())
    finally:
        partitions.close()


@click.command(help=__doc__)
@click.option("--records", "count", default=10_000_000, show_default=True, type=click.IntRange(1))
@click.option("--folder", type=click.Path(path_type=pathlib.Path), help="for some ten gigabytes")
@click.option(
    "--server",
    metavar="ADDRESS",
    help="A PostgreSQL server in place of SQLite: postgresql://USER@/DATABASE?host=/run/postgresql;"
    f" schema {SCHEMA} must not be there, and stays.",
)
@click.option("--json", "json_file", type=click.Path(path_type=pathlib.Path))
def main(
    count: int, folder: pathlib.Path | None, server: str | None, json_file: pathlib.Path | None
) -> None:
    """Hand over, store and ask, and print one table."""
    enqueue_us = enqueue()
    is_cheap = enqueue_us <= ENQUEUE_US_MAX
    verdict = "yes" if is_cheap else "NO"
    click.echo(f"handing over, p99: {enqueue_us:.1f} us (at most {ENQUEUE_US_MAX:.0f}: {verdict})")
    with tempfile.TemporaryDirectory(dir=folder) as made:
        place = place_of(pathlib.Path(made) / "records", server)
        rate = store(place, count)
        size = bytes_of(place)
        medians = ask(place, count)
    is_fast = rate >= RECORDS_PER_S_MIN
    click.echo(
        f"stored {count:,} records: {rate:,.0f} of each second of CPU time (at least"
        f" {RECORDS_PER_S_MIN:,}: {'yes' if is_fast else 'NO'}), {size / count:.0f} bytes each"
    )
    for name, ms in medians.items():
        verdict = "yes" if ms <= QUESTION_MS_MAX else "NO"
        click.echo(f"{name:32} {ms:9.2f} ms  at most {QUESTION_MS_MAX:.0f}: {verdict}")
    if json_file is not None:
        figures = {
            "records": count, "records_per_s": rate, "bytes": size, "ms": medians,
            "enqueue_us": enqueue_us,
        }  # fmt: skip
        json_file.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    sys.exit(not (is_fast and is_cheap and max(medians.values()) <= QUESTION_MS_MAX))


if __name__ == "__main__":
    main()
