"""The RPC guard: calls by method, JSON that others read otherwise, and the WebSocket around it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.filters.rpc_guard import RpcGuard, RpcGuardSettings, find_objection
from sluicegate.filterapi import Direction, MessageKind, WebMessage
from sluicegate.testing import check_web_filter, talk_web

METHODS = ("ping", "tools/list", "files/read*")


def call(method: object, **more: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, **more})


def guard(**more: object) -> RpcGuard:
    return RpcGuard(RpcGuardSettings.model_validate({"methods": METHODS, **more}))


PASSES = [
    call("ping"),
    call("files/read_all", params={"path": "/a", "method": "rm"}),
    f"[{call('ping')}, {call('tools/list')}]",
    '{"jsonrpc": "2.0", "id": 1, "result": {"method": "rm"}}',
    '{"jsonrpc": "2.0", "id": 1, "error": {"code": -1}}',
]
REFUSED = {
    call("rm"): "a method that may not be called",
    call("Ping"): "a method that may not be called",
    f"[{call('ping')}, {call('rm')}]": "a method that may not be called",
    call(7): "a call without a method",
    '{"jsonrpc": "2.0", "id": 1}': "a call without a method",
    '{"jsonrpc": "2.0", "id": 1, "method": null, "result": 1}': "a call without a method",
    '{"id": 1, "method": "ping"}': "not JSON-RPC 2.0",
    "[1]": "not JSON-RPC 2.0",
    "[]": "an empty batch, or one of too many calls",
    f"[{','.join([call('ping')] * 51)}]": "an empty batch, or one of too many calls",
    "": "not JSON that everybody reads alike",
    "{": "not JSON that everybody reads alike",
    '{"jsonrpc": "2.0", "method": "ping", "method": "rm"}': "not JSON that everybody reads alike",
    '{"jsonrpc": "2.0", "method": "ping", "id": NaN}': "not JSON that everybody reads alike",
    "[" * 100_000: "not JSON that everybody reads alike",
}


@pytest.mark.parametrize("text", PASSES)
def test_calls_that_are_named_pass(text):
    seen = talk_web(guard(), text)
    assert (seen.verdict, seen.to_server) == ("passed", (text,))


@pytest.mark.parametrize("text", REFUSED)
def test_everything_else_closes_and_the_server_gets_nothing(text):
    seen = talk_web(guard(), call("ping"), text, call("ping"))
    assert (seen.verdict, seen.close_code, seen.reason) == ("refused", 1008, REFUSED[text])
    assert seen.to_server == (call("ping"),)
    assert seen.notes == ("call refused",)


def test_a_call_may_be_dropped_instead():
    seen = talk_web(guard(on_other="drop"), call("ping"), call("rm"), call("tools/list"))
    assert seen.verdict == "passed"
    assert seen.to_server == (call("ping"), call("tools/list"))


def test_what_is_binary_is_closed_with_its_code():
    seen = talk_web(guard(), b"\0")
    assert (seen.verdict, seen.close_code) == ("refused", 1003)


def test_what_the_server_says_passes():
    said = WebMessage(Direction.DOWNLOAD, MessageKind.TEXT, "anything")
    seen = talk_web(guard(), said)
    assert (seen.verdict, seen.to_client) == ("passed", ("anything",))


@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_whatever_comes_is_judged(text):
    assert find_objection(text, METHODS, 50)


def test_it_does_what_every_web_filter_must():
    check_web_filter(guard)
