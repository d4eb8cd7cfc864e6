"""What a refused client is told: people a page, programs an ``application/problem+json``.

The exchange asks for one when it refuses. The invariant: nothing that the client sent is in it, and
no cache keeps it; what it says is the rule, the reason and the identifier of the record.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from sluicegate.identifiers import urn
from sluicegate.protocols.http1 import Fields, Framing, Response
from sluicegate.protocols.http1.reasons import reason_of

from .refusal_template import RefusalTemplate

__all__ = ["DEFAULT_PAGES", "Refusal", "RefusalPages", "wants_page"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What there is to say."""

    status: int
    reason: str
    """Of a rule, a filter or the gate; never of the client. It is bounded and escaped here."""
    rule: str
    record: str
    """The identifier by which an operator finds the record."""


@dataclass(frozen=True, slots=True)
class RefusalPages:
    """The templates of a gate: one for each status that has its own, one for all others."""

    default: RefusalTemplate
    by_status: Mapping[int, RefusalTemplate] = field(default_factory=lambda: MappingProxyType({}))

    def render(self, refusal: Refusal, accepted: Iterable[bytes]) -> tuple[Response, bytes]:
        """Return the response and its body.

        Args:
            refusal: What to say.
            accepted: The values of the request's ``Accept`` fields; none where there was no request
                that could be read.
        """
        if wants_page(accepted):
            return self._render_page(refusal)
        return _render_problem(refusal)

    def _render_page(self, refusal: Refusal) -> tuple[Response, bytes]:
        template = self.by_status.get(refusal.status, self.default)
        body = template.fill(
            {
                "reason": _bounded(refusal.reason),
                "record": refusal.record,
                "rule": _bounded(refusal.rule) or _NO_RULE,
                "status": str(refusal.status),
                "title": _title(refusal.status),
            }
        )
        styles = template.style_sources or "'none'"
        policy = (
            f"default-src 'none'; style-src {styles}; img-src data:; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        )
        return _response(refusal.status, b"text/html; charset=utf-8", body, policy.encode())


def _render_problem(refusal: Refusal) -> tuple[Response, bytes]:
    """Make a problem document (RFC 9457); ``reason``, ``rule`` and ``record`` are extensions."""
    problem = {
        "type": "about:blank",
        "title": _title(refusal.status),
        "status": refusal.status,
        "detail": _bounded(refusal.reason),
        "reason": _bounded(refusal.reason),
        "rule": _bounded(refusal.rule) or None,
        "record": refusal.record or None,
        "instance": urn(refusal.record) if refusal.record else None,
    }
    # In ASCII alone: whoever guesses another character set reads the same.
    body = json.dumps({key: value for key, value in problem.items() if value is not None}).encode()
    return _response(refusal.status, b"application/problem+json", body, _SILENT_POLICY)


def _response(
    status: int, content_type: bytes, body: bytes, policy: bytes
) -> tuple[Response, bytes]:
    fields = Fields(
        [
            (b"Content-Type", content_type),
            (b"Cache-Control", b"no-store"),
            (b"Content-Security-Policy", policy),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"Referrer-Policy", b"no-referrer"),
            (b"Vary", b"Accept"),
        ]
    )
    return Response(status, fields=fields, framing=Framing.of_length(len(body))), body


def wants_page(accepted: Iterable[bytes]) -> bool:
    """Tell whether a client names HTML, and likes it no less than JSON (RFC 9110 section 12.5.1).

    ``*/*`` names nothing: curl and package managers say it.
    """
    html = problem = 0.0
    for element in b",".join(accepted).split(b","):
        name, *parameters = element.lower().split(b";")
        quality = _quality(parameters)
        media_type = name.strip(b" \t")
        if media_type in _HTML:
            html = max(html, quality)
        elif media_type in _JSON:
            problem = max(problem, quality)
    return html > 0 and html >= problem


def _quality(parameters: Iterable[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip(b" \t") == b"q":
            try:
                quality = float(value.strip(b" \t"))
            except ValueError:
                return 0.0
            return quality if 0.0 <= quality <= 1.0 else 0.0
    return 1.0


def _bounded(text: str) -> str:
    """Return text in one line that fits a page."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown if len(shown) <= _TEXT_MAX else shown[: _TEXT_MAX - 1] + "…"


def _title(status: int) -> str:
    return reason_of(status).decode() or "Refused"


_TEXT_MAX: Final = 300
#: Characters of a reason or a rule's name; records have all of them.
_NO_RULE: Final = "none"
_HTML: Final = frozenset({b"text/html", b"application/xhtml+xml"})
_JSON: Final = frozenset({b"application/json", b"application/problem+json"})
_SILENT_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'"

DEFAULT_PAGES: Final = RefusalPages(
    RefusalTemplate(
        """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>$status $title</title>
<style>
:root { color-scheme: light dark; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText; }
main { max-width: 36rem; margin: 12vh auto; padding: 0 1.5rem; }
h1 { font-size: 1.4rem; border-left: .4rem solid #b3261e; padding-left: .8rem; }
dt { font-size: .8rem; opacity: .7; }
dd { margin: 0 0 .9rem; overflow-wrap: anywhere; }
code { font: .95rem ui-monospace, monospace; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p>This request was stopped at the firewall of this network.</p>
<dl>
<dt>Reason</dt><dd>$reason</dd>
<dt>Rule</dt><dd>$rule</dd>
<dt>Record</dt><dd><code>$record</code></dd>
</dl>
<p>If you think that this is wrong, tell the people who run this network the record's number.</p>
</main>
</body>
</html>
"""
    )
)
"""The gate's own page, in light and dark, without anything to load."""
