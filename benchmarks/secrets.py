"""`python -m benchmarks.secrets`: how fast `data_loss` looks through texts, beside its peers.

`make bench-secrets` comes here. Each text is looked through by `Search` with the default kinds, by
plain `re` with the same expressions, and by whatever peers are installed (`detect-secrets`,
`kingfisher`). Figures are MB of text per second of CPU time, medians; the peers' include what they
take to start, on a text of 16 MiB. The exit status is 1 when a target is missed.
"""

from __future__ import annotations

import base64
import json
import pathlib
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator

import click

from sluicegate.protocols.secrets import KINDS, Search, SecretPatterns

SIZE = 16 << 20
PIECE = 256 << 10
SIZE_OF_RE = 1 << 20
ROUNDS = 3
RATIO_MIN = 5.0
"""Target: so many times as fast as `re`, on text."""
TEXT_MB_S_MIN = 60.0
"""Target: MB/s on source code, on one core."""


def texts() -> Iterator[tuple[str, bytes]]:
    """Yield texts of one size, by what they are like."""
    dice = random.Random(1)
    sources = pathlib.Path(sysconfig.get_path("stdlib")).rglob("*.py")
    code = bytearray()
    for path in sorted(sources):
        code += path.read_bytes()
        if len(code) > SIZE:
            break
    yield "source code", bytes((code * (SIZE // len(code) + 1))[:SIZE])
    rows = bytearray()
    while len(rows) < SIZE:
        rows += b'{"id": %d, "name": "n%d", "amount": %.2f, "note": "a\\u00e9\\n %%20"}\n' % (
            dice.randrange(10**9),
            dice.randrange(10**6),
            dice.random() * 1000,
        )
    yield "JSON lines", bytes(rows[:SIZE])
    yield "base 64", base64.encodebytes(dice.randbytes(SIZE))[:SIZE]
    yield "binary", dice.randbytes(SIZE)


def search(patterns: SecretPatterns, text: bytes) -> None:
    """Look through a text as `data_loss` does."""
    one = Search(patterns)
    for start in range(0, len(text), PIECE):
        one.feed(text[start : start + PIECE])
    one.finish()


def rate(work: Callable[[bytes], object], text: bytes) -> float:
    """Return MB of a text per second of this process's CPU time."""
    took: list[float] = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work(text)
        took.append(time.process_time() - began)
    return len(text) / 1e6 / statistics.median(took)


def rate_of_program(command: list[str], text: bytes) -> float | None:
    """Return MB of a text per second of CPU time of a program that is given its file."""
    if shutil.which(command[0]) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "text.txt"
        path.write_bytes(text)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*command, str(path)], capture_output=True, check=False, timeout=600, cwd=folder
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, 200, 205}:
        raise SystemExit(f"{command[0]} failed: {done.stderr.decode(errors='replace')[-300:]}")
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return len(text) / 1e6 / took


PEERS = {
    "detect-secrets": ["detect-secrets", "scan", "--no-verify", "--force-use-all-plugins"],
    "kingfisher": ["kingfisher", "scan", "--no-validate", "--no-update-check"],
}


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--json", "as_json", type=click.Path(dir_okay=False), help="Write figures there.")
def main(as_json: str | None) -> None:
    """Measure, print the table, and say which target is missed."""
    kinds = [one for one in KINDS.values() if one.is_default]
    patterns = SecretPatterns(kinds)
    every = re.compile(
        b"|".join(b"(?:%s)" % _for_re(one.pattern) for kind in kinds for one in kind.expressions),
        re.DOTALL,
    )
    rows: list[dict[str, str | float | None]] = []
    for name, text in texts():
        row: dict[str, str | float | None] = {
            "text": name,
            "data_loss": rate(lambda one: search(patterns, one), text),
            "re": rate(lambda one: sum(1 for _ in every.finditer(one)), text[:SIZE_OF_RE]),
        }
        for peer, command in PEERS.items():
            row[peer] = rate_of_program(command, text)
        rows.append(row)
        print("  ".join(f"{k}: {_shown(v)}" for k, v in row.items()), flush=True)
    if as_json:
        pathlib.Path(as_json).write_text(json.dumps(rows, indent=2))
    sys.exit(_missed(rows))


def _for_re(pattern: bytes) -> bytes:
    """Give an expression's own flags a group, which `re` wants where others stand before it."""
    return b"(?i:%s)" % pattern[4:] if pattern.startswith(b"(?i)") else pattern


def _shown(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.1f} MB/s"


def _missed(rows: list[dict[str, str | float | None]]) -> int:
    code = rows[0]
    ours, theirs = code["data_loss"], code["re"]
    assert isinstance(ours, float)
    assert isinstance(theirs, float)
    print(f"target: source code at {TEXT_MB_S_MIN} MB/s: {ours:.1f}")
    print(f"target: source code at {RATIO_MIN} times `re`: {ours / theirs:.1f}")
    return int(ours < TEXT_MB_S_MIN or ours / theirs < RATIO_MIN)


if __name__ == "__main__":
    main()
