"""The ``[limits]`` table: every field of ``Limits``, typed and bounded.

``config`` puts it into its model. The invariant: a limit of ``limits.py`` can be set here without a
line of code, under its own name, and no value is taken that the engine could not keep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import pydantic

from sluicegate.documents import Model, parse_size
from sluicegate.limits import Limits

__all__ = ["LimitTable", "contradictions", "to_limits"]


def to_limits(table: pydantic.BaseModel) -> Limits:
    """Make the limits of a checked table; what it leaves out keeps its default."""
    return Limits(**table.model_dump())


def contradictions(table: pydantic.BaseModel, limits: Limits) -> list[tuple[str, str, str]]:
    """Return settings that can have no effect: the key, the cause, the cure.

    A default above a bound that the operator lowered is none: the lower one rules.
    """
    wrong: list[tuple[str, str, str]] = []
    for part, whole in _PARTS:
        value, bound = getattr(limits, part), getattr(limits, whole)
        if value > bound and part in table.model_fields_set:
            cause = f"is {value}, above {whole}, which is {bound}"
            wrong.append((part, cause, f"raise {whole!r} or lower this"))
    return wrong


_PARTS: Final = (
    ("blocking_threads_max", "blocking_threads_grown_max"),
    ("spool_memory_bytes_max", "spool_memory_all_bytes_max"),
    ("spool_object_bytes_max", "spool_client_bytes_max"),
    ("spool_client_bytes_max", "spool_bytes_max"),
)
"""Limits, each with the one that bounds all of its kind together."""

_YEAR_S: Final = 366 * 86400
_BYTES_MAX: Final = 1 << 62

_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "udp_datagram_bytes_max": (256, 65535),
    "udp_socket_buffer_bytes": (4096, 1 << 30),
    "interactive_buffers_max": (8, 32768),
    "bulk_buffers_max": (1, 4096),
    "blocking_threads_max": (1, 1024),
    "blocking_threads_grown_max": (1, 4096),
    "spool_writes_in_flight_max": (1, 64),
    "spool_memory_bytes_max": (0, 1 << 30),
    "spool_free_bytes_min": (0, _BYTES_MAX),
    "spool_free_inodes_min": (0, 1 << 40),
    "resource_low_percent": (1, 100),
    "splice_pipes_max": (0, 65536),
    "verdicts_kept_max": (0, 1 << 24),
    "client_buffers_max": (0, 32768),
    "drain_timeout_s": (0, _YEAR_S),
    "revoke_grace_s": (0, _YEAR_S),
    "loop_block_kill_s": (0, _YEAR_S),
    "memory_bytes_max": (0, _BYTES_MAX),
    "expected_connections_per_session_max": (0, 1 << 16),
    "stream_hold_bytes_max": (0, 1 << 30),
    "record_queue_bytes_max": (65536, 1 << 32),
}
"""Where the usual bounds do not fit: 0 turns a thing off, and a ring has at most 32768 buffers."""


def _bounds_of(name: str) -> tuple[float, float]:
    if name in _BOUNDS:
        return _BOUNDS[name]
    if name.endswith("_s"):
        return 0.001, _YEAR_S
    if "_bytes_" in name:
        return 1, _BYTES_MAX
    return 1, 1 << 31


def _field_of(field: dataclasses.Field[object]) -> tuple[Any, Any]:
    low, high = _bounds_of(field.name)
    bounds = pydantic.Field(default=field.default, ge=low, le=high, allow_inf_nan=False)
    if field.name.endswith("_s"):
        return float, bounds
    if "_bytes_" in field.name:
        size = Annotated[int, pydantic.BeforeValidator(parse_size)]
        return size, bounds
    return int, pydantic.Field(default=field.default, ge=int(low), le=int(high))


if TYPE_CHECKING:

    class LimitTable(Model):
        """The model of ``[limits]``; its fields are those of ``Limits``."""

else:
    LimitTable = pydantic.create_model(
        "LimitTable",
        __base__=Model,
        **{field.name: _field_of(field) for field in dataclasses.fields(Limits)},
    )
