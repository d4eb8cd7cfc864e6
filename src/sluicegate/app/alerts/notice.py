"""Notice: what somebody is told of a raised alert, as JSON and as text.

``deliveries`` keeps them until they are told. The invariant: what a client may have written is a
value in JSON, or a line of text without control characters; it never is a header, a name of a
variable or an argument.
"""

from __future__ import annotations

import datetime as dt
import socket
from typing import Final, Literal

import msgspec

from sluicegate.audit.alerts import Raising, Severity

__all__ = ["Notice"]


class Notice(msgspec.Struct, kw_only=True, frozen=True):
    """One raising, as it was when it was raised."""

    event: Literal["raised", "raised-again"]
    gate: str
    """The name of the machine."""
    alert: str
    raising: str
    severity: Severity
    category: str
    message: str
    about: str
    client: str
    count: int
    """How many events there were, since it was raised first."""
    times: int
    """How often it was raised since it was acknowledged last."""
    first: float
    """When the first event was that counted, in seconds since the Unix epoch."""
    raised: float
    """When it was raised, in seconds since the Unix epoch."""
    query: str
    facts: dict[str, str | int]

    @classmethod
    def of(cls, raising: Raising, event: Literal["raised", "raised-again"]) -> Notice:
        """Make one of a raising as it is now."""
        return cls(
            event=event,
            gate=socket.gethostname(),
            alert=raising.alert,
            raising=raising.raising,
            severity=raising.severity,
            category=raising.category,
            message=raising.message,
            about=raising.about,
            client=raising.client,
            count=raising.count,
            times=raising.times,
            first=raising.first,
            raised=raising.last,
            query=raising.query,
            facts=dict(raising.facts),
        )

    @property
    def identifier(self) -> str:
        """Tells it from every other, also when it is delivered twice."""
        return f"{self.raising}.{self.times}"

    @property
    def subject(self) -> str:
        """One line."""
        again = f" (for the {self.times}th time)" if self.times > _FEW else ""
        again = again or (" (again)" if self.event == "raised-again" else "")
        about = f": {self.about}" if self.about else ""
        return clean_line(f"[{self.gate}] {self.severity}: {self.alert}{about}{again}")

    def to_json(self) -> bytes:
        """Return it as JSON, without a line end."""
        return msgspec.json.encode({"version": 1, **msgspec.structs.asdict(self)})

    def to_text(self) -> str:
        """Return it as lines for people."""
        since, until = _moment(self.first), _moment(self.raised)
        rows = [
            ("alert", self.alert),
            ("severity", self.severity),
            ("category", self.category),
            ("about", self.about),
            ("client", self.client),
            ("events", f"{self.count}, from {since} to {until}"),
            *((name, str(value)) for name, value in self.facts.items()),
            ("raising", f"{self.raising}, raised {self.times} times"),
        ]
        lines = [clean_line(self.message), ""]
        lines += [f"{name + ':':<12} {clean_line(value)}" for name, value in rows if value]
        lines += ["", f"sluicegate alerts show {self.raising}"]
        if self.query:
            lines.append(
                f"sluicegate log '{clean_line(self.query)}'" if "'" not in self.query else ""
            )
        lines.append(f"sluicegate alerts ack {self.raising}")
        return "\n".join(lines) + "\n"

    def to_environment(self) -> dict[str, str]:
        """Return it as variables for a program."""
        found = msgspec.structs.asdict(self)
        del found["facts"]  # of any length: they are in the JSON
        named = {f"SLUICEGATE_ALERT_{name.upper()}": str(value) for name, value in found.items()}
        named["SLUICEGATE_ALERT_NAME"] = named.pop("SLUICEGATE_ALERT_ALERT")
        return {name: clean_line(value) for name, value in named.items()}


_FEW: Final = 2


def clean_line(text: str) -> str:
    """Return a text as one line: what is not printable is a question mark."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _moment(time: float) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
