"""``[metrics]`` of ``sluicegate.toml``: where Prometheus and its kin may ask for numbers.

``config`` has it. The invariant: without the table nobody can ask over the network.
"""

from __future__ import annotations

from typing import Annotated, Final

import pydantic

from sluicegate.address import SocketAddress
from sluicegate.documents import Model
from sluicegate.policy.parse_values import parse_address

__all__ = ["MetricsTable"]

_DEFAULT: Final = SocketAddress("127.0.0.1", 9310)


class MetricsTable(Model, arbitrary_types_allowed=True):
    """``[metrics]``."""

    listen: Annotated[
        SocketAddress, pydantic.PlainValidator(parse_address, json_schema_input_type=str)
    ] = pydantic.Field(default_factory=lambda: _DEFAULT, examples=["127.0.0.1:9310"])
    """Where they are served over HTTP; nobody is asked for a password there."""
