"""Copy a tree of files with 64 operations in flight, by ``await``.

Run it: ``python copy_tree_await.py SOURCE TARGET``. Sixty-four coroutines share one plan; each owns
a buffer and an overlapped. No thread waits for the disk.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

from tree_plan import IN_FLIGHT, PIECE_SIZE, Piece, plan_pieces

from sluicegate.port import CompletionPort, current_port, run


async def copy_tree(source: Path, target: Path) -> int:
    """Copy a folder and return the bytes copied; the first failure ends it all."""
    port = current_port()
    pieces = plan_pieces(port, source, target)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(copy_pieces(port, pieces)) for _ in range(IN_FLIGHT)]
    return sum(task.result() for task in tasks)


async def copy_pieces(port: CompletionPort, pieces: Iterator[Piece]) -> int:
    """Copy pieces until there are none, one operation at a time."""
    buffer = port.create_buffer(PIECE_SIZE)
    overlapped = port.create_overlapped()
    copied = 0
    for piece in pieces:
        overlapped.offset = piece.offset
        piece.file.source.start_read(buffer, overlapped, piece.length)
        length = await overlapped.wait()
        written = 0
        while written < length:
            overlapped.offset = piece.offset + written
            piece.file.target.start_write(buffer.window(written), overlapped)
            written += await overlapped.wait()
        piece.file.finish_piece()
        copied += length
    return copied


if __name__ == "__main__":
    print(run(copy_tree(Path(sys.argv[1]), Path(sys.argv[2]))), "bytes copied")
