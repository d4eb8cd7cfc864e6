"""Lets JSON-RPC through WebSockets by method: an agent's tools, say, and no others.

A `WebFilter`; `find_objection` knows no gate, only text. The invariant: what passes to the server
is one JSON value that every parser reads alike, and calls nothing but the methods that are named.
"""

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final, Literal, NoReturn, cast

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from sluicegate.filterapi import (
    DROP,
    FORWARD,
    CloseWith,
    Direction,
    MessageKind,
    MessageVerdict,
    Needs,
    WebExchange,
    WebFilter,
    WebMessage,
)


class RpcGuardSettings(BaseModel):
    """`[filter.settings]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[str, ...] = Field(min_length=1, examples=[["ping", "tools/list", "files/read*"]])
    """What may be called; `*` stands for anything."""
    on_other: Literal["close", "drop"] = "close"
    """What becomes of a call of something else: the WebSocket is closed, or the call is lost."""
    calls_max: int = Field(default=50, ge=1, le=1000)
    """How many calls one message (a batch) may have."""


# -- text in, an objection out ---------------------------------------------------------------------


def find_objection(text: str, methods: Iterable[str], calls_max: int) -> str:
    """Return why a message may not pass, in words that tell nothing of it; empty if it may."""
    try:
        value: object = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "not JSON that everybody reads alike"
    calls = cast("list[object]", value) if isinstance(value, list) else [value]
    if not calls or len(calls) > calls_max:
        return "an empty batch, or one of too many calls"
    for one in calls:
        call = cast("dict[str, object]", one) if isinstance(one, dict) else {}
        if call.get("jsonrpc") != "2.0":
            return "not JSON-RPC 2.0"
        if "method" not in call and ("result" in call or "error" in call):
            continue  # the answer to a call of the server's
        method = call.get("method")
        if not isinstance(method, str):
            return "a call without a method"
        if not any(fnmatchcase(method, pattern) for pattern in methods):
            return "a method that may not be called"
    return ""


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a key that stands twice: parsers take the first, the last, or both."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


# -- the filter ------------------------------------------------------------------------------------


class RpcGuard(WebFilter):
    """All WebSockets of its rules."""

    name = "rpc_guard"
    Settings = RpcGuardSettings
    needs = Needs(messages=True)

    def __init__(self, settings: RpcGuardSettings) -> None:
        self._settings: Final = settings

    @override
    def on_message(self, exchange: WebExchange, message: WebMessage) -> MessageVerdict:
        if message.direction is Direction.DOWNLOAD or message.kind is MessageKind.CLOSE:
            return FORWARD
        if message.kind is MessageKind.BINARY:
            return CloseWith("binary messages are not taken", 1003)
        settings = self._settings
        objection = find_objection(message.text, settings.methods, settings.calls_max)
        if not objection:
            return FORWARD
        exchange.note("call refused", {"objection": objection, "message": message.number})
        return DROP if settings.on_other == "drop" else CloseWith(objection)
