"""Sink: follows the log, and hands what is chosen to one other system.

The forwarder's process has one for each. The log's files are its queue: its place there is kept in
a file, after what was before it has been taken, so a record is sent at least once. The invariant:
while the other side takes nothing, at most ``queue_bytes`` wait, and what is left out is counted.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from sluicegate.audit.query import LogLine
from sluicegate.audit.search import parse_query
from sluicegate.audit.search.matching import Predicate, predicate_of
from sluicegate.audit.store import Chunk, Follower, LogPosition
from sluicegate.log_limits import SINK_LOOK_S, STORE_RETRY_MAX_S, STORE_RETRY_S

from .otlp import LOGS, TRACES, OtlpSender
from .settings import SinkSettings
from .spans import is_traced
from .syslog import SyslogSender

__all__ = ["Sender", "Sink"]

_BEGINNING: Final = LogPosition()

_decoder: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


class Sender(Protocol):
    """The way to the other side."""

    refusal: str
    """Why the other side will not have what ``send`` counted last."""

    def send(self, lines: Sequence[LogLine]) -> int:
        """Send records; return how many the other side will not have.

        Raises:
            OSError: They were not taken.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class Sink:
    """One sink; blocks while it sends, so it has a thread of its own."""

    def __init__(
        self,
        settings: SinkSettings,
        log: pathlib.Path,
        folder: pathlib.Path,
        say: Callable[[str], None],
        begin: LogPosition = _BEGINNING,
    ) -> None:
        """Begin where it ended, or where a new one begins.

        Args:
            settings: Where it sends which records.
            log: Path of the log.
            folder: Where its place is kept.
            say: Shows a line to whoever started the gate.
            begin: Where in the log a sink begins that never was there.
        """
        self.settings = settings
        self.sent = 0
        self.lost = 0
        #: Records that were left out: the bound was reached, or the other side refused them.
        self.failure = ""
        #: Why nothing is taken; empty while it works.
        self._say = say
        self._place = folder / f"{settings.name}.json"
        self._passes = _predicate_of(settings)
        self._follower = Follower(log, self._read_place(begin), self._on_gap)
        self._sender = _sender_of(settings)
        self._refusal = ""
        #: Why records were refused, as it was said last.
        self._chunk: Chunk | None = None
        #: What is being sent.
        self._retry_s = STORE_RETRY_S

    def turn(self) -> float:
        """Send what is there, a batch at most; return after how many seconds to come again."""
        try:
            self._chunk = self._chunk or self._follower.read()
        except OSError as error:
            return self._fail(f"the log cannot be read: {error.strerror}")
        chunk = self._chunk
        if chunk is None:
            return SINK_LOOK_S
        chosen = self._chosen(chunk.lines)
        try:
            lost = self._sender.send(chosen) if chosen else 0
        except OSError as error:
            return self._fail(error.strerror or str(error), len(chosen))
        self.sent += len(chosen) - lost
        self.lost += lost
        if lost and self._sender.refusal != self._refusal:
            self._refusal = self._sender.refusal
            self._say(f"the sink {self.settings.name} loses records: {self._refusal}")
        if self.failure:
            self.failure = ""
            self._say(f"the sink {self.settings.name} takes records again")
        self._retry_s = STORE_RETRY_S
        self._move(chunk)
        return 0.0

    @property
    def bytes_behind(self) -> int:
        """Bytes of the log that it has not come past, as far as that can be seen."""
        try:
            return self._follower.bytes_behind
        except OSError:
            return 0

    def close(self) -> None:
        """Let go of everything."""
        self._sender.close()
        self._follower.close()

    def _chosen(self, raw: Sequence[bytes]) -> list[LogLine]:
        chosen: list[LogLine] = []
        for one in raw:
            try:
                fields = _decoder.decode(one)
            except msgspec.DecodeError:
                continue  # the store says so
            if self._passes(fields):
                chosen.append(LogLine(one, fields))
        return chosen

    def _fail(self, cause: str, count: int = 0) -> float:
        if self.failure != cause:
            self._say(f"the sink {self.settings.name} takes no records: {cause}")
        self.failure = cause
        if self._chunk is not None and self.bytes_behind > self.settings.queue_bytes:
            self.lost += count
            self._move(self._chunk)
            return 0.0 if self.bytes_behind > self.settings.queue_bytes else STORE_RETRY_S
        retry_s, self._retry_s = self._retry_s, min(2 * self._retry_s, STORE_RETRY_MAX_S)
        return retry_s

    def _on_gap(self, cause: str) -> None:
        self._say(f"the sink {self.settings.name}: {cause}")

    # -- its place -----------------------------------------------------------------------------

    def _read_place(self, begin: LogPosition) -> LogPosition:
        try:
            inode, offset, mark = json.loads(self._place.read_bytes())
            return LogPosition(int(inode), int(offset), str(mark))
        except FileNotFoundError:
            # Kept at once: if it ends before it has sent anything, the next one begins there, too.
            self._keep_place(begin)
            return begin
        except (OSError, ValueError, TypeError):
            return _BEGINNING  # what was sent already is sent again, so nothing is missing

    def _move(self, chunk: Chunk) -> None:
        """Keep that everything up to the end of a chunk is done with."""
        self._chunk = None
        self._keep_place(chunk.position)

    def _keep_place(self, at: LogPosition) -> None:
        partial = self._place.with_suffix(_PARTIAL)
        try:
            partial.write_text(json.dumps([at.inode, at.offset, at.mark]), encoding="ascii")
            partial.replace(self._place)
        except OSError as error:
            self._say(f"{self._place}: cannot be written: {error.strerror}")


_PARTIAL: Final = ".new"


def _predicate_of(settings: SinkSettings) -> Predicate:
    ratio = settings.trace_ratio
    if ratio:
        return lambda fields: is_traced(fields, ratio)
    return predicate_of(parse_query(settings.query, 0.0))


def _sender_of(settings: SinkSettings) -> Sender:
    if settings.scheme in {"http", "https"}:
        return OtlpSender(settings, TRACES if settings.trace_ratio else LOGS)
    return SyslogSender(settings)
