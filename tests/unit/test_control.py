"""The control socket: who is answered, what is refused, and that nobody can hold it up."""

from __future__ import annotations

import asyncio
import os
import pathlib
import pwd
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sluicegate.audit import OperatorRecord, Record
from sluicegate.audit.alerts import Raising
from sluicegate.clock import SystemClock
from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError
from sluicegate.gate import control
from sluicegate.gate.control import ControlServer
from sluicegate.gate.control_client import GateUnreachable, ask_gate
from sluicegate.gate.control_messages import (
    AcknowledgeRequest,
    ActedRequest,
    ConnectionsReply,
    ConnectionsRequest,
    DoneReply,
    FiltersReply,
    FiltersRequest,
    KillRequest,
    PolicyRequest,
    RefusedReply,
    ReloadRequest,
    Request,
    SessionsReply,
    SessionsRequest,
    StatusReply,
    StatusRequest,
    StopRequest,
    TransfersReply,
    TransfersRequest,
    UpgradeRequest,
    decode_reply,
    read_message,
)
from sluicegate.gate.operator_log import OperatorLog
from sluicegate.gate.policy_orders import (
    AnyPolicyAnswer,
    AnyPolicyOrder,
    ChangePolicy,
    ListVersions,
    PolicyVersions,
    RollBack,
    is_change,
)
from sluicegate.gate.views import (
    ConnectionView,
    FilterView,
    SessionView,
    StatusView,
    TransferView,
)
from sluicegate.metrics import Series
from sluicegate.process_limits import CONTROL_REPLY_BYTES_MAX, CONTROL_REQUEST_BYTES_MAX
from tests.status_views import status_view

STATUS = status_view(backend="simulated", diagnosis="asked for")


HELD = TransferView(
    connection="c-1",
    session="s-1",
    client="10.0.0.1:5",
    rule="web",
    name="a.zip",
    direction="download",
    protocol="http",
    stage="judging",
    started=1.0,
)


class Target:
    """A gate that answers from a list."""

    def __init__(self) -> None:
        self.stops = 0
        self.refusal: ConfigRefused | None = None
        self.session_count = 1
        self.held_count = 1
        self.killed: list[tuple[str, str]] = []
        self.records: list[Record] = []
        self.raised: list[Raising] = []

    async def status(self) -> StatusView:
        return STATUS

    async def sessions(self) -> list[SessionView]:
        one = SessionView(session="s-1", client="10.0.0.1", started=0.0, idle_s=0.0, connections=1)
        return [one] * self.session_count

    async def connections(self) -> list[ConnectionView]:
        return []

    async def filters(self) -> list[FilterView]:
        return [FilterView(name="f", source="m:F", tier="content")]

    async def measures(self) -> list[Series]:
        return [Series("sluicegate_connections_open", (), 3.0)]

    async def reload(self, by: str) -> list[str]:
        self.reloaded_by = by
        if self.refusal is not None:
            raise self.refusal
        return ["a warning"]

    async def kill(self, identifiers: Sequence[str], by: str) -> list[str]:
        self.killed += [(one, by) for one in identifiers]
        return list(identifiers[:1])

    async def upgrade(
        self, program: Sequence[str], drain_timeout_s: float | None, by: str
    ) -> list[str]:
        return [*program, str(drain_timeout_s)]

    async def transfers(self) -> list[TransferView]:
        return [HELD] * self.held_count

    async def alerts(self) -> list[Raising]:
        return self.raised

    async def acknowledge(self, identifiers: Sequence[str], by: str) -> list[str]:
        self.acknowledged_by = by
        return [one.raising for one in self.raised if one.raising in identifiers]

    async def answer_policy(self, order: AnyPolicyOrder, by: str) -> AnyPolicyAnswer:
        if is_change(order):
            raise ConfigRefused((ConfigError("policy", f"not by {by}"),))
        return PolicyVersions(rows=[], total=0, texts="00")

    def request_stop(self, timeout_s: float | None) -> None:
        self.stops += 1


def server_at(path: pathlib.Path) -> ControlServer:
    target = Target()
    return ControlServer(target, path, OperatorLog(target.records.append, SystemClock()))


@asynccontextmanager
async def serving(target: Target, path: pathlib.Path) -> AsyncIterator[pathlib.Path]:
    server = ControlServer(target, path, OperatorLog(target.records.append, SystemClock()))
    await server.start()
    try:
        yield path
    finally:
        await server.stop()


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "control.sock"


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_every_question_has_its_answer(path: pathlib.Path) -> None:
    async def main() -> None:
        target = Target()
        async with serving(target, path):
            assert await ask_gate(path, StatusRequest()) == StatusReply(status=STATUS)
            sessions = await ask_gate(path, SessionsRequest())
            assert isinstance(sessions, SessionsReply)
            assert [row.client for row in sessions.rows] == ["10.0.0.1"]
            assert await ask_gate(path, ConnectionsRequest()) == ConnectionsReply(rows=[], total=0)
            filters = await ask_gate(path, FiltersRequest())
            assert isinstance(filters, FiltersReply)
            assert await ask_gate(path, ReloadRequest()) == DoneReply(notes=["a warning"])
            held = await ask_gate(path, TransfersRequest())
            assert held == TransfersReply(rows=[HELD], total=1)
            assert await ask_gate(path, StopRequest()) == DoneReply()
            assert target.stops == 1

    run(main)


def test_refused_reload_tells_every_cause(path: pathlib.Path) -> None:
    async def main() -> None:
        target = Target()
        target.refusal = ConfigRefused((ConfigError("a:1", "x"), ConfigError("a:2", "y", "z")))
        async with serving(target, path):
            reply = await ask_gate(path, ReloadRequest())
        assert reply == RefusedReply(causes=["a:1: x", "a:2: y (z)"])

    run(main)


def test_rows_beyond_the_bound_are_counted_and_not_sent(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CONTROL_ROWS_MAX", 3)

    async def main() -> None:
        target = Target()
        target.session_count = 5
        async with serving(target, path):
            reply = await ask_gate(path, SessionsRequest())
        assert isinstance(reply, SessionsReply)
        assert (len(reply.rows), reply.total) == (3, 5)

    run(main)


def test_only_the_owner_may_connect(path: pathlib.Path) -> None:
    async def main() -> None:
        before = os.umask(0o022)
        async with serving(Target(), path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert os.umask(before) == 0o022
        assert not path.exists()

    run(main)


def test_socket_of_a_gate_that_crashed_is_replaced(path: pathlib.Path) -> None:
    async def main() -> None:
        path.touch()
        async with serving(Target(), path):
            assert isinstance(await ask_gate(path, StatusRequest()), StatusReply)

    run(main)


def test_path_too_long_for_a_socket_is_refused_with_a_cure(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="choose a shorter"):
            await server_at(tmp_path / ("x" * 120)).start()

    run(main)


def test_folder_that_is_missing_is_refused_with_a_cure(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="cannot be made"):
            await server_at(tmp_path / "missing" / "control.sock").start()

    run(main)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\x00\x00\x00\x01\xc1", "not a request that this version knows"),
        (b"\x00\x00\x00\x00", "not a request that this version knows"),
        (b"\x00\x00\x00\x0b\x81\xa3ask\xa5dance", "not a request that this version knows"),
        (b"\x00\x00\x00\x14\x82\xa3ask\xa6status\xa4more\x01\x00\x00", "not a request"),
        ((CONTROL_REQUEST_BYTES_MAX + 1).to_bytes(4, "big"), "bytes announced, at most"),
        (b"\xff\xff\xff\xff" + b"x" * 100, "bytes announced, at most"),
    ],
)
def test_nonsense_is_refused(path: pathlib.Path, sent: bytes, expected: str) -> None:
    async def main() -> None:
        async with serving(Target(), path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(sent)
            reply = decode_reply(await read_message(reader, CONTROL_REPLY_BYTES_MAX))
            await close(writer)
        assert isinstance(reply, RefusedReply)
        assert expected in reply.causes[0]

    run(main)


def test_who_says_nothing_is_disconnected(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CONTROL_TIMEOUT_S", 0.01)

    async def main() -> None:
        async with serving(Target(), path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"\x00\x00")
            assert await reader.read() == b""
            await close(writer)

    run(main)


def test_silent_guests_leave_room_for_others(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CONTROL_TIMEOUT_S", 0.05)

    async def main() -> None:
        async with serving(Target(), path):
            silent = [await asyncio.open_unix_connection(path) for _ in range(40)]
            assert isinstance(await ask_gate(path, StatusRequest()), StatusReply)
            for _, writer in silent:
                await close(writer)

    run(main)


async def refused(path: pathlib.Path, timeout_s: float = 60.0) -> str:
    with pytest.raises(GateUnreachable) as raised:
        await ask_gate(path, StatusRequest(), timeout_s=timeout_s)
    return str(raised.value)


def test_gate_that_never_ran_is_told_apart_from_one_that_died(path: pathlib.Path) -> None:
    async def main() -> None:
        assert "no gate runs here (start it with: sluicegate run" in await refused(path)
        server = await asyncio.start_unix_server(lambda *_: None, path)
        server.close()
        assert "the gate that made this socket is gone" in await refused(path)

    run(main)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", "the answer was cut"),
        (b"\x00\x00\x00\x01\xc1", "the answer was cut"),
        (b"\xff\xff\xff\xff", "the answer was cut"),
        (None, "no answer within 0.05 s"),
    ],
)
def test_gate_that_answers_nonsense_is_an_error_with_a_cure(
    path: pathlib.Path, answer: bytes | None, expected: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is not None:
            writer.write(answer)
            writer.close()
        else:
            await reader.read()
            writer.close()

    async def main() -> None:
        async with await asyncio.start_unix_server(serve, path):
            assert expected in await refused(path, 60.0 if answer is not None else 0.05)

    run(main)


# -- what is recorded ------------------------------------------------------------------------------


def recorded(path: pathlib.Path, request: Request, target: Target) -> list[OperatorRecord]:
    async def main() -> None:
        async with serving(target, path):
            await ask_gate(path, request)

    run(main)
    return [one for one in target.records if isinstance(one, OperatorRecord)]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ReloadRequest(), ("reload", "done", ())),
        (KillRequest(identifiers=["c-1", "s-2"]), ("kill", "done", ("c-1", "s-2"))),
        (KillRequest(identifiers=[]), ("kill", "failed", ())),
        (AcknowledgeRequest(alerts=["a-1"]), ("alert-acknowledge", "failed", ("a-1",))),
        (UpgradeRequest(program=["/usr/bin/new"]), ("upgrade", "done", ("/usr/bin/new",))),
        (StopRequest(timeout_s=2.5), ("drain", "done", ())),
        (
            PolicyRequest(order=ChangePolicy(files=[], base="00", note="why")),
            ("policy-change", "refused", ()),
        ),
        (
            PolicyRequest(order=RollBack(version="3", base="00")),
            ("policy-roll-back", "refused", ("version 3",)),
        ),
    ],
)
def test_every_order_has_a_record(
    path: pathlib.Path, request_: Request, expected: tuple[object, ...]
) -> None:
    (record,) = recorded(path, request_, Target())
    assert (record.action, record.result, record.subjects) == expected
    assert record.by == pwd.getpwuid(os.getuid()).pw_name
    assert record.origin == "command"


def test_refused_order_is_recorded_with_its_causes(path: pathlib.Path) -> None:
    target = Target()
    target.refusal = ConfigRefused((ConfigError("a:1", "x"),))
    (record,) = recorded(path, ReloadRequest(), target)
    assert (record.result, record.causes) == ("refused", ("a:1: x",))


@pytest.mark.parametrize(
    "request_",
    [
        StatusRequest(),
        SessionsRequest(),
        ConnectionsRequest(),
        FiltersRequest(),
        PolicyRequest(order=ListVersions()),
    ],
)
def test_questions_are_not_recorded(path: pathlib.Path, request_: Request) -> None:
    assert recorded(path, request_, Target()) == []


def test_what_was_done_elsewhere_is_recorded_as_it_is_told(path: pathlib.Path) -> None:
    told = ActedRequest(
        action="login", origin="console", result="refused", by="ann", client="192.0.2.7:4000"
    )
    (record,) = recorded(path, told, Target())
    assert (record.action, record.by, record.client) == ("login", "ann", "192.0.2.7:4000")
    assert (record.origin, record.result) == ("console", "refused")
