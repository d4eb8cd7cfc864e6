"""The conformance suite of the completion port and its drivers, for ours and for yours.

Call every check of ``BACKEND_CHECKS`` with a factory of drivers, and every check of ``PORT_CHECKS``
with a factory of ports over them; one that returns has passed. The invariant: a driver that passes
can carry the whole service.
"""

from .bench import BackendFactory, NonConforming
from .datagram_checks import DATAGRAM_CHECKS, DATAGRAM_SOCKET_CHECKS
from .file_checks import FILE_CHECKS
from .operation_checks import OPERATION_CHECKS
from .port_bench import PortFactory
from .socket_checks import SOCKET_CHECKS
from .stream_checks import STREAM_CHECKS

__all__ = ["BACKEND_CHECKS", "PORT_CHECKS", "BackendFactory", "NonConforming", "PortFactory"]

BACKEND_CHECKS = (*OPERATION_CHECKS, *STREAM_CHECKS, *DATAGRAM_CHECKS)
"""What a driver promises (``sluicegate.port.backend``)."""

PORT_CHECKS = (*FILE_CHECKS, *SOCKET_CHECKS, *DATAGRAM_SOCKET_CHECKS)
"""What a port over it promises (the filter model)."""
