"""ConnectionFilter: the common case of a filter, one data filter in each connection of its rules.

It is a ``Filter`` whose session filters do nothing but ask ``make``. The invariant: ``make`` is
asked once per primary connection, before anything is dialled, with the rule's settings.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from typing_extensions import override

from sluicegate.verdict import Allow, Deny, Pass

from .data_filter import AnyDataFilter, CallbackDataFilter, DataFilter
from .emulate import Emulate
from .events import ConnectRequested, Event
from .filter import Filter
from .registration import Events
from .session_filter import SessionFilter
from .stream_filter import StreamFilter

if TYPE_CHECKING:
    from .views import Connection, Firewall, Session

__all__ = ["ConnectionFilter"]

SettingsT = TypeVar("SettingsT")


class ConnectionFilter(Filter, Generic[SettingsT]):
    """Installed once; makes a data filter per connection, and keeps what they share.

    A data filter that shares nothing needs none of this: install its class itself.
    """

    firewall: Firewall

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings
        #: ``[filter.settings]``; what a rule leaves out is taken from here.

    @abc.abstractmethod
    def make(
        self, connection: Connection, settings: SettingsT
    ) -> AnyDataFilter | Allow | Deny | Emulate | None:
        """Make what looks after a connection, or answer for it; None takes no interest.

        Args:
            connection: The connection that is asked for; its session is the client's.
            settings: The rule's, if the class declares ``RuleSettings``; else the filter's own.
        """

    @override
    def start(self, firewall: Firewall) -> Events:
        self.firewall = firewall
        return Events.of(ConnectRequested)

    @override
    def attach(self, session: Session) -> SessionFilter | None:
        return _Making(session, self)


class _Making(SessionFilter):
    """One client."""

    def __init__(self, session: Session, owner: ConnectionFilter[Any]) -> None:
        super().__init__(session)
        self._owner = owner
        self._has_rule_settings = hasattr(owner, "RuleSettings")

    @override
    def on_event(self, event: Event) -> Any:
        owner = self._owner
        settings = event.rule_settings if self._has_rule_settings else owner.settings
        made = owner.make(event.connection, settings)
        if isinstance(made, DataFilter | CallbackDataFilter | StreamFilter):
            event.attach_data_filter(made)
            return Pass()
        # Whatever else it is, the dispatcher judges it: nonsense is a failure.
        return Pass() if made is None else cast("Any", made)
