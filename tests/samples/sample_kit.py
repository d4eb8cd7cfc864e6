"""What the tests of the samples share: an exchange through a simulated gate, and cut-up bytes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from sluicegate.audit import NoteRecord
from sluicegate.filterapi import Filter, StreamFilter
from sluicegate.gate.settings import Installation, OnFailure, PerConnection
from sluicegate.testing import FaultPlan
from tests.flows.gate_kit import Gate, installation, play, publication, sends, settings

SEEDS = range(12)
"""Worlds in which the stream arrives cut up, each in its own way."""


Sample = Filter | functools.partial[StreamFilter]
"""A filter, or the class of a stream filter with its settings."""


def plan_with(what: Sample, rule: Mapping[str, object] | None = None, **more: Any) -> Any:
    """One rule that uses a sample."""
    made: Any = type(what) if isinstance(what, Filter) else what.func
    name = made.name
    rule_settings = {name: rule} if rule is not None else None
    if isinstance(what, Filter):
        installed = installation(what, name)
    else:
        declared = getattr(made, "RuleSettings", None)
        per_connection = PerConnection(made if declared else what, declared, what.args[0])
        installed = Installation(name, per_connection, OnFailure.DENY, "test")
    return settings(publication(name, settings=rule_settings), filters=[installed], **more)


@dataclass(frozen=True)
class Exchange:
    """What arrived, and the gate that it came through; `<errno>` ends what was reset."""

    at_server: bytes
    at_client: bytes
    gate: Gate

    @property
    def outcome(self) -> tuple[str, str]:
        (end,) = self.gate.ends
        return end.outcome, end.reason


def exchange(
    what: Sample,
    client_says: bytes = b"",
    server_says: bytes = b"",
    *,
    rule: Mapping[str, object] | None = None,
    seed: int | None = None,
    within_s: float = 120.0,
) -> Exchange:
    """Let both sides say something through the gate; with a seed, cut up and out of step."""
    arrived: list[Any] = []

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(sends(server_says))
        client = gate.call(sends(client_says))
        (at_client,) = await gate.ended(client, within_s=within_s)
        await gate.until(lambda: servers)
        (at_server,) = await gate.ended(*servers)
        await gate.idle()
        arrived.extend((at_server, at_client))

    faults = FaultPlan() if seed is None else FaultPlan.disorder()
    gate = play(scenario, plan_with(what, rule), seed=seed or 0, faults=faults)
    return Exchange(*arrived, gate)


def notes(gate: Gate) -> list[tuple[str, dict[str, str | int]]]:
    """What the filters wrote, without the connection's identifier."""
    return [
        (note.message, {key: fact for key, fact in note.facts.items() if key != "connection"})
        for note in gate.recorder.of(NoteRecord)
    ]


@st.composite
def cut_up(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cut bytes into pieces, in any way."""
    places = sorted(draw(st.sets(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
