"""A port over every driver keeps the filter model's rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluicegate.limits import Limits
from sluicegate.port import CompletionPort
from sluicegate.testing.conformance import PORT_CHECKS, PortFactory


@pytest.mark.parametrize("check", PORT_CHECKS, ids=lambda check: check.__name__)
def test_port_conforms(check: Callable[[PortFactory], None], make_port: PortFactory) -> None:
    made: list[CompletionPort] = []

    def make(limits: Limits) -> CompletionPort:
        made.append(make_port(limits))
        return made[-1]

    check(make)
    assert made, "a check that tries no port finds nothing wrong with any"
