"""Records as logs and spans of OpenTelemetry: OTLP over HTTP, JSON ("JSON Protobuf Encoding").

``sink`` sends with it. The invariant: what the collector has not said that it took is sent again,
or counted as lost.
"""

from __future__ import annotations

import http.client
import json
import pathlib
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sluicegate.audit.query import LogLine, host_of
from sluicegate.log_limits import SINK_ANSWER_BYTES_MAX, SINK_TIMEOUT_S
from sluicegate.version import VERSION

from .settings import SinkSettings
from .spans import METHODS, span_of

__all__ = ["LOGS", "TRACES", "OtlpSender", "Signal", "encode_logs", "encode_spans"]

_RETRIED: Final = frozenset({429, 502, 503, 504})
"""Answers after which the same is to be sent again (OTLP, "Retryable Response Codes")."""
_OK: Final = 200
_HEADER: Final = re.compile(
    rb"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*([!-~](?:[ \t!-~]*[!-~])?)?\s*"
)
"""Name and value, of ASCII (RFC 9110, section 5)."""
_SEVERITIES: Final = {"INFO": 9, "INFO2": 10, "WARN": 13, "ERROR": 17}
"""Numbers of the data model ("Field: SeverityNumber")."""


def encode_logs(lines: Sequence[LogLine], host: str) -> bytes:
    """Return the body of a request: one log record for each record."""
    records = [_log_record(line) for line in lines]
    return _encode("resourceLogs", "scopeLogs", "logRecords", records, host)


def encode_spans(lines: Sequence[LogLine], host: str) -> bytes:
    """Return the body of a request: one span for each record."""
    spans = [{**span_of(line), "attributes": _span_attributes(line)} for line in lines]
    return _encode("resourceSpans", "scopeSpans", "spans", spans, host)


def _encode(
    resources: str, scopes: str, name: str, items: list[dict[str, Any]], host: str
) -> bytes:
    resource = {"service.name": "sluicegate", "service.version": VERSION, "host.name": host}
    scope = {"scope": {"name": "sluicegate.audit"}, name: items}
    body = {resources: [{"resource": {"attributes": _attributes(resource)}, scopes: [scope]}]}
    return json.dumps(body, separators=(",", ":")).encode("ascii")


@dataclass(frozen=True, slots=True)
class Signal:
    """What is sent, of the kinds that OTLP has."""

    path: str
    """Where collectors take it, when a URL does not say."""
    encode: Callable[[Sequence[LogLine], str], bytes]
    rejected: str
    """How an answer calls what was not taken ("Partial Success")."""


LOGS: Final = Signal("/v1/logs", encode_logs, "rejectedLogRecords")
TRACES: Final = Signal("/v1/traces", encode_spans, "rejectedSpans")


def _span_attributes(line: LogLine) -> list[dict[str, Any]]:
    """Return a record's fields, some of them once more as conventions for spans call them."""
    fields = {name: line.fields[name] for name in line.fields if name not in _OF_SPANS}
    known = {
        other: fields[name] for name, other in _CONVENTIONS.items() if fields.get(name) is not None
    }
    method = str(fields.get("method", ""))
    if method and method not in METHODS:
        known |= {"http.request.method": "_OTHER", "http.request.method_original": method}
    for name in ("client", "server"):
        if host := host_of(line.text(name)):
            known[f"{name}.address"] = host
    return _attributes({**known, **{f"sluicegate.{name}": fields[name] for name in fields}})


_OF_SPANS: Final = frozenset({"time", "started", "duration_s", "duration_ms"})
"""What the span itself says."""

_CONVENTIONS: Final = {
    "method": "http.request.method",
    "status": "http.response.status_code",
    "url": "url.full",
    "sni": "tls.client.server_name",
    "user": "user.name",
}
"""Semantic conventions of OpenTelemetry."""


def _log_record(line: LogLine) -> dict[str, Any]:
    fields = line.fields
    time = fields.get("time")
    nanoseconds = str(int(time * 1e6) * 1000 if isinstance(time, int | float) else 0)
    severity = _severity(fields)
    return {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": _SEVERITIES[severity],
        "severityText": severity,
        "body": {"stringValue": line.raw.decode("utf-8", "replace")},
        "attributes": _attributes(
            {f"sluicegate.{name}": value for name, value in fields.items() if name != "time"}
        ),
    }


def _severity(fields: Mapping[str, Any]) -> str:
    if fields.get("severity") == "error" or fields.get("kind") == "filter-failure":
        return "ERROR"
    if fields.get("severity") == "warning" or fields.get("kind") in {"limit", "process"}:
        return "WARN"
    found = {fields.get("verdict"), fields.get("outcome")}
    if "failed" in found:
        return "WARN"
    return "INFO2" if found & {"denied", "refused"} else "INFO"


def _attributes(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in fields.items()]


def _value(value: Any) -> dict[str, Any]:
    """Return a value as ``AnyValue`` has it; whole numbers are texts there, for their 64 bits."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(one) for one in value]}}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _attributes(value)}}  # pyright: ignore[reportUnknownArgumentType]
    return {"stringValue": str(value)}


class OtlpSender:
    """One connection to a collector, made when there is something to send."""

    def __init__(self, settings: SinkSettings, signal: Signal = LOGS) -> None:
        self._settings = settings
        self._signal = signal
        authority, path = settings.place
        self._authority, self._path = authority, path or signal.path
        self._host = socket.gethostname()
        self._connection: http.client.HTTPConnection | None = None
        self.refusal = ""
        #: Why the collector will not have what ``send`` counted last.

    def send(self, lines: Sequence[LogLine]) -> int:
        """Send records; return how many the collector has refused.

        Raises:
            OSError: They were not taken; the same is to be sent again.
        """
        connection = self._connection or self._make()
        self._connection = connection
        headers = self._headers()
        try:
            connection.request(
                "POST",
                self._path,
                self._signal.encode(lines, self._host),
                headers,
            )
            answer = connection.getresponse()
            body = answer.read(SINK_ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OSError(0, f"{type(error).__name__}: {error}") from error
        if answer.status in _RETRIED:
            self.close()
            raise OSError(0, f"the collector answers {answer.status}")
        if answer.will_close or len(body) == SINK_ANSWER_BYTES_MAX:
            self.close()
        if answer.status != _OK:
            self.refusal = f"the collector answers {answer.status}; are address and headers right?"
            return len(lines)
        self.refusal = "the collector takes a part only"
        return _rejected(body, self._signal.rejected, len(lines))

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _headers(self) -> dict[str, str]:
        """Return the headers of a request; the operator's are read each time, for they may change.

        Raises:
            OSError: The file cannot be read, or has a line that is no header.
        """
        headers = {"Content-Type": "application/json", "User-Agent": f"sluicegate/{VERSION}"}
        if self._settings.headers:
            text = pathlib.Path(self._settings.headers).read_bytes()
            for number, line in enumerate(text.splitlines(), 1):
                if not line.strip():
                    continue
                found = _HEADER.fullmatch(line)
                if found is None:
                    # What stands there may be a secret, so it is not quoted.
                    raise OSError(0, f"line {number} of {self._settings.headers} is no header")
                headers[found[1].decode("ascii")] = (found[2] or b"").decode("ascii")
        return headers

    def _make(self) -> http.client.HTTPConnection:
        host, port = self._authority.host.text, self._authority.port
        if self._settings.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=SINK_TIMEOUT_S)
        context = ssl.create_default_context(cafile=self._settings.ca or None)
        return http.client.HTTPSConnection(host, port, timeout=SINK_TIMEOUT_S, context=context)


def _rejected(body: bytes, name: str, most: int) -> int:
    """Return how many records an answer says it did not take ("Partial Success")."""
    try:
        found = json.loads(body or b"{}")["partialSuccess"][name]
        return min(max(int(found), 0), most)
    except (ValueError, KeyError, TypeError):
        return 0
