"""The conformance suite of the completion port's drivers, for ours and for yours.

Call every ``check`` in ``BACKEND_CHECKS`` with a factory of drivers; one that
returns has passed. The invariant: a driver that passes can carry the whole service.
"""

from .bench import BackendFactory, NonConforming
from .operation_checks import OPERATION_CHECKS
from .stream_checks import STREAM_CHECKS

__all__ = ["BACKEND_CHECKS", "BackendFactory", "NonConforming"]

BACKEND_CHECKS = (*OPERATION_CHECKS, *STREAM_CHECKS)
"""What a driver promises."""
