"""Records as spans of OpenTelemetry: each record of a traced connection becomes one.

``otlp`` encodes what this makes. A connection is a trace, and its requests, held objects and steps
are spans in it. The invariant: a span follows from its record alone, so nothing is kept while a
connection lives, and what is sent twice has the same identifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from sluicegate.audit.query import LogLine
from sluicegate.audit.sampling import carrier_of, is_sampled, span_id, trace_id

__all__ = ["METHODS", "is_traced", "span_of"]

_Fields = Mapping[str, object]

_INTERNAL: Final = 1
_SERVER: Final = 2
_CLIENT: Final = 3
# ``SpanKind`` of the data model.
METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
"""Those that the conventions for HTTP know; clients may send any other word."""
_ERROR: Final = 2
"""``StatusCode``."""


def is_traced(fields: _Fields, ratio: float) -> bool:
    """Tell whether a record becomes a span, where this share of connections is traced."""
    kind, connection = fields.get("kind"), fields.get("connection")
    if not isinstance(kind, str) or not isinstance(connection, str) or not connection:
        return False
    # A connection that was let in has a record of its end, which says what the decision said.
    if kind not in _MADE or (kind == "decision" and fields.get("verdict") != "denied"):
        return False
    return is_sampled(connection, ratio)


def span_of(line: LogLine) -> dict[str, Any]:
    """Return the span of a record that ``is_traced``, without its attributes."""
    fields = line.fields
    name, kind, span, parent, duration_s = _MADE[str(fields["kind"])](fields)
    connection = line.text("connection")
    ended = _number(fields, "time")
    started = _number(fields, "started") or ended - duration_s
    made: dict[str, Any] = {
        "traceId": trace_id(connection),
        "spanId": span,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": _nanoseconds(started),
        "endTimeUnixNano": _nanoseconds(started + duration_s),
    }
    if parent:
        made["parentSpanId"] = parent
    if primary := line.text("primary"):
        # Another connection announced it: it is a trace of its own.
        made["links"] = [{"traceId": trace_id(primary), "spanId": _of_connection(primary)}]
    is_failed = line.text("kind") == "step" and line.text("reason")
    if is_failed or line.text("outcome") == "failed" or line.text("kind") == "filter-failure":
        why = line.text("ended") or line.text("cause") or line.text("reason")
        made["status"] = {"code": _ERROR, "message": why}
    return made


# -- what a record is, as a span: name, kind, identifier, parent, duration in seconds -------------

_Made = tuple[str, int, str, str, float]


def _connection(fields: _Fields) -> _Made:
    name = f"connection {_text(fields, 'listener')}"
    connection = _text(fields, "connection")
    # A stream that became a connection of its own is a part of the one that carries it.
    parent = "" if carrier_of(connection) == connection else _of_connection(connection)
    span = span_id("connection", connection)
    return name, _SERVER, span, parent, _number(fields, "duration_s")


def _request(fields: _Fields) -> _Made:
    connection, request = _text(fields, "connection"), _text(fields, "request")
    # The convention for spans of HTTP: a method that is known, for names must not be the clients'
    # to choose, and a URL has no end of values.
    method = _text(fields, "method")
    name = method if method in METHODS else "HTTP"
    parent = _of_connection(connection)
    return name, _SERVER, _of_request(request), parent, _number(fields, "duration_ms") / 1000


def _transfer(fields: _Fields) -> _Made:
    connection = _text(fields, "connection")
    name = f"hold {_text(fields, 'direction')}"
    what = (_text(fields, "name"), _text(fields, "sha256"), repr(fields.get("time")))
    span = span_id("transfer", connection, *what)
    facts = fields.get("facts")
    known = cast("dict[str, object]", facts) if isinstance(facts, dict) else {}
    request = str(known.get(_EXCHANGE, ""))
    parent = _of_request(request) if request else _of_connection(connection)
    return name, _INTERNAL, span, parent, _number(fields, "held_ms") / 1000


def _step(fields: _Fields) -> _Made:
    connection, step = _text(fields, "connection"), _text(fields, "step")
    request = _text(fields, "request")
    name = _text(fields, "filter") or _text(fields, "scanner")
    parent = _of_request(request) if request else _of_connection(connection)
    span = span_id("step", connection, step, name, request, repr(fields.get("started")))
    kind = _CLIENT if step in {"dial", "tls-server"} else _INTERNAL
    return f"{step} {name}".rstrip(), kind, span, parent, _number(fields, "duration_ms") / 1000


def _moment(fields: _Fields) -> _Made:
    """What takes no time: a failure, a limit."""
    kind, connection = _text(fields, "kind"), _text(fields, "connection")
    about = _text(fields, "filter") or _text(fields, "limit")
    span = span_id(kind, connection, about, repr(fields.get("time")))
    return f"{kind} {about}", _INTERNAL, span, _of_connection(connection), 0.0


_MADE: Final[dict[str, Callable[[_Fields], _Made]]] = {
    "connection": _connection,
    "decision": _connection,
    "request": _request,
    "transfer": _transfer,
    "filter-failure": _moment,
    "limit": _moment,
    "step": _step,
}


_EXCHANGE: Final = "exchange"
"""The fact of an object of HTTP that names its request."""


def _of_connection(connection: str) -> str:
    return span_id("connection", carrier_of(connection))


def _of_request(request: str) -> str:
    return span_id("request", request)


def _text(fields: _Fields, name: str) -> str:
    return str(fields.get(name, ""))


def _number(fields: _Fields, name: str) -> float:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _nanoseconds(time: float) -> str:
    # Microseconds are what records have; whole numbers are texts in JSON, for their 64 bits.
    return str(round(time * 1e6) * 1000)
