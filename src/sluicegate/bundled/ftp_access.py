"""FtpAccess: lets FTP through the gate, with its data connections, and holds what they carry.

Installed once; attaches an ``FtpControl`` to every control connection of the rules that name it.
What is held is judged by the rule's content filters (``exe_block``). The invariant: a data
connection exists only because a control connection announced it, between the same two hosts.
"""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from sluicegate.filterapi import (
    ConnectionTerminating,
    ConnectRequested,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    Pass,
    Session,
    SessionFilter,
    Shown,
)

from .ftp_control import FtpControl
from .ftp_data import DataChannel
from .ftp_settings import FtpAccessRuleSettings, FtpAccessSettings, FtpConduct

__all__ = ["FtpAccess"]


class FtpAccess(Filter):
    """Follows FTP sessions."""

    name = "ftp_access"
    shows: ClassVar[tuple[Shown, ...]] = ("transfers",)
    Settings = FtpAccessSettings
    RuleSettings = FtpAccessRuleSettings

    def __init__(self, settings: FtpAccessSettings | None = None) -> None:
        self.settings = settings or FtpAccessSettings()
        self._firewall: Firewall

    @override
    def start(self, firewall: Firewall) -> Events:
        self._firewall = firewall
        return Events.of(ConnectRequested, ConnectionTerminating, secondary=True)

    @override
    def attach(self, session: Session) -> SessionFilter:
        return _FtpSession(session, self._firewall, self.settings)


class _FtpSession(SessionFilter):
    """One client's control connections."""

    def __init__(self, session: Session, firewall: Firewall, settings: FtpAccessSettings) -> None:
        super().__init__(session)
        self._firewall = firewall
        self._settings = settings
        self._channels: dict[str, DataChannel] = {}
        #: By the identifier of the data connection.

    @override
    def on_event(self, event: Event) -> EventVerdict:
        connection = event.connection
        if isinstance(event, ConnectionTerminating):
            channel = self._channels.pop(connection.id, None)
            if channel is not None:
                channel.on_ended()
        elif isinstance(event, ConnectRequested) and not event.is_secondary:
            conduct = FtpConduct.of(self._settings, event.rule_settings, connection.client_address)
            event.attach_data_filter(FtpControl(self._firewall, conduct, self._channels))
        return Pass()
