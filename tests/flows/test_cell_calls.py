"""What filters ask of the gate: the same in the gate and in a cell, and withdrawn when it dies."""

from __future__ import annotations

import asyncio
import errno
import gc
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from typing_extensions import override

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.audit import TransferRecord
from sluicegate.errors import BadContext, LimitExceeded, TransportError
from sluicegate.filterapi import (
    ConnectionEstablished,
    ConnectRequested,
    ContentFilter,
    ContentVerdict,
    DataFilter,
    Deny,
    Direction,
    Event,
    Events,
    Filter,
    NameLookup,
    Outcome,
    Pass,
    Refuse,
    Release,
    SessionFilter,
    Side,
    StreamFilter,
    StreamVerdict,
    TcpBindRequested,
    Transfer,
    TransferOffer,
    UdpDestination,
    Window,
)
from sluicegate.filterapi.stream_filter import FORWARD
from sluicegate.isolation import calls
from sluicegate.sandbox.wire import WireBroken
from sluicegate.testing.inline_cell import InlineCell
from sluicegate.testing.peers import PeerStream
from tests.flows.gate_kit import (
    CLIENT,
    SERVER,
    Gate,
    echoes,
    installation,
    play,
    publication,
    sends,
    settings,
    what_comes,
)
from tests.flows.model_kit import Telling

DATA = SERVER.with_port(2020)
OTHER_DATA = SERVER.with_port(2021)
CLIENT_DATA = CLIENT.with_port(5000)
STRANGER = SocketAddress.parse("10.9.9.77:0")
BODY = bytes(range(256)) * 2000
OFFER = TransferOffer("file.bin", Direction.DOWNLOAD, "test", user="ann", facts={"mark": "m"})


class Scene:
    """A primary connection of a client, as the filter under test sees it."""

    def __init__(
        self, place: str, spool: pathlib.Path, others: tuple[Filter | ContentFilter, ...] = ()
    ) -> None:
        self.telling = Telling(lambda _: Pass(), Events.of(ConnectRequested, secondary=True))
        self.cell = InlineCell(lambda: self.telling) if place == "in a cell" else None
        self.spool = spool
        self.others = others
        #: Filters of the same rule that are in the gate.
        self.gate: Gate

    @property
    def primary(self) -> Any:
        return self.telling.seen[0].connection

    @property
    def session(self) -> Any:
        return self.primary.session

    def play(self, scene: Callable[[Gate], Awaitable[None]], **more: Any) -> Gate:
        """Open the primary connection, do what ``scene`` says, and check that nothing is left."""

        async def waits(stream: PeerStream) -> bytes:
            return await stream.receive_all()

        async def whole(gate: Gate) -> None:
            self.gate = gate
            gate.serve(echoes, address=SERVER)
            for address in (DATA, OTHER_DATA):
                gate.serve(echoes, address=address)
            gate.call(waits, name="primary")
            await gate.until(lambda: self.telling.seen)
            await gate.until(lambda: any(one.state == "open" for one in _rows(gate)))
            await scene(gate)
            await asyncio.sleep(0.1)
            self.check_nothing_is_kept()

        target = self.telling if self.cell is None else self.cell.stand_in
        filters = [installation(target, "f")]  # type: ignore[arg-type]
        filters += [installation(one, one.name) for one in self.others]
        names = ["f", *(one.name for one in self.others)]
        plan = settings(publication(*names), filters=filters)
        return play(whole, plan, spool=self.spool, **more)

    def check_nothing_is_kept(self) -> None:
        """What was used up, or is over, is kept on neither side."""
        if self.cell is not None:
            assert self.cell.reach is not None
            # What nobody has any more is dropped with the next call; a test's own failures are
            # circles that know what it had.
            gc.collect()
            self.session.host_access_check("nowhere.example", 1)
            for launched in self.cell.launched:
                assert launched.server.kept_count == 0
            assert self.cell.reach.is_empty


async def soon(gate: Gate, answer: Awaitable[Any]) -> Any:
    """Wait while the peers go on, too."""
    waiting = asyncio.ensure_future(answer)
    await gate.until(waiting.done)
    return await waiting


def _rows(gate: Gate) -> list[Any]:
    return gate.service.connections()


@pytest.fixture(params=["in the gate", "in a cell"])
def place(request: pytest.FixtureRequest) -> str:
    where: str = request.param
    return where


@pytest.fixture
def scene(place: str, tmp_path: pathlib.Path) -> Scene:
    return Scene(place, tmp_path)


class Counts(StreamFilter):
    """Notes what passes it."""

    name = "counts"

    def __init__(self) -> None:
        self.seen: list[tuple[Side, bytes]] = []

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        self.seen.append((side, bytes(window)))
        return FORWARD


class Hears(SessionFilter):
    """Is told that what it expected came up."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self.heard: list[Any] = []

    @override
    def on_event(self, event: Event) -> Any:
        assert isinstance(event, ConnectionEstablished)
        self.heard.append((event.context, event.connection.id, event.is_secondary))
        return Pass()


class Judge(ContentFilter):
    """Says what it was made with, of objects it notes."""

    name = "judge"

    def __init__(self, verdict: ContentVerdict) -> None:
        self.verdict = verdict
        self.seen: list[tuple[str, str, bytes]] = []

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        async with transfer.open() as file:
            body = await file.read()
        self.seen.append((transfer.offer.name, transfer.offer.facts["mark"], body))
        return self.verdict


# -- allow_future_connect ------------------------------------------------------------------------


def test_expected_client_gets_there_once_through_the_filter_and_somebody_is_told(
    scene: Scene,
) -> None:
    counts: list[Counts] = []
    made_for: list[str] = []

    def make(connection: Any) -> Counts:
        made_for.append(connection.id)
        counts.append(Counts())
        return counts[-1]

    async def act(gate: Gate) -> None:
        hears = Hears(scene.session)
        action = scene.session.allow_future_connect(
            scene.primary, DATA, session_filter=hears, context=("any", "thing")
        )
        factory = scene.session.set_data_filter_factory(action, make)
        assert action.address.host == scene.primary.client_side_address.host
        assert (action.is_pending, factory.is_pending) == (True, True)
        (came,) = await gate.ended(gate.call(sends(b"hello"), address=action.address))
        assert came == b"hello"
        assert [one.seen for one in counts] == [[(Side.CLIENT, b"hello"), (Side.SERVER, b"hello")]]
        assert (action.is_pending, factory.is_pending) == (False, False)
        (failure,) = await gate.ended(gate.call(sends(b"again"), address=action.address))
        assert isinstance(failure, ConnectionRefusedError)
        assert hears.heard == [(("any", "thing"), made_for[0], True)]
        with pytest.raises(BadContext, match="the expectation is over"):
            scene.session.set_data_filter_factory(action, make)

    gate = scene.play(act)
    assert gate.failures == []
    assert [[*one.filters] for one in gate.ends if one.primary] == [
        ["inline" if scene.cell else "counts"]
    ]


def test_action_that_is_cancelled_lets_nobody_in(scene: Scene) -> None:
    async def act(gate: Gate) -> None:
        action = scene.session.allow_future_connect(scene.primary, DATA)
        action.cancel()
        action.cancel()
        assert not action.is_pending
        (failure,) = await gate.ended(gate.call(sends(b"x"), address=action.address))
        assert isinstance(failure, ConnectionRefusedError)

    scene.play(act)


def test_action_may_be_used_as_often_as_it_says_and_as_long(scene: Scene) -> None:
    async def act(gate: Gate) -> None:
        action = scene.session.allow_future_connect(
            scene.primary, DATA, allow_multiple=True, timeout_s=5.0, ports=range(4000, 4010)
        )
        assert action.address.port in range(4000, 4010)
        for _ in range(3):
            (came,) = await gate.ended(gate.call(sends(b"hello"), address=action.address))
            assert came == b"hello"
        await asyncio.sleep(6.0)
        assert not action.is_pending

    scene.play(act)


def test_server_that_is_dialled_later_is_dialled_when_the_filter_says(scene: Scene) -> None:
    refused: list[str] = []

    class Dials(DataFilter):
        name = "dials"

        async def run(self, client: Any, server: Any, connection: Any) -> None:
            first = bytes(await client.receive())
            try:
                connection.dial_server(STRANGER.with_port(2020))
            except ValueError as error:
                refused.append(type(error).__name__)
            connection.dial_server(DATA)
            await server.send(first.upper())

    async def act(gate: Gate) -> None:
        action = scene.session.allow_future_connect(scene.primary, DATA, dial_later=True)
        scene.session.set_data_filter_factory(action, lambda _: Dials())
        (came,) = await gate.ended(gate.call(sends(b"hello"), address=action.address))
        assert came == b"HELLO"

    scene.play(act)
    assert refused == ["ValueError"]


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (
            lambda scene: [
                scene.session.allow_future_connect(scene.primary, DATA) for _ in range(9)
            ],
            LimitExceeded,
            "expected_connections_per_session_max",
        ),
        (
            lambda scene: [
                scene.session.allow_future_connect(scene.primary, DATA, ports=range(4000, 4001))
                for _ in range(2)
            ],
            LimitExceeded,
            "passive_ports",
        ),
        (
            lambda scene: scene.session.bind_for_client(
                scene.primary, STRANGER, peers=AddressFilter.everybody()
            ),
            ValueError,
            "bounce",
        ),
        (
            lambda scene: scene.session.connect_to_client(scene.primary, STRANGER),
            ValueError,
            "bounce",
        ),
        (
            lambda scene: scene.session.redirect_connections(scene.primary, []),
            ValueError,
            "at least one target",
        ),
        (
            lambda scene: scene.session.retroactive_allow_bind(DATA, AddressFilter.everybody()),
            LookupError,
            "no bind at",
        ),
        (
            lambda scene: scene.session.set_data_filter_factory(NameLookup, lambda _: Counts()),
            ValueError,
            "brings no connection of its own",
        ),
        (
            lambda scene: scene.session.set_data_filter_factory(None, lambda _: Counts()),
            BadContext,
            "the expectation is over",
        ),
        (lambda scene: scene.session.attach_filter("nobody"), LookupError, "nobody"),
    ],
)
def test_what_the_gate_refuses_raises_what_it_says(
    scene: Scene, ask: Callable[[Scene], Any], error: type[Exception], says: str
) -> None:
    async def act(gate: Gate) -> None:
        del gate
        with pytest.raises(error, match=says) as raised:
            ask(scene)
        assert raised.type is error or error is LookupError
        for expected in list(_session(scene)._expected):
            expected.cancel()

    scene.play(act, expected_connections_per_session_max=8)


def _session(scene: Scene) -> Any:
    (session,) = scene.gate.service._sessions.values()
    return session


def test_limit_that_was_reached_has_its_name_and_bound(scene: Scene) -> None:
    async def act(gate: Gate) -> None:
        del gate
        for _ in range(2):
            scene.session.allow_future_connect(scene.primary, DATA)
        with pytest.raises(LimitExceeded) as raised:
            scene.session.allow_future_connect(scene.primary, DATA)
        assert raised.value.limit == "expected_connections_per_session_max"
        assert raised.value.bound == 2
        for expected in list(_session(scene)._expected):
            expected.cancel()

    scene.play(act, expected_connections_per_session_max=2)


# -- binds ---------------------------------------------------------------------------------------


def test_server_that_is_expected_reaches_the_client_and_nobody_else_does(scene: Scene) -> None:
    async def act(gate: Gate) -> None:
        (listening,) = [gate.serve(echoes, address=CLIENT_DATA)]
        bind = scene.session.bind_for_client(
            scene.primary, CLIENT_DATA, peers=AddressFilter.only(SERVER.host), allow_multiple=True
        )
        assert bind.peers.is_included(SERVER)
        assert not bind.peers.is_included(STRANGER)
        server = SERVER.with_port(0)
        (came,) = await gate.ended(gate.call(sends(b"hi"), address=bind.address, source=server))
        assert came == b"hi"
        (came,) = await gate.ended(gate.call(sends(b"no"), address=bind.address, source=STRANGER))
        assert came == f"<{errno.ECONNRESET}>".encode()

        admitted = AddressFilter.only(STRANGER.host)
        assert scene.session.retroactive_allow_bind(bind.address, admitted) is True
        assert scene.session.retroactive_allow_bind(bind.address, admitted) is False
        (came,) = await gate.ended(gate.call(sends(b"yes"), address=bind.address, source=STRANGER))
        assert came == b"yes"

        bind.set_peers(AddressFilter())
        (came,) = await gate.ended(gate.call(sends(b"no"), address=bind.address, source=server))
        assert came == f"<{errno.ECONNRESET}>".encode()
        bind.cancel()
        assert len(listening) == 2

    scene.play(act)


def test_address_of_the_client_may_be_said_later_and_nobody_gets_in_before(scene: Scene) -> None:
    async def act(gate: Gate) -> None:
        gate.serve(echoes, address=CLIENT_DATA)
        bind = scene.session.bind_for_client(
            scene.primary, CLIENT, peers=AddressFilter.everybody(), allow_multiple=True
        )
        server = SERVER.with_port(0)
        (came,) = await gate.ended(gate.call(sends(b"no"), address=bind.address, source=server))
        assert came == f"<{errno.ECONNRESET}>".encode()
        with pytest.raises(ValueError, match="bounce"):
            bind.set_client_address(STRANGER.with_port(5000))
        with pytest.raises(BadContext, match="told already"):
            bind.set_socket_name(DATA)
        bind.set_client_address(CLIENT_DATA)
        (came,) = await gate.ended(gate.call(sends(b"hi"), address=bind.address, source=server))
        assert came == b"hi"
        bind.cancel()

    scene.play(act)


def test_client_is_dialled_at_once_and_its_server_when_the_filter_says(scene: Scene) -> None:
    class Dials(DataFilter):
        name = "dials"

        async def run(self, client: Any, server: Any, connection: Any) -> None:
            connection.dial_server(DATA)

    async def act(gate: Gate) -> None:
        (called,) = [gate.serve(sends(b"dialled"), address=CLIENT_DATA)]
        action = scene.session.connect_to_client(scene.primary, CLIENT_DATA)
        scene.session.set_data_filter_factory(action, lambda _: Dials())
        await gate.until(lambda: called and called[0].is_done)
        assert called[0].result() == b"dialled"
        assert not action.is_pending

    scene.play(act)


def test_consecutive_ports_lead_to_the_targets_and_each_can_be_withdrawn(scene: Scene) -> None:
    async def act(gate: Gate) -> None:
        first, second = scene.session.redirect_connections(scene.primary, [DATA, OTHER_DATA])
        assert second.address == first.address.with_port(first.address.port + 1)
        first.cancel()
        (came,) = await gate.ended(gate.call(sends(b"hi"), address=second.address))
        assert came == b"hi"
        (failure,) = await gate.ended(gate.call(sends(b"no"), address=first.address))
        assert isinstance(failure, ConnectionRefusedError)

    gate = scene.play(act)
    assert [str(one.server) for one in gate.ends if one.primary] == [str(OTHER_DATA)]


# -- factories for events ------------------------------------------------------------------------


@pytest.mark.parametrize(("allow_multiple", "made_count"), [(False, 1), (True, 2)])
def test_filters_come_by_themselves_to_connections_that_were_foreseen(
    scene: Scene, allow_multiple: bool, made_count: int
) -> None:
    counts: list[Counts] = []

    def make(_: Any) -> Counts:
        counts.append(Counts())
        return counts[-1]

    async def act(gate: Gate) -> None:
        factory = scene.session.set_data_filter_factory(
            ConnectRequested, make, address=SERVER, allow_multiple=allow_multiple
        )
        elsewhere = scene.session.set_data_filter_factory(ConnectRequested, make, address=DATA)
        datagrams = scene.session.set_data_filter_factory(UdpDestination, make)
        for _ in range(2):
            (came,) = await gate.ended(gate.call(sends(b"hello")))
            assert came == b"hello"
        assert factory.is_pending is allow_multiple
        assert len(counts) == made_count
        for one in (factory, elsewhere, datagrams):
            one.cancel()
            assert not one.is_pending

    scene.play(act)


def test_factory_that_raises_ends_its_connection_and_no_other(scene: Scene) -> None:
    def make(_: Any) -> Counts:
        raise RuntimeError("no filter today")

    async def act(gate: Gate) -> None:
        action = scene.session.allow_future_connect(scene.primary, DATA)
        scene.session.set_data_filter_factory(action, make)
        (came,) = await gate.ended(gate.call(sends(b"hello"), address=action.address))
        assert came == f"<{errno.ECONNRESET}>".encode()
        assert len(_rows(gate)) == 1

    gate = scene.play(act)
    assert "RuntimeError: no filter today" in gate.failures[0].cause


# -- held objects --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "outcome", "client_gets"),
    [
        (Release(), Outcome.RELEASED, BODY),
        (Refuse("not this one"), Outcome.REFUSED, f"<{errno.ECONNRESET}>".encode()),
    ],
)
def test_object_is_held_judged_and_what_became_of_it_is_told(
    scene: Scene, verdict: ContentVerdict, outcome: Outcome, client_gets: bytes
) -> None:
    judge = Judge(verdict)
    scene.others = (judge,)
    outcomes: list[Any] = []

    async def act(gate: Gate) -> None:
        gate.serve(sends(BODY), address=DATA.with_port(3000))
        action = scene.session.allow_future_connect(scene.primary, DATA.with_port(3000))
        held = scene.session.hold_transfer(scene.primary, OFFER)
        scene.session.set_data_filter_factory(action, held.factory)
        (came,) = await gate.ended(gate.call(what_comes, address=action.address))
        assert came == client_gets
        outcomes.extend([await soon(gate, held.judged()), await soon(gate, held.finished())])

    gate = scene.play(act)
    assert judge.seen == [("file.bin", "m", BODY)]
    judged, finished = outcomes
    assert (judged.outcome, finished.outcome) == (outcome, outcome)
    assert judged.bytes_held == len(BODY)
    assert finished.bytes_delivered == (len(BODY) if outcome is Outcome.RELEASED else 0)
    (record,) = gate.recorder.of(TransferRecord)
    assert (record.verdict, record.user, record.facts) == (outcome.value, "ann", {"mark": "m"})


def test_held_object_waits_for_its_receiver_and_can_be_given_up(scene: Scene) -> None:
    judge = Judge(Release())
    scene.others = (judge,)

    async def act(gate: Gate) -> None:
        gate.serve(sends(BODY), address=DATA.with_port(3000))
        for is_wanted in (True, False):
            action = scene.session.allow_future_connect(scene.primary, DATA.with_port(3000))
            held = scene.session.hold_transfer(scene.primary, OFFER, deliver_later=True)
            scene.session.set_data_filter_factory(action, held.factory)
            call = gate.call(what_comes, address=action.address)
            assert (await soon(gate, held.judged())).outcome is Outcome.RELEASED
            await asyncio.sleep(1.0)
            assert not call.is_done
            if is_wanted:
                held.deliver()
                assert await gate.ended(call) == [BODY]
                assert (await soon(gate, held.finished())).outcome is Outcome.RELEASED
            else:
                held.cancel("not wanted any more")
                assert await gate.ended(call) == [f"<{errno.ECONNRESET}>".encode()]
                outcome = await soon(gate, held.finished())
                assert (outcome.outcome, outcome.reason) == (Outcome.FAILED, "not wanted any more")

    scene.play(act)


def test_filter_hands_its_place_over_to_what_holds_the_object(scene: Scene) -> None:
    judge = Judge(Release())
    scene.others = (judge,)
    detached: list[str] = []

    class Waits(DataFilter):
        name = "waits"

        async def run(self, client: Any, server: Any, connection: Any) -> None:
            held = scene.session.hold_transfer(scene.primary, OFFER)
            connection.hand_over(self, held.factory(connection))

        def detach(self) -> None:
            detached.append("waits")

    async def act(gate: Gate) -> None:
        gate.serve(sends(BODY), address=DATA.with_port(3000))
        action = scene.session.allow_future_connect(scene.primary, DATA.with_port(3000))
        scene.session.set_data_filter_factory(action, lambda _: Waits())
        assert await gate.ended(gate.call(what_comes, address=action.address)) == [BODY]

    gate = scene.play(act)
    assert [one[2] for one in judge.seen] == [BODY]
    assert detached == ["waits"]
    assert gate.failures == []


def test_filter_that_has_something_pending_cannot_hand_over(scene: Scene) -> None:
    class Reads(DataFilter):
        name = "reads"

        async def run(self, client: Any, server: Any, connection: Any) -> None:
            reading = asyncio.ensure_future(server.receive())
            await asyncio.sleep(0)
            held = scene.session.hold_transfer(scene.primary, OFFER)
            try:
                connection.hand_over(self, held.factory(connection))
            finally:
                reading.cancel()

    async def act(gate: Gate) -> None:
        action = scene.session.allow_future_connect(scene.primary, DATA)
        scene.session.set_data_filter_factory(action, lambda _: Reads())
        (came,) = await gate.ended(gate.call(what_comes, address=action.address))
        assert came == f"<{errno.ECONNRESET}>".encode()

    scene.others = (Judge(Release()),)
    gate = scene.play(act)
    assert "OperationPending" in gate.failures[0].cause


# -- what ends with a cell -----------------------------------------------------------------------


def test_what_a_cell_expected_is_withdrawn_when_it_dies(tmp_path: pathlib.Path) -> None:
    scene = Scene("in a cell", tmp_path)
    cell = scene.cell
    assert cell is not None

    async def act(gate: Gate) -> None:
        actions = [
            scene.session.allow_future_connect(scene.primary, DATA, allow_multiple=True),
            scene.session.bind_for_client(
                scene.primary, CLIENT_DATA, peers=AddressFilter.everybody()
            ),
            *scene.session.redirect_connections(scene.primary, [DATA, OTHER_DATA]),
        ]
        scene.session.set_data_filter_factory(actions[0], lambda _: Counts())
        scene.session.set_data_filter_factory(ConnectRequested, lambda _: Counts(), address=DATA)
        cell.launched[0].kill()
        await asyncio.sleep(0.01)
        assert _session(scene)._expected == {}
        assert _session(scene).factories == []
        for one in actions:
            (failure,) = await gate.ended(gate.call(sends(b"x"), address=one.address))
            assert isinstance(failure, ConnectionRefusedError)

    scene.check_nothing_is_kept = lambda: None  # type: ignore[method-assign]
    scene.play(act)
    assert cell.reach is not None
    assert cell.reach.is_empty


@pytest.mark.parametrize("moment", ["before it came", "while it is held", "after the verdict"])
def test_object_that_a_dead_cell_held_gets_to_nobody(tmp_path: pathlib.Path, moment: str) -> None:
    judge = Judge(Release())
    scene = Scene("in a cell", tmp_path, (judge,))
    cell = scene.cell
    assert cell is not None

    async def act(gate: Gate) -> None:
        async def slow(stream: PeerStream) -> bytes:
            await stream.send_all(BODY)
            if moment == "while it is held":
                return await what_comes(stream)
            stream.end_stream()
            return await what_comes(stream)

        gate.serve(slow, address=DATA.with_port(3000))
        action = scene.session.allow_future_connect(scene.primary, DATA.with_port(3000))
        held = scene.session.hold_transfer(scene.primary, OFFER, deliver_later=True)
        scene.session.set_data_filter_factory(action, held.factory)
        if moment == "before it came":
            cell.launched[0].kill()
        call = gate.call(what_comes, address=action.address)
        if moment == "after the verdict":
            assert (await soon(gate, held.judged())).outcome is Outcome.RELEASED
        elif moment == "while it is held":
            await gate.until(lambda: gate.spool and gate.spool.statistics().bodies)
        if moment != "before it came":
            assert not call.is_done
            cell.launched[0].kill()
        (came,) = await gate.ended(call)
        assert isinstance(came, ConnectionRefusedError) or BODY[:10] not in came

    scene.check_nothing_is_kept = lambda: None  # type: ignore[method-assign]
    gate = scene.play(act)
    assert all(one.verdict == "failed" for one in gate.recorder.of(TransferRecord))
    assert cell.reach is not None
    assert cell.reach.is_empty


def test_connection_for_which_a_dead_cell_has_the_factory_fails(tmp_path: pathlib.Path) -> None:
    """The peer has come, but its filter has not been made when the process ends."""
    scene = Scene("in a cell", tmp_path)
    cell = scene.cell
    assert cell is not None

    def make(_: Any) -> Counts:
        cell.launched[0].kill()
        return Counts()

    async def act(gate: Gate) -> None:
        action = scene.session.allow_future_connect(scene.primary, DATA)
        scene.session.set_data_filter_factory(action, make)
        (came,) = await gate.ended(gate.call(sends(b"hello"), address=action.address))
        assert came == f"<{errno.ECONNRESET}>".encode()

    scene.check_nothing_is_kept = lambda: None  # type: ignore[method-assign]
    gate = scene.play(act)
    assert any("its process" in one.cause for one in gate.failures)


def test_cell_that_dies_in_the_middle_of_a_call_is_told_so(tmp_path: pathlib.Path) -> None:
    scene = Scene("in a cell", tmp_path)
    cell = scene.cell
    assert cell is not None

    async def act(gate: Gate) -> None:
        del gate
        session, primary = scene.session, scene.primary
        cell.launched[0].kill()
        with pytest.raises(WireBroken, match="has ended"):
            session.allow_future_connect(primary, DATA)

    scene.check_nothing_is_kept = lambda: None  # type: ignore[method-assign]
    scene.play(act)


def test_cell_names_nothing_that_it_was_not_told_of(tmp_path: pathlib.Path) -> None:
    scene = Scene("in a cell", tmp_path)

    async def act(gate: Gate) -> None:
        session = scene.session
        other = session._calls, session.id
        (made,) = await gate.ended(gate.call(sends(b"x"), source=STRANGER))
        assert made == b"x"
        for wrong in ("s-unknown", ""):
            session.id = wrong
            with pytest.raises(BadContext, match="the session is over"):
                session.allow_future_connect(scene.primary, DATA)
        session.id = other[1]
        identifier = scene.primary.id
        scene.primary.id = "c-unknown"
        with pytest.raises(BadContext, match="the connection is over"):
            session.allow_future_connect(scene.primary, DATA)
        scene.primary.id = identifier

    scene.play(act)


def test_bind_that_another_filter_denies_raises_how(scene: Scene) -> None:
    denies = Telling(lambda _: Deny("no binds"), Events.of(TcpBindRequested, secondary=True))
    denies.name = "denies"  # type: ignore[misc]
    scene.others = (denies,)

    async def act(gate: Gate) -> None:
        del gate
        with pytest.raises(TransportError, match="bind denied: no binds") as raised:
            scene.session.bind_for_client(
                scene.primary, CLIENT_DATA, peers=AddressFilter.everybody()
            )
        assert (raised.value.error, raised.value.side) == (errno.EACCES, Side.INTERNAL)

    scene.play(act)


# -- cells that lie ------------------------------------------------------------------------------


def _say(scene: Scene, errand: calls.Errand, *, call: int = 0, place: int = 0) -> None:
    assert scene.cell is not None
    primary = scene.primary
    message = calls.Call(call, place, primary.id, primary.session.id, errand)
    scene.cell.launched[0].server.tell(message)


@pytest.mark.parametrize(
    "errand",
    [
        calls.AwaitHeld(1, True),
        calls.RetroactiveAllowBind(("no address", 1, 0), calls.PeersFacts([], [], [], [])),
        calls.SetPeers(7, calls.PeersFacts(["no network"], [], [], [])),
        calls.AllowFutureConnect(("10.9.9.9", 2020, 0), calls.How(ports=(1, 2, 0)), False),
        calls.AllowFutureConnect(("10.9.9.9", 2020, 0), calls.How(ports=(0, 70_000, 1)), False),
        calls.AllowFutureConnect(("10.9.9.9", 2020, 0), calls.How(timeout_s=-1.0), False),
        calls.AllowFutureConnect(("10.9.9.9", 2020, 0), calls.How(timeout_s=float("inf")), False),
        calls.SetFactory(1, 0, "Session", None, 3, False, None),
        calls.SetFactory(1, 0, "ConnectRequested", None, 99, False, None),
    ],
)
def test_nonsense_is_refused_and_where_nobody_hears_that_the_cell_is_ended(
    tmp_path: pathlib.Path, errand: calls.Errand
) -> None:
    scene = Scene("in a cell", tmp_path)
    cell = scene.cell
    assert cell is not None

    async def act(gate: Gate) -> None:
        _say(scene, errand, call=99)
        await gate.until(lambda: cell.reach is not None and cell.reach.is_empty)
        assert cell.failures == []
        assert _session(scene)._expected == {}
        _say(scene, errand)
        await gate.until(lambda: cell.failures)
        assert "asked for what it must not" in str(cell.failures[0])

    scene.check_nothing_is_kept = lambda: None  # type: ignore[method-assign]
    scene.play(act)


def test_calls_that_wait_are_bounded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.isolation.reach.CELL_CALLS_MAX", 3)
    scene = Scene("in a cell", tmp_path)

    async def act(gate: Gate) -> None:
        del gate
        held = scene.session.hold_transfer(scene.primary, OFFER)
        waiting = [asyncio.ensure_future(held.judged()) for _ in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(LimitExceeded) as raised:
            await held.finished()
        assert (raised.value.limit, raised.value.bound) == ("CELL_CALLS_MAX", 3)
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        held.cancel("over")
        assert (await held.finished()).reason == "over"
        assert [(await one).outcome for one in waiting[1:]] == [Outcome.FAILED] * 2

    scene.play(act)


def test_what_a_cell_has_at_a_time_is_bounded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.isolation.reach.CELL_GIVEN_MAX", 2)
    scene = Scene("in a cell", tmp_path)

    async def act(gate: Gate) -> None:
        del gate
        action = scene.session.allow_future_connect(scene.primary, DATA)
        held = scene.session.hold_transfer(scene.primary, OFFER)
        for ask in (
            lambda: scene.session.allow_future_connect(scene.primary, DATA),
            lambda: scene.session.hold_transfer(scene.primary, OFFER),
            lambda: scene.session.set_data_filter_factory(action, lambda _: Counts()),
        ):
            with pytest.raises(LimitExceeded, match="CELL_GIVEN_MAX"):
                ask()
        action.cancel()
        await asyncio.sleep(0.01)
        del held
        scene.session.allow_future_connect(scene.primary, DATA).cancel()

    scene.play(act)
