"""What browsers and programs may ask of the console: numbers with their reasons.

``console`` uses them. The invariant: nobody who asks, logged in or not, makes the console keep or
compute more than these allow.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CONSOLE_ANSWER_TIMEOUT_S",
    "CONSOLE_BODY_BYTES_MAX",
    "CONSOLE_BUCKETS_MAX",
    "CONSOLE_CLIENTS_MAX",
    "CONSOLE_KEEP_ALIVE_S",
    "CONSOLE_MEMORY_BYTES_MAX",
    "CONSOLE_ORDER_TIMEOUT_S",
    "CONSOLE_PAGE_ROWS",
    "CONSOLE_QUESTIONS_MAX",
    "CONSOLE_SAMPLES_MAX",
    "CONSOLE_SAMPLE_S",
    "CONSOLE_SEARCH_S",
    "CONSOLE_SESSIONS_MAX",
    "CONSOLE_STREAMS_PER_SESSION_MAX",
    "FIRST_LINK_S",
    "LOGINS_PER_MINUTE",
    "LOGIN_BURST",
    "OIDC_ANSWER_BYTES_MAX",
    "OIDC_ATTEMPTS_MAX",
    "OIDC_ATTEMPT_S",
    "OIDC_TIMEOUT_S",
    "REQUESTS_PER_SECOND",
    "REQUEST_BURST",
    "SESSION_ABSOLUTE_S",
    "SESSION_IDLE_S",
    "STEP_UP_S",
    "TICKET_GRACE_S",
    "TOP_INTERVAL_S",
    "TOP_LOG_BYTES",
    "TOP_REFUSALS_MAX",
    "TOP_ROWS_MAX",
    "TOP_SAMPLES_MAX",
]

SESSION_IDLE_S: Final = 30 * 60.0
"""A session that asks nothing for so long is over; live updates are no questions of a person's."""

SESSION_ABSOLUTE_S: Final = 12 * 3600.0
"""A session is over after so long, whatever it does: a working day."""

STEP_UP_S: Final = 5 * 60.0
"""How long ago the password may have been given for what needs it again."""

TICKET_GRACE_S: Final = 10.0
"""How much longer the gate takes a password for given than the console does, so that who was not
asked again is not refused."""

FIRST_LINK_S: Final = 15 * 60.0
"""How long the link lets in that is printed at a start without users: time to find a browser."""

OIDC_ATTEMPT_S: Final = 600.0
"""How long somebody may take at the provider: to find the telephone with the second factor."""

OIDC_ATTEMPTS_MAX: Final = 1_000
"""People who are at the provider at a time; beyond it, those who left first begin again."""

OIDC_TIMEOUT_S: Final = 10.0
"""How long a provider may take for an answer."""

OIDC_ANSWER_BYTES_MAX: Final = 1 << 20
"""An answer of a provider: its keys are the longest, a few KiB."""

CONSOLE_SESSIONS_MAX: Final = 1_000
"""Sessions at a time; with one more, the one that has asked nothing for the longest time is over.
"""

CONSOLE_STREAMS_PER_SESSION_MAX: Final = 8
"""Pages of one session that are updated live: as many windows as people look at."""

CONSOLE_CLIENTS_MAX: Final = 200
"""Connections to the console; more are told to come back."""

CONSOLE_KEEP_ALIVE_S: Final = 15
"""A connection of a browser that asks nothing is closed after so many seconds."""

CONSOLE_BODY_BYTES_MAX: Final = 2 << 20
"""What one request may send: a policy is the longest text that anybody sends."""

CONSOLE_MEMORY_BYTES_MAX: Final = 2 << 30
"""Data of the console's process: pages of the store, and sixty-four MiB for every password."""

LOGINS_PER_MINUTE: Final = 6.0
"""Passwords that one address may try, and that may be tried for one user, after a burst."""

LOGIN_BURST: Final = 5
"""Passwords that may be tried at once: people mistype."""

REQUESTS_PER_SECOND: Final = 20.0
"""Requests of one address, after a burst."""

REQUEST_BURST: Final = 100
"""Requests of one address at once: a page and what belongs to it, in several windows."""

CONSOLE_BUCKETS_MAX: Final = 10_000
"""Addresses and names whose requests are counted; beyond it, those counted first are forgotten."""

CONSOLE_QUESTIONS_MAX: Final = 32
"""Questions to the store that wait at a time; more are refused with the advice to ask again."""

CONSOLE_ANSWER_TIMEOUT_S: Final = 15.0
"""How long the console waits for the supervisor, which waits five seconds for its workers."""

CONSOLE_ORDER_TIMEOUT_S: Final = 60.0
"""How long it waits for a policy to come into force, or to be tried: every worker may take its
time, and a trial has ``POLICY_TRIAL_S`` and its grace."""

CONSOLE_SEARCH_S: Final = 2.0
"""How long one search of the log may take; then the page shows what was found, and goes on."""

CONSOLE_PAGE_ROWS: Final = 50
"""Rows of one page of a list: a page stays small, and is read at a glance."""

CONSOLE_SAMPLE_S: Final = 2.0
"""How often the gate is asked how it is, for live pages."""

CONSOLE_SAMPLES_MAX: Final = 150
"""Samples that live plots show: five minutes."""

TOP_INTERVAL_S: Final = 2.0
"""How often ``sluicegate top`` asks the gate: six questions each time."""

TOP_ROWS_MAX: Final = 500
"""Rows of a table that it draws; beyond them a filter helps more than the keys of a cursor."""

TOP_SAMPLES_MAX: Final = 240
"""Moments that its lines show: eight minutes, and more columns than a wide screen has for one."""

TOP_REFUSALS_MAX: Final = 500
"""Refusals that it remembers."""

TOP_LOG_BYTES: Final = 1 << 20
"""How much of the end of the log it reads for them at its start: some thousand records."""
