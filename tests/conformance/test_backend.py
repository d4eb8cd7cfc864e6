"""Every driver keeps the contract of ``sluicegate.port.backend``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluicegate.testing.conformance import BACKEND_CHECKS, BackendFactory


@pytest.mark.parametrize("check", BACKEND_CHECKS, ids=lambda check: check.__name__)
def test_backend_conforms(
    check: Callable[[BackendFactory], None], make_backend: BackendFactory
) -> None:
    check(make_backend)
