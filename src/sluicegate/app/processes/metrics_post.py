"""MetricsPost: the place of the process that is asked for metrics, and the address it listens on.

The supervisor has one. The invariant: the supervisor opens the address and never reads from it:
what others send is read by a process that can do nothing but ask for numbers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeAlias

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.app.config import Configuration
from sluicegate.clock import Clock
from sluicegate.errors import ConfigError
from sluicegate.gate.control import ControlTarget
from sluicegate.gate.control_messages import MeasuresRequest, StatusRequest
from sluicegate.process_limits import METRICS_CLIENTS_MAX

from .attendant_post import AttendantPost
from .orders import BeginMetrics, Message

__all__ = ["MetricsPost"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries metrics, not traffic


class MetricsPost(AttendantPost):
    """The exporter of one gate, and its replacements."""

    def __init__(
        self,
        configuration: Configuration,
        target: ControlTarget,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        """Have none yet; the arguments as of ``AttendantPost``."""
        may = (MeasuresRequest, StatusRequest)
        super().__init__("metrics_exporter", "metrics exporter", may, target, clock, say)
        self._wanted = configuration.metrics
        self._has_sandbox = configuration.has_sandbox
        self._listening: _Socket | None = None

    @property
    def address(self) -> SocketAddress | None:
        """Where it listens; None: nowhere."""
        if self._listening is None:
            return None
        return SocketAddress.from_kernel(self._listening.getsockname())

    @override
    def listen(self) -> None:
        if self._wanted is not None:
            self._listening = _open(self._wanted.listen)
            self._say(f"metrics on http://{self.address}/metrics")

    @override
    async def close(self) -> None:
        """End the exporter, and close its address."""
        await super().close()
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    @override
    def _begin(self) -> tuple[Message, list[int]] | None:
        if self._listening is None:
            return None
        return BeginMetrics(has_sandbox=self._has_sandbox), [self._listening.fileno()]


def _open(address: SocketAddress) -> _Socket:
    listening = _Socket(address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.listen(METRICS_CLIENTS_MAX)
    except OSError as error:
        listening.close()
        raise ConfigError(
            '"listen" in [metrics]',
            f"{address} cannot be listened on: {error.strerror}",
            "choose another port, or leave [metrics] out",
        ) from error
    return listening
