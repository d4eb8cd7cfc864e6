"""A port over every driver keeps the filter model's rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluicegate.testing.conformance import PORT_CHECKS, PortFactory


@pytest.mark.parametrize("check", PORT_CHECKS, ids=lambda check: check.__name__)
def test_port_conforms(check: Callable[[PortFactory], None], make_port: PortFactory) -> None:
    check(make_port)
