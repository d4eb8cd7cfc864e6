"""Link translation: pages of a published server that name it as it is called inside.

A web filter. It writes absolute links of internal servers as their public ones, in headers and in
text, and back in what browsers say of where they come from. The invariant: a link is translated
wherever it is cut, and nothing that only begins like one is touched.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, StringConstraints, field_validator
from typing_extensions import override

from sluicegate.filterapi import (
    GO_ON,
    SKIP_BODY,
    ChunkVerdict,
    Direction,
    GoOn,
    Headers,
    HeadVerdict,
    Need,
    Needs,
    Refuse,
    RefuseWith,
    Rewrite,
    WebExchange,
    WebFilter,
    Window,
)

from .link_text import LinkTable, LinkTranslator
from .settings import FilterSettings

__all__ = ["LinkMapping", "LinkTranslation", "LinkTranslationSettings"]

Url = Annotated[
    str,
    StringConstraints(
        pattern=r"^https?://(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[1-9][0-9]{0,4})?"
        r"(?:/[A-Za-z0-9._~!$&'()*+,;=@%-]+)*$"
    ),
]
MediaType = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.+-]+/[a-z0-9.+-]+$")]

_MAPPINGS_MAX: Final = 1000


class LinkMapping(FilterSettings):
    """One entry of ``mappings``."""

    internal: Url = Field(examples=["http://intranet.corp:8080/wiki"])
    """What pages say: scheme, host in lower case, port and path; no slash at the end."""
    public: Url = Field(examples=["https://wiki.example.com"])
    """What clients are told instead."""


class LinkTranslationSettings(FilterSettings):
    """``[filter.settings]`` of ``link_translation``, and what a rule says to it."""

    mappings: tuple[LinkMapping, ...] = Field(
        default=(),
        max_length=_MAPPINGS_MAX,
        examples=[[{"internal": "http://web1.corp", "public": "https://www.example.com"}]],
    )
    """What is translated into what. Several internal URLs may lead to one public one, which is
    then translated back into the first of them."""
    content_types: tuple[MediaType, ...] = Field(
        default=(
            "application/javascript", "application/json", "application/manifest+json",
            "application/xhtml+xml", "application/xml", "image/svg+xml", "text/css", "text/html",
            "text/javascript", "text/xml",
        ),
        examples=[["text/html", "text/css"]],
    )  # fmt: skip
    """The types of bodies that are text; others pass as they are."""
    bodies: bool = True
    """Whether bodies are translated; else headers alone."""
    cookies: bool = True
    """Whether ``Domain`` in ``Set-Cookie`` is translated."""

    @field_validator("mappings")
    @classmethod
    def _check(cls, mappings: tuple[LinkMapping, ...]) -> tuple[LinkMapping, ...]:
        internal = [one.internal for one in mappings]
        twice = {url for url in internal if internal.count(url) > 1}
        if twice:
            raise ValueError(f"{min(twice)} is mapped twice")
        return mappings


class LinkTranslation(WebFilter):
    """Translates."""

    name = "link_translation"
    Settings = LinkTranslationSettings
    RuleSettings = LinkTranslationSettings

    def __init__(self, settings: LinkTranslationSettings | None = None) -> None:
        self.settings = settings = settings or LinkTranslationSettings()
        outward = {one.internal: one.public for one in settings.mappings}
        inward: dict[str, str] = {}
        for one in settings.mappings:
            inward.setdefault(one.public, one.internal)
        self._outward, self._inward = LinkTable(outward), LinkTable(inward)
        self._domains = {_host(old): _host(new) for old, new in outward.items()}
        self._types = frozenset(settings.content_types)
        reads = settings.bodies and bool(settings.mappings)
        self.needs = Needs(response=Need.STREAM if reads else Need.HEADERS, alters=reads)

    @override
    def on_request(self, exchange: WebExchange) -> HeadVerdict:
        return _translate(exchange.request.headers, _OF_REQUESTS, self._inward)

    @override
    def on_response(self, exchange: WebExchange) -> HeadVerdict:
        response = exchange.response
        assert response is not None, "a response has a head"
        if self.settings.cookies:
            self._translate_cookies(response.headers)
        verdict = _translate(response.headers, _OF_RESPONSES, self._outward)
        if verdict is not GO_ON or self.needs.response is Need.HEADERS:
            return verdict
        content_type = response.headers.first("content-type") or ""
        if response.content_type not in self._types or _WIDE.search(content_type):
            return SKIP_BODY
        exchange.state = LinkTranslator(self._outward)
        return GO_ON

    @override
    def on_response_chunk(
        self, exchange: WebExchange, chunk: Window, is_last: bool
    ) -> ChunkVerdict:
        translator: LinkTranslator = exchange.state
        written, taken = translator.translate(bytes(chunk), is_last=is_last)
        return Rewrite(written, taken)

    @override
    def on_unmet(self, exchange: WebExchange, direction: Direction, cause: str) -> GoOn | Refuse:
        """Let pass what cannot be translated: it is a convenience, and no protection."""
        return SKIP_BODY

    def _translate_cookies(self, headers: Headers) -> None:
        cookies = headers.all("set-cookie")
        translated = [_DOMAIN.sub(self._domain, cookie) for cookie in cookies]
        if translated != cookies:
            headers.remove("Set-Cookie")
            for cookie in translated:
                headers.add("Set-Cookie", cookie)

    def _domain(self, found: re.Match[str]) -> str:
        public = self._domains.get(found[2].lower().lstrip("."))
        return found[0] if public is None else f"{found[1]}{public}"


def _translate(headers: Headers, names: tuple[str, ...], table: LinkTable) -> HeadVerdict:
    for name in names:
        before = headers.all(name)
        after = [
            table.translate(value.encode("latin-1")).written.decode("latin-1") for value in before
        ]
        if after == before:
            continue
        headers.remove(name)
        for value in after:
            if len(value) > _VALUE_BYTES_MAX:
                return RefuseWith("a translated header is too large", 502, name)
            headers.add(name, value)
    return GO_ON


def _host(url: str) -> str:
    authority = url.partition("://")[2].partition("/")[0]
    return re.sub(r":[0-9]+$", "", authority)


_OF_REQUESTS: Final = ("Origin", "Referer", "Destination")
_OF_RESPONSES: Final = (
    "Location", "Content-Location", "Link", "Refresh", "Access-Control-Allow-Origin",
    "Content-Security-Policy", "Content-Security-Policy-Report-Only",
)  # fmt: skip
_VALUE_BYTES_MAX: Final = 16 << 10
_DOMAIN: Final = re.compile(r"(;\s*domain\s*=\s*)([^;\s]+)", re.IGNORECASE)
_WIDE: Final = re.compile(r"charset\s*=\s*[\"']?(?:utf-?16|utf-?32|ucs-?[24])", re.IGNORECASE)
"""Character sets in which no byte of ASCII is itself."""
