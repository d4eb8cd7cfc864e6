"""Every driver keeps the contract of ``sluicegate.port.backend``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluicegate.limits import Limits
from sluicegate.port.backend import Backend
from sluicegate.testing.conformance import BACKEND_CHECKS, BackendFactory


@pytest.mark.parametrize("check", BACKEND_CHECKS, ids=lambda check: check.__name__)
def test_backend_conforms(
    check: Callable[[BackendFactory], None], make_backend: BackendFactory
) -> None:
    made: list[Backend] = []

    def make(limits: Limits) -> Backend:
        made.append(make_backend(limits))
        return made[-1]

    check(make)
    assert made, "a check that tries no backend finds nothing wrong with any"
