"""Errands: what the gate does for each kind of call of a cell.

``reach`` looks a call up here. The invariant: each errand is one call of the filter API on a
session, a connection or an object that the cell was told of, with values that were checked as they
were made; what that raises is the answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sluicegate.address import IpAddress
from sluicegate.errors import BadContext, ProtocolError
from sluicegate.filterapi import Event, Position
from sluicegate.filterapi import events as event_types
from sluicegate.gate.transfer import GateTransfer

from . import calls
from .calls import Call, timeout_of
from .facts import address_of, facts_of

if TYPE_CHECKING:
    from .reach import Reach

__all__ = ["DO"]

_Answer: TypeAlias = calls.Result | Awaitable[calls.Result | None] | None

# -- sessions --------------------------------------------------------------------------------------


def _allow_future_connect(reach: Reach, call: Call, errand: calls.AllowFutureConnect) -> _Answer:
    reach.check_room()
    session, how = reach.session(call), errand.how
    session_filter, context = reach.told(session, how.told)
    action = session.allow_future_connect(
        reach.connection(call),
        address_of(errand.target),
        ports=how.port_range(),
        session_filter=session_filter,
        context=context,
        dial_later=errand.dial_later,
        allow_multiple=how.allow_multiple,
        timeout_s=timeout_of(how.timeout_s),
    )
    return calls.Actions([reach.give(action, how.told)])


def _connect_to_client(reach: Reach, call: Call, errand: calls.ConnectToClient) -> _Answer:
    reach.check_room()
    session = reach.session(call)
    session_filter, context = reach.told(session, errand.told)
    action = session.connect_to_client(
        reach.connection(call),
        address_of(errand.client),
        session_filter=session_filter,
        context=context,
    )
    return calls.Actions([reach.give(action, errand.told)])


def _bind_for_client(reach: Reach, call: Call, errand: calls.BindForClient) -> _Answer:
    reach.check_room()
    session, how = reach.session(call), errand.how
    session_filter, context = reach.told(session, how.told)
    bind = session.bind_for_client(
        reach.connection(call),
        address_of(errand.client),
        peers=errand.peers.peers(),
        ports=how.port_range(),
        session_filter=session_filter,
        context=context,
        allow_multiple=how.allow_multiple,
        timeout_s=timeout_of(how.timeout_s),
    )
    return calls.Actions([reach.give(bind, how.told)])


def _redirect_connections(reach: Reach, call: Call, errand: calls.RedirectConnections) -> _Answer:
    reach.check_room(len(errand.targets))
    session, how = reach.session(call), errand.how
    session_filter, context = reach.told(session, how.told)
    made = session.redirect_connections(
        reach.connection(call),
        [address_of(one) for one in errand.targets],
        ports=how.port_range(),
        session_filter=session_filter,
        context=context,
        allow_multiple=how.allow_multiple,
        timeout_s=timeout_of(how.timeout_s),
    )
    return calls.Actions([reach.give(one, how.told) for one in made])


def _set_factory(reach: Reach, call: Call, errand: calls.SetFactory) -> _Answer:
    reach.check_room()
    session, make = reach.session(call), reach.factory(errand.token)
    position = Position(errand.position)
    if errand.action:
        foreseen = reach.action(errand.action)
        if foreseen is None:
            raise BadContext("the expectation is over: set the factory before it is used")
        action = session.set_data_filter_factory(foreseen, make, position=position)
        number = reach.give_factory(errand.action, action, errand.token)
        return calls.Actions([(number, facts_of(action.address))])
    action = session.set_data_filter_factory(
        _event_type(errand.kind),
        make,
        address=None if errand.address is None else address_of(errand.address),
        position=position,
        allow_multiple=errand.allow_multiple,
        timeout_s=timeout_of(errand.timeout_s),
    )
    return calls.Actions([reach.give(action, errand.token)])


def _event_type(name: str) -> type[Event]:
    found: object = getattr(event_types, name, None) if name in event_types.__all__ else None
    if not isinstance(found, type) or not issubclass(found, Event):
        raise ProtocolError("named no type of event")
    return found


def _retroactive_allow_bind(
    reach: Reach, call: Call, errand: calls.RetroactiveAllowBind
) -> _Answer:
    peers = errand.peers.peers()
    return calls.Truth(
        reach.session(call).retroactive_allow_bind(address_of(errand.address), peers)
    )


def _hold_object(reach: Reach, call: Call, errand: calls.HoldObject) -> _Answer:
    reach.check_room()
    held = reach.session(call).hold_transfer(
        reach.connection(call), errand.offer.offer(), deliver_later=errand.deliver_later
    )
    assert isinstance(held, GateTransfer), "the gate's own sessions hold objects"
    return calls.Held(reach.hold(held))


def _check_host(reach: Reach, call: Call, errand: calls.CheckHost) -> _Answer:
    return calls.Truth(reach.session(call).host_access_check(errand.host, errand.port))


async def _look_up_host(reach: Reach, call: Call, errand: calls.LookUpHost) -> calls.Result:
    found = await reach.session(call).host_by_name(reach.connection(call), errand.host, errand.port)
    return calls.Names([str(one) for one in found])


async def _look_up_address(reach: Reach, call: Call, errand: calls.LookUpAddress) -> calls.Result:
    address: IpAddress = ipaddress.ip_address(errand.address)
    names = await reach.session(call).host_by_address(reach.connection(call), address)
    return calls.Names([*names])


def _attach_filter(reach: Reach, call: Call, errand: calls.AttachFilter) -> None:
    reach.session(call).attach_filter(errand.name)


# -- actions ---------------------------------------------------------------------------------------


def _ask_action(reach: Reach, _: Call, errand: calls.AskAction) -> _Answer:
    action = reach.action(errand.action)
    return calls.Truth(action is not None and action.is_pending)


def _cancel_action(reach: Reach, _: Call, errand: calls.CancelAction) -> None:
    action = reach.action(errand.action)
    if action is not None:
        action.cancel()


def _ask_peers(reach: Reach, _: Call, errand: calls.AskPeers) -> _Answer:
    return calls.Peers(calls.PeersFacts.of(reach.bind(errand.action).peers))


def _set_peers(reach: Reach, _: Call, errand: calls.SetPeers) -> None:
    reach.bind(errand.action).set_peers(errand.peers.peers())


def _set_client_address(reach: Reach, _: Call, errand: calls.SetClientAddress) -> None:
    reach.bind(errand.action).set_client_address(address_of(errand.client))


# -- held objects ----------------------------------------------------------------------------------


async def _await_held(reach: Reach, _: Call, errand: calls.AwaitHeld) -> calls.Result:
    held = reach.held(errand.held)
    return calls.OutcomeFacts.of(await (held.finished() if errand.is_finished else held.judged()))


def _deliver_held(reach: Reach, _: Call, errand: calls.DeliverHeld) -> None:
    reach.held(errand.held).deliver()


def _cancel_held(reach: Reach, _: Call, errand: calls.CancelHeld) -> None:
    reach.held(errand.held).cancel(errand.reason)


def _drop(reach: Reach, _: Call, errand: calls.Drop) -> None:
    reach.drop(errand.held)


# -- places ----------------------------------------------------------------------------------------


def _dial_server(reach: Reach, call: Call, errand: calls.DialServer) -> None:
    reach.connection(call).dial_server(address_of(errand.address))


def _hand_over(reach: Reach, call: Call, errand: calls.HandOver) -> None:
    place = reach.place(call)
    connection = place.connection
    connection.hand_over(place, reach.held(errand.held).factory(connection))


def _open_object(reach: Reach, call: Call, errand: calls.OpenObject) -> _Answer:
    return reach.place(call).objects.open(errand.offer.offer())


def _feed_object(reach: Reach, call: Call, errand: calls.FeedObject) -> _Answer:
    return reach.place(call).objects.feed(errand)


def _finish_object(reach: Reach, call: Call, errand: calls.FinishObject) -> _Answer:
    return reach.place(call).objects.finish(errand.number)


def _deliver_object(reach: Reach, call: Call, errand: calls.DeliverObject) -> _Answer:
    return reach.place(call).objects.deliver(errand)


def _pass_by(reach: Reach, call: Call, errand: calls.PassBy) -> None:
    reach.place(call).objects.pass_by(errand.number)


def _cancel_object(reach: Reach, call: Call, errand: calls.CancelObject) -> None:
    place = reach.find_place(call)
    if place is not None:
        place.objects.cancel(errand.number, errand.reason)


def _piece_sent(reach: Reach, call: Call, errand: calls.PieceSent) -> None:
    place = reach.find_place(call)
    if place is not None:
        place.objects.on_piece_sent(errand)


def _cancel_call(reach: Reach, _: Call, errand: calls.CancelCall) -> None:
    reach.cancel_call(errand.call)


DO: Final[dict[type, Callable[[Reach, Call, Any], _Answer]]] = {
    calls.AllowFutureConnect: _allow_future_connect,
    calls.ConnectToClient: _connect_to_client,
    calls.BindForClient: _bind_for_client,
    calls.RedirectConnections: _redirect_connections,
    calls.SetFactory: _set_factory,
    calls.RetroactiveAllowBind: _retroactive_allow_bind,
    calls.HoldObject: _hold_object,
    calls.CheckHost: _check_host,
    calls.LookUpHost: _look_up_host,
    calls.LookUpAddress: _look_up_address,
    calls.AttachFilter: _attach_filter,
    calls.AskAction: _ask_action,
    calls.CancelAction: _cancel_action,
    calls.AskPeers: _ask_peers,
    calls.SetPeers: _set_peers,
    calls.SetClientAddress: _set_client_address,
    calls.AwaitHeld: _await_held,
    calls.DeliverHeld: _deliver_held,
    calls.CancelHeld: _cancel_held,
    calls.Drop: _drop,
    calls.DialServer: _dial_server,
    calls.HandOver: _hand_over,
    calls.OpenObject: _open_object,
    calls.FeedObject: _feed_object,
    calls.FinishObject: _finish_object,
    calls.DeliverObject: _deliver_object,
    calls.PassBy: _pass_by,
    calls.CancelObject: _cancel_object,
    calls.PieceSent: _piece_sent,
    calls.CancelCall: _cancel_call,
}
"""Who does what."""
