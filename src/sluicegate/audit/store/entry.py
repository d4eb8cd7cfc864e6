"""Entry: what a store keeps of a record beside its line, taken out of it once.

``log_store`` reads them, partitions make rows and totals of them. The invariant: an entry says of a
record what ``search.matching`` says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from sluicegate.audit.search.sql import COLUMNS
from sluicegate.audit.search.words import SEARCHED, host_among
from sluicegate.log_limits import RECORD_LINE_BYTES_MAX

__all__ = ["Entry", "read_entry"]

_decoder: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One record; texts are empty, and numbers zero, where it has none."""

    line: str
    """As it stands in the log, without its line end."""
    time: float
    """When it was recorded, in seconds since the Unix epoch."""
    kind: str
    verdict: str
    outcome: str
    host: str
    """What it is about, without a port."""
    rule: str
    user: str
    connection: str
    session: str
    client: str
    """With its port."""
    server: str
    peer: str
    request: str
    """The request that it is about."""
    parent: str
    """The connection that it is about, where it is a record of another one."""
    filter: str
    ended: str
    """Why it was refused: how it ended, or else the reason."""
    searched: tuple[str, ...]
    """The texts of ``SEARCHED``, in which words are looked for."""
    bytes_to_client: int
    bytes_to_server: int
    duration_ms: float


def read_entry(line: bytes) -> Entry | None:
    """Return what is kept of a line without its line end; None: it is no record of any version."""
    if len(line) > RECORD_LINE_BYTES_MAX:
        return None
    try:
        fields, text = _decoder.decode(line), line.decode("utf-8")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    time = fields.get("time")
    if not isinstance(time, _NUMBERS) or not 0 <= time < _TIME_MAX:
        return None
    try:
        return _entry(text, time, fields)
    except TypeError:
        as_texts = {
            name: value
            for name, value in fields.items()
            if name not in _TEXTS or isinstance(value, str)
        }
        return _entry(text, time, as_texts)


def _entry(line: str, time: float, fields: Mapping[str, object]) -> Entry:
    """Take what is kept out of a record.

    Raises:
        TypeError: What should be a text is something else.
    """
    # This is done for every record: a field is looked up once, and one call tells whether all of
    # them are texts.
    found = cast("Mapping[str, str]", fields).get
    host, url, target = found("host", ""), found("url", ""), found("target", "")
    sni, server, reason = found("sni", ""), found("server", ""), found("reason", "")
    searched = (
        host, url, target, sni, found("name", ""), server, reason, found("cause", ""),
        found("message", ""),
    )  # fmt: skip
    kind, verdict, outcome = found("kind", ""), found("verdict", ""), found("outcome", "")
    rule, user, connection = found("rule", ""), found("user", ""), found("connection", "")
    session, client, peer = found("session", ""), found("client", ""), found("peer", "")
    request, stopped, ended = found("request", ""), found("filter", ""), found("ended", "")
    parent = found("primary", "") or (_connection_of(fields["facts"]) if "facts" in fields else "")
    texts = (
        *searched, kind, verdict, outcome, rule, user, connection, session, client, peer, request,
        stopped, ended, parent,
    )  # fmt: skip
    "".join(texts)
    down = up = 0
    if "bytes_to_client" in fields or "bytes_to_server" in fields:
        down, up = int(_number(fields, "bytes_to_client")), int(_number(fields, "bytes_to_server"))
    milliseconds = _number(fields, "duration_ms") if "duration_ms" in fields else 0.0
    return Entry(
        line, time, kind, verdict, outcome, host_among(host, url, target, sni), rule, user,
        connection, session, client, server, peer, request, parent, stopped, ended or reason,
        searched, down, up, milliseconds,
    )  # fmt: skip


def _connection_of(facts: object) -> str:
    found = cast("dict[str, object]", facts).get("connection") if isinstance(facts, dict) else None
    return found if isinstance(found, str) else ""


def _number(fields: Mapping[str, object], name: str) -> float:
    value = fields.get(name, 0)
    # No database takes greater ones, and no record that we wrote has them.
    return min(value, _NUMBER_MAX) if isinstance(value, _NUMBERS) else 0


_TEXTS: Final = frozenset(
    {*SEARCHED, *COLUMNS, "client", "peer", "request", "filter", "ended", "primary"}
)
_NUMBERS: Final = (int, float)  # made once: a union is made anew each time
_NUMBER_MAX: Final = 1 << 53
_TIME_MAX: Final = 1 << 36
"""Some two thousand years: what lies beyond is no time that a clock gave."""
