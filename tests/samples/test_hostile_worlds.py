"""Every sample where peers reset, dials fail and results come late: no filter may be at fault."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from examples.filters.cache_guard import CacheGuard, CacheGuardSettings
from examples.filters.connector import Connector, ConnectorSettings
from examples.filters.data_monitor import DataMonitor, DataMonitorSettings
from examples.filters.protocol_detector import ProtocolDetector, ProtocolDetectorSettings
from examples.filters.rate_limiter import RateLimiter, RateLimiterSettings
from examples.filters.secret_redactor import SecretRedactor, SecretRedactorSettings
from examples.filters.smtp_subject import SmtpSubject, SmtpSubjectSettings
from examples.filters.tarpit import Tarpit, TarpitSettings
from sluicegate.filterapi import Filter
from sluicegate.testing import FaultPlan
from tests.flows.gate_kit import Gate, play, sends
from tests.samples.sample_kit import plan_with

MAKES: dict[str, Callable[[], Filter]] = {
    "cache_guard": lambda: CacheGuard(CacheGuardSettings()),
    "connector": lambda: partial(Connector, ConnectorSettings(server_announces="DATA PORT ")),
    "data_monitor": lambda: DataMonitor(DataMonitorSettings(patterns={"x": "250"})),
    "protocol_detector": lambda: partial(
        ProtocolDetector, ProtocolDetectorSettings(allow=("smtp",))
    ),
    "rate_limiter": lambda: RateLimiter(RateLimiterSettings(to_server_bytes_per_s=20_000)),
    "secret_redactor": lambda: partial(SecretRedactor, SecretRedactorSettings()),
    "smtp_subject": lambda: SmtpSubject(SmtpSubjectSettings(keywords=("lottery",))),
    "tarpit": lambda: Tarpit(
        TarpitSettings.model_validate({"unwelcome": ["10.1.0.0/16"], "hold_s": 20})
    ),
}
CLIENT_SAYS = (
    b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: lottery\r\n\r\n"
    + b"AKIA some text\r\n" * 500
    + b".\r\nQUIT\r\n"
)
SERVER_SAYS = (
    b"220 smtp\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n"
    b"DATA PORT 50000\r\n250 queued\r\n221 bye\r\n"
)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sample", MAKES)
def test_failures_of_the_world_are_no_failures_of_the_filter(sample, seed):
    async def scenario(gate: Gate) -> None:
        gate.serve(sends(SERVER_SAYS))
        clients = [gate.call(sends(CLIENT_SAYS), name=f"client {n}") for n in range(3)]
        await gate.ended(*clients, within_s=400)
        await gate.idle()

    gate = play(scenario, plan_with(MAKES[sample]()), seed=seed, faults=FaultPlan.hostile())
    assert [failure.cause for failure in gate.failures] == []
