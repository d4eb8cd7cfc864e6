"""What the processes of a gate, cells and operators' commands may take: numbers with their reasons.

``app.processes``, ``isolation`` and ``gate.control`` use them. The invariant: no process waits for
another one without an end, and none believes how much another one says.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATTENDANT_QUESTIONS_MAX",
    "CELL_CALLS_MAX",
    "CELL_DESCRIPTORS_MAX",
    "CELL_GIVEN_MAX",
    "CELL_QUEUE_BYTES_MAX",
    "CELL_RESTART_DELAY_MAX_S",
    "CELL_RESTART_DELAY_S",
    "CELL_STEADY_S",
    "CELL_STOP_S",
    "CONTROL_CLIENTS_MAX",
    "CONTROL_REPLY_BYTES_MAX",
    "CONTROL_REQUEST_BYTES_MAX",
    "CONTROL_ROWS_MAX",
    "CONTROL_TIMEOUT_S",
    "METRICS_CLIENTS_MAX",
    "METRICS_HEAD_BYTES_MAX",
    "METRICS_TIMEOUT_S",
    "METRIC_SERIES_MAX",
    "PREFLIGHT_TIMEOUT_S",
    "PROCESS_MESSAGE_BYTES_MAX",
    "PROCESS_ROWS_MAX",
    "RESTART_CALM_S",
    "RESTART_DELAY_MAX_S",
    "RESTART_DELAY_MIN_S",
    "SHOWN_SETTINGS_MAX",
    "SHOWN_SETTING_CHARACTERS_MAX",
    "SIGNER_MEMORY_BYTES_MAX",
    "UPGRADE_TIMEOUT_S",
    "WORKERS_MAX",
    "WORKER_ANSWER_TIMEOUT_S",
    "WORKER_GRACE_S",
    "WORKER_START_TIMEOUT_S",
]

# Processes that look after the gate.

ATTENDANT_QUESTIONS_MAX: Final = 256
"""Questions of one of them that the supervisor answers at a time: more than the console has clients
(``CONSOLE_CLIENTS_MAX``), each of whom waits for an answer. One that asks more is ended: what is
not answered yet is kept in the process that must go on."""


# Filters in processes of their own.

CELL_CALLS_MAX: Final = 4096
"""Calls of one cell that wait for an answer (an object's verdict, a name's addresses): as many as
``open_transfers_per_connection_max`` allows a thousand connections."""

CELL_GIVEN_MAX: Final = 16_384
"""Expected connections, factories and held objects that one cell has at a time: a few for each of
some thousand connections. Beyond it the filter is told ``LimitExceeded``."""

CELL_DESCRIPTORS_MAX: Final = 4
"""Descriptors beside one message to or from a cell; an object takes one."""

CELL_QUEUE_BYTES_MAX: Final = 16 << 20
"""Messages that wait for a cell to read them; one that lets more come together has failed. Streams
do not get there: a direction has one chunk on its way at a time."""

CELL_RESTART_DELAY_S: Final = 0.1
"""A cell that ended is replaced after this long, and each time again after twice as long."""

CELL_RESTART_DELAY_MAX_S: Final = 30.0
"""The most between two attempts: a filter that cannot live costs no more than that."""

CELL_STEADY_S: Final = 30.0
"""A cell that worked for so long is taken for sound: the next delay is the first one again."""

CELL_STOP_S: Final = 2.0
"""What a cell may take to stop its filter and to end; then it is killed."""


# Processes.

SIGNER_MEMORY_BYTES_MAX: Final = 1 << 30
"""Address space of the process that signs; it uses a tenth, for code."""

WORKERS_MAX: Final = 64
"""Workers of one gate: beyond it several gates serve a machine better."""

PROCESS_ROWS_MAX: Final = 256
"""Processes of one gate that count and record at the same time: the supervisor, the workers, and
those of earlier versions that still drain."""

PROCESS_MESSAGE_BYTES_MAX: Final = 32 << 20
"""One message between the supervisor and another process: the operator's files, or an answer of
``CONTROL_REPLY_BYTES_MAX``, with room to spare."""

WORKER_START_TIMEOUT_S: Final = 30.0
"""A worker that is not ready after this long is started again: it takes half a second of one core,
and the filters' own imports. A reload waits half as long for it, and then has it replaced."""

WORKER_ANSWER_TIMEOUT_S: Final = 5.0
"""A worker that has not answered the supervisor for this long is left out of the answer, which says
so; a reload that one does not answer is put in force nowhere."""

PREFLIGHT_TIMEOUT_S: Final = 30.0
"""A program that is to take over has this long to read the files and say so."""

UPGRADE_TIMEOUT_S: Final = 60.0
"""A new version that does not serve after this long has failed: it starts all workers anew."""

WORKER_GRACE_S: Final = 5.0
"""A worker that should have ended is killed this much later."""

RESTART_DELAY_MIN_S: Final = 0.25
"""A process that ended soon after its start is started again after this long, and twice as long
each time; one that has worked for ``RESTART_CALM_S`` at once."""

RESTART_DELAY_MAX_S: Final = 30.0
"""The longest of these delays."""

RESTART_CALM_S: Final = 10.0
"""A process that has worked for so long did not fail at its start."""


# Metrics.

METRIC_SERIES_MAX: Final = 512
"""Series of one metric in one process, a policy's rules among them; what is new behind it is
counted together under ``other``. Prometheus and its like suffer from thousands."""

METRICS_CLIENTS_MAX: Final = 8
"""Who may ask for metrics at once; further ones are disconnected. A few collectors ask every some
seconds."""

METRICS_HEAD_BYTES_MAX: Final = 8192
"""The head of a request for metrics: twenty times what Prometheus sends."""

METRICS_TIMEOUT_S: Final = 10.0
"""What a request for metrics may take, from its first byte to the last of the answer: what
Prometheus waits by default."""


# What people are shown of the configuration.

SHOWN_SETTINGS_MAX: Final = 60
"""Settings of one filter or scanner: what is still read; how many more there are is said."""

SHOWN_SETTING_CHARACTERS_MAX: Final = 200
"""Of one setting: two lines; by how much it is longer is said."""

# Control socket.

CONTROL_CLIENTS_MAX: Final = 16
"""Operators' commands that are served at once; more wait for their turn in the backlog."""

CONTROL_REQUEST_BYTES_MAX: Final = 2 << 20
"""One request: names and numbers, or a policy of ``POLICY_EDITED_BYTES_MAX``."""

CONTROL_REPLY_BYTES_MAX: Final = 16 << 20
"""One reply: ``CONTROL_ROWS_MAX`` rows with room to spare."""

CONTROL_ROWS_MAX: Final = 10_000
"""Rows of one reply; making more would hold up traffic for tens of milliseconds."""

CONTROL_TIMEOUT_S: Final = 10.0
"""A command that says nothing for this long is disconnected."""
