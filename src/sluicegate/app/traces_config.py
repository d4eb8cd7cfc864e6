"""``[traces]`` of ``sluicegate.toml``: which share of connections is traced, and for whom.

``config`` has it. The invariant: without the table no step of any connection is recorded.
"""

from __future__ import annotations

import pathlib
from typing import Annotated, Final

import pydantic

from sluicegate.audit.sinks.settings import SinkSettings, read_place
from sluicegate.documents import Model, Wrong, parse_size
from sluicegate.names import HostRefused

__all__ = ["TRACES_NAME", "TracesTable", "to_trace_sink"]

TRACES_NAME: Final = "traces"
"""What its sink is called in the status and in metrics."""


def _parse_to(value: object) -> str:
    """Check where a collector is."""
    text = str(value)
    scheme, _, rest = text.partition("://")
    if scheme not in {"http", "https"} or not rest.strip("/"):
        raise Wrong(f"{text!r} is no address of a collector", _TO_CURE)
    try:
        read_place(text)
    except HostRefused as refused:
        raise Wrong(f"{text!r}: {refused.hint}", _TO_CURE) from None
    return text


_TO_CURE: Final = '"https://HOST/v1/traces" (OTLP over HTTP)'


class TracesTable(Model):
    """``[traces]``."""

    to: Annotated[str, pydantic.PlainValidator(_parse_to, json_schema_input_type=str)] = (
        pydantic.Field(examples=["https://otel.example.org/v1/traces"])
    )
    """A collector that takes OTLP over HTTP."""
    ratio: float = pydantic.Field(default=0.01, gt=0, le=1)
    """The share of connections that are traced; 1: all."""
    propagate: bool = False
    """Whether servers are told of the trace that a request is in (``traceparent``)."""
    ca: str = ""
    """A file of certificates that the collector is verified with; empty: the system's."""
    headers: str = ""
    """A file with headers of requests, one a line (``Authorization: Bearer …``)."""
    queue_bytes: Annotated[
        int,
        pydantic.BeforeValidator(parse_size, json_schema_input_type=int | str),
        pydantic.Field(ge=1 << 20),
    ] = 64 << 20
    """How much of the log may wait for the collector; beyond it, the oldest is left out."""


def to_trace_sink(table: TracesTable | None, folder: pathlib.Path) -> tuple[SinkSettings, ...]:
    """Return where spans are sent; paths are relative to the folder of the file."""
    if table is None:
        return ()
    return (
        SinkSettings(
            name=TRACES_NAME,
            to=table.to,
            ca=str(folder / table.ca) if table.ca else "",
            headers=str(folder / table.headers) if table.headers else "",
            trace_ratio=table.ratio,
            queue_bytes=table.queue_bytes,
        ),
    )
