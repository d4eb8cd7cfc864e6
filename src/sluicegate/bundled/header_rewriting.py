"""Header rewriting: sets, adds, removes and edits headers of a rule's messages, in order.

A web filter. The invariant: what is written is checked when the settings are read, so no message
fails for a rule that could have been known to be wrong; what the gate keeps is never changed.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Protocol, Self
from urllib.parse import quote

import re2
from pydantic import Field, StringConstraints, model_validator
from typing_extensions import override

from sluicegate.filterapi import (
    GO_ON,
    GoOn,
    Headers,
    HeadVerdict,
    Refuse,
    RefuseWith,
    WebExchange,
    WebFilter,
    WebResponse,
)

from .settings import FilterSettings

__all__ = ["HeaderRewriting", "HeaderRewritingSettings", "HeaderRule"]

Name = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$")]
Status = Annotated[int, Field(ge=200, le=599)]

_VALUE_BYTES_MAX: Final = 8192
_PATTERN_BYTES_MAX: Final = 1024
_PLACES: Final = frozenset({"client", "exchange", "host", "port", "scheme", "user"})


class _Match(Protocol):
    def start(self) -> int: ...

    def end(self) -> int: ...

    def expand(self, template: str, /) -> str: ...


class _Pattern(Protocol):
    """A compiled regular expression."""

    @property
    def groups(self) -> int: ...

    def search(self, text: str, pos: int, /) -> _Match | None: ...


class HeaderRule(FilterSettings):
    """One entry of ``rules``."""

    on: Literal["request", "response"]
    """Of which messages."""
    action: Literal["set", "add", "remove", "edit"]
    """``set`` gives a name this one value, ``add`` puts one more behind the others, ``remove``
    takes all out, ``edit`` replaces what ``pattern`` finds in each value."""
    name: Name = Field(examples=["Strict-Transport-Security"])
    """The header. Not those that frame or route a message: they are the gate's."""
    value: str = Field(default="", max_length=_VALUE_BYTES_MAX, examples=["max-age=63072000"])
    """What is written. ``${client}`` is the client's address, ``${user}`` who it proved to be,
    ``${host}``, ``${port}`` and ``${scheme}`` the server that is asked, ``${exchange}`` the
    identifier in records; ``$$`` is a dollar sign. In ``edit``, ``\\1`` is what the first group of
    the pattern found."""
    pattern: str = Field(default="", max_length=_PATTERN_BYTES_MAX, examples=["; *Secure"])
    """Of ``edit``: a regular expression (RE2: it takes linear time)."""
    statuses: tuple[Status, ...] = Field(default=(), examples=[[200, 404]])
    """Only responses with these statuses; empty means all."""
    if_absent: bool = False
    """Of ``set``: only where the header is not there."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.action == "edit") != bool(self.pattern):
            raise ValueError('"pattern" is what "edit" looks for, and nothing else does')
        if self.action in {"set", "add"} and not self.value:
            raise ValueError(f'"value" is what "{self.action}" writes')
        if self.action == "remove" and self.value:
            raise ValueError('"remove" writes nothing')
        if self.statuses and self.on == "request":
            raise ValueError('"statuses" are of responses')
        if self.if_absent and self.action != "set":
            raise ValueError('"if_absent" is for "set"')
        unknown = {found[1] for found in _PLACE.finditer(self.value)} - _PLACES - {None}
        if unknown or _BARE.search(_PLACE.sub("", self.value)):
            known = ", ".join(f"${{{one}}}" for one in sorted(_PLACES))
            raise ValueError(f"places in a value are {known}, and $$ for $")
        # As it would be done, so that what the gate keeps or cannot send is found here.
        headers = Headers()
        try:
            written = _PLACE.sub("x", self.value)
            headers.set(self.name, f"x{written}x" if self.action == "edit" else written or "x")
        except ValueError as error:
            raise ValueError(f"this cannot be written: {error}") from None
        if self.pattern:
            self._check_pattern()
        return self

    def _check_pattern(self) -> None:
        try:
            compiled = _compiled(self.pattern)
        except re2.error:
            raise ValueError('"pattern" is no regular expression of RE2') from None
        groups = [int(found[1]) for found in _GROUP.finditer(self.value)]
        if any(group > compiled.groups for group in groups):
            raise ValueError(f'"pattern" has {compiled.groups} groups, and "value" names another')


class HeaderRewritingSettings(FilterSettings):
    """``[filter.settings]`` of ``header_rewriting``, and what a rule says to it."""

    rules: tuple[HeaderRule, ...] = Field(
        default=(), examples=[[{"on": "response", "action": "remove", "name": "X-Powered-By"}]]
    )
    """What is done, one after the other."""


class HeaderRewriting(WebFilter):
    """Applies the rules."""

    name = "header_rewriting"
    Settings = HeaderRewritingSettings
    RuleSettings = HeaderRewritingSettings

    def __init__(self, settings: HeaderRewritingSettings | None = None) -> None:
        self.settings = settings or HeaderRewritingSettings()
        rules = [_Rule(rule) for rule in self.settings.rules]
        self._requests = [one for one in rules if one.rule.on == "request"]
        self._responses = [one for one in rules if one.rule.on == "response"]
        self._interims = [one for one in self._responses if one.rule.action in {"remove", "edit"}]
        #: What is written into responses is meant for answers.

    @override
    def on_request(self, exchange: WebExchange) -> HeadVerdict:
        return _apply(self._requests, exchange.request.headers, exchange, 0)

    @override
    def on_interim(self, exchange: WebExchange, interim: WebResponse) -> GoOn | Refuse:
        answer = _apply(self._interims, interim.headers, exchange, interim.status)
        return answer if isinstance(answer, Refuse) else GO_ON

    @override
    def on_response(self, exchange: WebExchange) -> HeadVerdict:
        response = exchange.response
        assert response is not None, "a response has a head"
        return _apply(self._responses, response.headers, exchange, response.status)


class _Rule:
    """A rule and what is made of it once."""

    __slots__ = ("has_places", "pattern", "rule", "value")

    def __init__(self, rule: HeaderRule) -> None:
        self.rule = rule
        self.has_places = _PLACE.search(rule.value) is not None
        self.value = rule.value
        self.pattern = _compiled(rule.pattern) if rule.pattern else None


def _apply(rules: list[_Rule], headers: Headers, exchange: WebExchange, status: int) -> HeadVerdict:
    for one in rules:
        rule = one.rule
        if rule.statuses and status not in rule.statuses:
            continue
        if rule.action == "remove":
            headers.remove(rule.name)
            continue
        value = _filled(one.value, exchange) if one.has_places else one.value
        if rule.action == "add":
            headers.add(rule.name, value)
        elif one.pattern is not None:
            if not _edit(one.pattern, headers, rule.name, value):
                return RefuseWith("a header that was edited cannot be sent", detail=rule.name)
        elif not (rule.if_absent and rule.name in headers):
            headers.set(rule.name, value)
    return GO_ON


def _edit(pattern: _Pattern, headers: Headers, name: str, value: str) -> bool:
    """Replace what a pattern finds in each value of a name; False: that makes no value."""
    before = headers.all(name)
    after = [_replaced(pattern, value, one) for one in before]
    if after == before:
        return True
    headers.remove(name)
    try:
        for one in after:
            headers.add(name, one)
    except ValueError:
        return False
    return True


def _replaced(pattern: _Pattern, value: str, text: str) -> str:
    """Replace each match (RE2's own ``sub`` replaces an empty one at the end twice)."""
    pieces: list[str] = []
    at = looked = 0
    while looked <= len(text) and (found := pattern.search(text, looked)) is not None:
        pieces += (text[at : found.start()], found.expand(value))
        at = found.end()
        looked = at if at > found.start() else at + 1
    return "".join([*pieces, text[at:]])


def _filled(value: str, exchange: WebExchange) -> str:
    request, user = exchange.request, exchange.user
    places = {
        "client": exchange.connection.client_address.host,
        "exchange": exchange.id,
        "host": request.host,
        "port": str(request.port),
        "scheme": request.scheme,
        # A header has no other characters; "%" and what is no ASCII is encoded.
        "user": quote(user.name, safe="!#$&'()*+,/:;=?@[] ") if user is not None else "",
    }
    return _PLACE.sub(lambda found: "$" if found[1] is None else places[found[1]], value)


def _compiled(pattern: str) -> _Pattern:
    options = re2.Options()
    options.log_errors = False
    options.never_nl = True
    return re2.compile(pattern, options)


_PLACE: Final = re.compile(r"\$(?:\{([^}]*)\}|\$)")
_BARE: Final = re.compile(r"\$")
_GROUP: Final = re.compile(r"\\([0-9])")
