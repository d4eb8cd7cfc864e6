"""In a scanner process: takes objects one after the other, and says what is in them.

``app.scanner_process`` calls ``serve``. The invariant: each object gets exactly one answer, or the
process ends; nothing of one object is left when the next one comes.
"""

from __future__ import annotations

import math
import os
import resource

from sluicegate.sandbox.blocking_wire import BlockingWire
from sluicegate.sandbox.message import PART_BYTES_MAX
from sluicegate.scan.messages import (
    Begin,
    Begun,
    Examine,
    Examined,
    Load,
    Loaded,
    LoadFailed,
    Member,
    MemberEnd,
    ToProcess,
)
from sluicegate.scan.rule_files import RuleSet
from sluicegate.scan_outcome import ScanOutcome

from .walk import Report, Walk
from .yara_rules import RulesWrong, YaraRules

__all__ = ["serve"]


def serve(wire: BlockingWire[ToProcess]) -> None:
    """Answer until the other end is gone.

    Raises:
        OSError: The wire is broken.
    """
    begin: Begin | None = None
    rules: YaraRules | None = None
    while (received := wire.receive()) is not None:
        message, descriptors = received
        try:
            match message:
                case Begin():
                    begin = message
                    wire.send(Begun())
                case Load():
                    rules = _load(wire, message, descriptors[0], rules)
                case Examine():
                    assert begin is not None, "it is told its bounds first"
                    assert rules is not None, "objects come after rules"
                    _examine(wire, begin, rules, message, descriptors[0])
        finally:
            for one in descriptors:
                os.close(one)


def _load(
    wire: BlockingWire[ToProcess], message: Load, descriptor: int, before: YaraRules | None
) -> YaraRules | None:
    """Compile rules; return those that are in use afterwards."""
    try:
        rules = YaraRules(RuleSet.read_lent(_read(descriptor, 0, message.size)).sources)
    except RulesWrong as error:
        causes = [one[:_TEXT_CHARACTERS_MAX] for one in error.causes[:_TEXTS_MAX]]
        wire.send(LoadFailed(message.version, causes))
        return before
    warnings = [one[:_TEXT_CHARACTERS_MAX] for one in rules.warnings[:_TEXTS_MAX]]
    wire.send(Loaded(message.version, rules.count, warnings))
    return rules


def _examine(
    wire: BlockingWire[ToProcess],
    begin: Begin,
    rules: YaraRules,
    message: Examine,
    descriptor: int,
) -> None:
    _bound_time(begin.cpu_s)

    def forward(path: str, data: bytes) -> None:
        for at in range(0, len(data) or 1, PART_BYTES_MAX):
            piece = data[at : at + PART_BYTES_MAX]
            wire.send(Member(message.number, path, piece))
        wire.send(MemberEnd(message.number))

    try:
        walk = Walk(
            begin.bounds,
            rules,
            passes_closed=begin.passes_closed,
            forward=forward if message.is_shown else None,
            has_texts=message.has_texts,
        )
        data = _read(descriptor, 0, message.size)
        report = walk.examine(data, message.name, message.content_type, is_text=message.is_text)
    except MemoryError:
        report = Report(ScanOutcome.OVER_LIMIT, "memory_bytes_max reached")
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # A mistake of ours that this object brings out: it was not looked at, others will be.
        cause = f"the scanner failed: {type(error).__name__}: {error}"
        report = Report(ScanOutcome.NOT_SCANNED, cause[:_TEXT_CHARACTERS_MAX])
    wire.send(Examined(message.number, report.outcome.value, report.reason, report.parts))


def _read(descriptor: int, offset: int, size: int) -> bytes:
    """Return exactly so many bytes.

    Raises:
        OSError: They are not there: the object is not what was told.
    """
    pieces: list[bytes] = []
    while size:
        piece = os.pread(descriptor, size, offset)
        if not piece:
            raise OSError(0, "the object is shorter than was told")
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _bound_time(cpu_s: float) -> None:
    """Have the kernel end this process when the next object takes more CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + cpu_s) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


_TEXT_CHARACTERS_MAX = 400
_TEXTS_MAX = 20
