"""Policies from texts, for tests of the policy language."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping, Sequence

from sluicegate.app.time_zones import find_time_zone
from sluicegate.documents import Findings
from sluicegate.policy import ParsedPolicy, Policy, PolicyText, PolicyTexts, parse_policy

SUFFIXES = frozenset({"com", "co.uk", "example"})

RULE = {
    "name": '"one"',
    "action": '"allow"',
    "clients": '["10.0.0.0/8"]',
    "to": '["a.example.org"]',
    "protocols": '["tcp:443"]',
}


def rule(**keys: str) -> str:
    """Return a ``[[rule]]``; an empty text leaves a key out."""
    table = {**RULE, **keys}
    return "[[rule]]\n" + "".join(f"{key} = {value}\n" for key, value in table.items() if value)


def read(
    text: str,
    *,
    before: Sequence[tuple[str, str]] = (),
    after: Sequence[tuple[str, str]] = (),
    lists: Mapping[str, str] | None = None,
) -> tuple[ParsedPolicy | None, Findings]:
    """Read a policy of several files."""
    findings = Findings()
    texts = PolicyTexts(
        text,
        tuple(PolicyText(*one) for one in before),
        tuple(PolicyText(*one) for one in after),
        lists or {},
    )
    parsed = parse_policy(texts, "policy.toml", findings, SUFFIXES.__contains__, find_time_zone)
    return parsed, findings


def policy(text: str, **files: object) -> Policy:
    """Read a policy that is right."""
    parsed, findings = read(text, **files)  # type: ignore[arg-type]
    assert [str(error) for error in findings.errors] == []
    assert parsed is not None
    return parsed.policy


def errors(text: str, **files: object) -> list[str]:
    """Return what is wrong with a policy."""
    parsed, findings = read(text, **files)  # type: ignore[arg-type]
    assert (parsed is None) == bool(findings.errors)
    return [str(error) for error in findings.errors]


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
