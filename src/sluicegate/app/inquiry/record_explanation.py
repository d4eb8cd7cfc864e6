"""A record explained: what the policy in force says today of what a record tells.

The console's post asks it. The invariant: nothing is looked up and nothing is changed: what the
record does not have is not made up.
"""

from __future__ import annotations

import msgspec

from sluicegate.app.load import Loaded
from sluicegate.audit.query import LogLine

from .explanation import Explanation, explain_asked
from .offline_gate import OfflineGate
from .past import PastDecision, Unanswerable, ask_again

__all__ = ["explain_record"]


def explain_record(line: str, loaded: Loaded) -> Explanation | Unanswerable:
    """Explain a line of the log by the files of a gate.

    Args:
        line: As it stands in the log.
        loaded: What the gate works by.
    """
    raw = line.encode()
    try:
        fields = msgspec.json.decode(raw, type=dict[str, object])
    except msgspec.DecodeError:
        return Unanswerable("it is no record")
    decision = PastDecision.of(LogLine(raw, fields))
    if decision is None:
        return Unanswerable("it is no decision")
    gate = OfflineGate(loaded)
    asked = ask_again(decision, gate)
    if isinstance(asked, Unanswerable):
        return asked
    if asked.host is None and gate.is_proxy(asked.listener):
        return Unanswerable("it asks for no destination, so no rule is asked about one")
    return explain_asked(gate, asked)
