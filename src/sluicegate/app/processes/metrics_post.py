"""MetricsPost: the place of the process that is asked for metrics, and the address it listens on.

The supervisor has one. The invariant: the supervisor opens the address and never reads from it:
what others send is read by a process that can do nothing but ask for numbers.
"""

from __future__ import annotations

from typing_extensions import override

from sluicegate.app.config import Configuration
from sluicegate.gate.control import ControlTarget
from sluicegate.gate.control_messages import MeasuresRequest, StatusRequest
from sluicegate.process_limits import METRICS_CLIENTS_MAX

from .attendant_post import AttendantPost
from .child_post import Begin, Upkeep
from .orders import BeginMetrics

__all__ = ["MetricsPost"]


class MetricsPost(AttendantPost):
    """The exporter of one gate, and its replacements."""

    def __init__(
        self,
        configuration: Configuration,
        target: ControlTarget,
        upkeep: Upkeep,
    ) -> None:
        """Have none yet; the arguments as of ``AttendantPost``."""
        may = (MeasuresRequest, StatusRequest)
        super().__init__("metrics_exporter", "metrics exporter", may, target, upkeep)
        self._wanted = configuration.metrics
        self._has_sandbox = configuration.has_sandbox

    @override
    def listen(self) -> None:
        if self._wanted is not None:
            self._open(self._wanted.listen, "[metrics]", METRICS_CLIENTS_MAX)
            self._say(f"metrics on http://{self.address}/metrics")

    @override
    def _begin(self) -> Begin | None:
        if self._listening is None:
            return None
        return BeginMetrics(has_sandbox=self._has_sandbox), [self._listening.fileno()]
