"""The alerts that every gate has: those that its operator would write anyway.

``app.alerts_config`` gives them the operator's wishes. The invariant: what is here is useful with
the action ``log`` alone, and quiet on a gate that works.
"""

from __future__ import annotations

from typing import Final

from .rule import AlertRule

__all__ = ["PREDEFINED"]

_FLOODS: Final = (
    "connects_per_minute,connections_max,half_open_max,requests_per_minute,denied_per_minute,"
    "udp_sessions_max,flood_clients_max"
)

_ALL: Final = (
    AlertRule(
        name="process-died",
        query="kind:process",
        by="process",
        again="after-minutes",
        minutes=10,
        severity="warning",
        category="service",
        message="a process of the gate ended unexpectedly, and was started again",
    ),
    AlertRule(
        name="process-restarts",
        query="kind:process",
        count=3,
        seconds=600,
        by="process",
        again="after-minutes",
        minutes=30,
        severity="error",
        category="service",
        message="a process of the gate ends again and again",
    ),
    AlertRule(
        name="process-missing",
        condition="process-missing",
        severity="error",
        category="service",
        message="a process of the gate is not there, or does not answer",
    ),
    AlertRule(
        name="scanner-down",
        condition="scanner-down",
        severity="error",
        category="content",
        message="a scanner does not work: what it would look at is refused",
    ),
    AlertRule(
        name="objects-not-scanned",
        query="kind:transfer reason:not*scanned*",
        count=3,
        seconds=60,
        again="after-minutes",
        minutes=30,
        severity="error",
        category="content",
        message="objects were not scanned",
    ),
    AlertRule(
        name="policy-not-loaded",
        query="kind:service event:reload-refused",
        again="immediately",
        severity="error",
        category="service",
        message="the files of the gate are wrong: what was in force stays in force",
    ),
    AlertRule(
        name="store-failing",
        condition="store-failing",
        severity="error",
        category="service",
        message="records are not put into the store, and wait in the log until there is no room",
    ),
    AlertRule(
        name="log-unwritable",
        condition="log-unwritable",
        severity="error",
        category="service",
        message="the log cannot be written",
    ),
    AlertRule(
        name="records-lost",
        query="(kind:process records_lost>0) or (kind:limit limit:record_queue_bytes_max)",
        again="after-minutes",
        minutes=30,
        severity="error",
        category="service",
        message="records are missing in the log",
    ),
    AlertRule(
        name="records-missed",
        condition="records-missed",
        again="after-minutes",
        minutes=30,
        severity="warning",
        category="service",
        message="lines of the log went before they were looked at for alerts",
    ),
    AlertRule(
        name="filter-failed",
        query="kind:filter-failure",
        by="filter",
        again="after-minutes",
        minutes=60,
        severity="error",
        category="service",
        message="a filter raised, was late, or answered nonsense",
    ),
    AlertRule(
        name="loop-blocked",
        query="kind:loop-blocked",
        by="filter",
        again="after-minutes",
        minutes=60,
        severity="warning",
        category="service",
        message="every client of a worker waited for one piece of code",
    ),
    AlertRule(
        name="limit-reached",
        query=f"kind:limit -limit:{_FLOODS}",
        by="limit",
        again="after-minutes",
        minutes=60,
        severity="warning",
        category="service",
        message="a limit was reached, and something was refused for it",
    ),
    AlertRule(
        name="client-flood",
        query=f"kind:limit limit:{_FLOODS}",
        by="client",
        again="after-minutes",
        minutes=60,
        severity="warning",
        category="security",
        message="a client reached a flood limit",
    ),
    AlertRule(
        name="malware-found",
        query="kind:transfer verdict:refused reason:malware*",
        by="client",
        again="after-minutes",
        minutes=60,
        severity="error",
        category="security",
        message="malware was found in what a client was to get, or sent",
    ),
    AlertRule(
        name="servers-unverifiable",
        query=(
            "(kind:connection tls_verification:server-*)"
            " or (kind:request (reason:server-certificate-* or ended:server-certificate-*))"
        ),
        count=20,
        seconds=300,
        again="after-minutes",
        minutes=60,
        severity="warning",
        category="security",
        message="certificates of many servers could not be verified",
    ),
    AlertRule(
        name="authority-expires",
        condition="authority-expires",
        severity="warning",
        category="service",
        message="a certificate of the gate ends soon",
    ),
    AlertRule(
        name="spool-nearly-full",
        condition="spool-nearly-full",
        severity="warning",
        category="service",
        message="held objects take most of the room that they may take",
    ),
    AlertRule(
        name="console-login-failures",
        query="kind:operator action:login result:refused",
        count=5,
        seconds=300,
        by="client",
        again="after-minutes",
        minutes=30,
        severity="warning",
        category="security",
        message="somebody tries to log in to the console",
    ),
    AlertRule(
        name="alert-overflow",
        condition="alert-overflow",
        again="after-minutes",
        minutes=60,
        severity="warning",
        category="service",
        message="an alert meets more than is kept apart: some of what it was to tell is in the log",
    ),
)

PREDEFINED: Final = {rule.name: rule for rule in _ALL}
"""By name."""
