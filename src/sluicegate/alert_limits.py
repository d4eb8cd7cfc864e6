"""What alerts may take: fixed numbers, each with its unit and its reason.

``audit.alerts`` and the process that raises alerts use them. The invariant: however many records
come, and whatever the other side of an action does, memory and threads stay within these.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ALERTS_MAX",
    "ALERT_ACKNOWLEDGED_MAX",
    "ALERT_ACTIONS_MAX",
    "ALERT_ANSWER_BYTES_MAX",
    "ALERT_ANSWER_TIMEOUT_S",
    "ALERT_ATTEMPTS_MAX",
    "ALERT_COUNT_MAX",
    "ALERT_DELIVERIES_MAX",
    "ALERT_END_S",
    "ALERT_KEYS_MAX",
    "ALERT_LOOK_S",
    "ALERT_OPEN_MAX",
    "ALERT_OUTPUT_BYTES_MAX",
    "ALERT_PAUSE_S",
    "ALERT_RAISED_MAX",
    "ALERT_RETRY_MAX_S",
    "ALERT_RETRY_S",
    "ALERT_SAVE_S",
    "ALERT_SECONDS_MAX",
    "ALERT_SLOTS",
    "ALERT_STATUS_S",
    "ALERT_VALUE_CHARACTERS_MAX",
]

ALERTS_MAX: Final = 200
"""Alerts of one gate, the predefined ones among them: each is tried on every record of its kind."""

ALERT_ACTIONS_MAX: Final = 32
"""Actions that the configuration names: people and systems that are told of alerts. Each does one
thing at a time, and one that hangs keeps no other from being tried."""

ALERT_COUNT_MAX: Final = 1_000_000
"""Records that an alert may wait for: a second's or a day's, of a gate under load."""

ALERT_SECONDS_MAX: Final = 86_400
"""Seconds within which they must come: a day."""

ALERT_SLOTS: Final = 60
"""Parts of that time that are counted in: an alert may see records of one part more than it says,
never of one less; and a value takes no more than this, however many records it has."""

ALERT_KEYS_MAX: Final = 1024
"""Values (clients, hosts) that one alert counts apart. Of more, the one that was silent longest is
forgotten: who comes with a new address for each connection must not fill memory."""

ALERT_OPEN_MAX: Final = 1000
"""Raised alerts that wait to be acknowledged; beyond it, the oldest counts as acknowledged by the
gate, and its record says so: more than anybody reads."""

ALERT_ACKNOWLEDGED_MAX: Final = 200
"""Acknowledged ones that are listed still: the log has all of them."""

ALERT_PAUSE_S: Final = 1.0
"""Seconds between two raisings of one alert for one value, also of one that is raised again
immediately: who causes a record for each packet must not cause a mail for each."""

ALERT_RAISED_MAX: Final = 60
"""Raisings of one alert in a minute, for whatever values: of more, one alert tells, and the records
are in the log."""

ALERT_VALUE_CHARACTERS_MAX: Final = 256
"""Of a client's text in an alert: a name of a host; the records have the whole."""

ALERT_DELIVERIES_MAX: Final = 1000
"""Actions that wait for their turn; beyond it, an action fails, and its record says so."""

ALERT_ATTEMPTS_MAX: Final = 5
"""How often an action is tried before it has failed: over some ten minutes, the restart of a mail
server."""

ALERT_RETRY_S: Final = 5.0
"""Seconds before an action is tried again; four times as many each time."""

ALERT_RETRY_MAX_S: Final = 600.0
"""The longest of these pauses, in seconds."""

ALERT_ANSWER_BYTES_MAX: Final = 65_536
"""Bytes of a webhook's answer that are read: only its status counts."""

ALERT_OUTPUT_BYTES_MAX: Final = 4096
"""Bytes of a command's error output that its record may quote."""

ALERT_LOOK_S: Final = 0.25
"""Seconds between looks into the log, but for what is behind: an alert is for people."""

ALERT_STATUS_S: Final = 10.0
"""Seconds between questions how the gate is: spool, scanners, certificates."""

ALERT_SAVE_S: Final = 1.0
"""Seconds between two writings of what is counted: what was not written is read again from the log
after a crash."""

ALERT_ANSWER_TIMEOUT_S: Final = 5.0
"""Seconds that a command waits for the process that raises alerts."""

ALERT_END_S: Final = 5.0
"""Seconds that actions have at the end of a gate; those that are left are done after its next
start."""
