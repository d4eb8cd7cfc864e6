"""Contents: every command, the module that it is in, and the line that the list says of it.

``main`` shows the list from this table and loads the module of the one command that was asked for.
The invariant: a line is the first sentence of its command's own help (a test compares them).
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["CONTENTS", "Place"]


class Place(NamedTuple):
    """Where a command is, and what the list of commands says of it."""

    module: str
    """Of this package."""
    name: str
    line: str
    """The first sentence of its help, so that the list is shown without its module."""


CONTENTS: Final = {
    "run": Place("run", "run", "Start the gate, in the foreground, until a signal ends it."),
    "check": Place(
        "check",
        "check",
        "Read all files, load all filters, and say everything that is wrong with them.",
    ),
    "schema": Place(
        "schema",
        "schema",
        "Print the JSON Schema of policy.toml (policy) or sluicegate.toml (config).",
    ),
    "demo": Place(
        "demo",
        "demo",
        "Move files and a form through a gate that holds each, and refuses what must not pass.",
    ),
    "status": Place(
        "status",
        "status",
        "Say how the gate is: what it listens on, what it holds, what went wrong.",
    ),
    "top": Place(
        "top.command",
        "top",
        "Watch a gate live: traffic, sessions, connections, what is held, what was refused.",
    ),
    "sessions": Place(
        "tables",
        "sessions",
        "List the clients that the gate knows, with the filters attached to them.",
    ),
    "connections": Place(
        "tables",
        "connections",
        "List the connections that are open, with the filters in their chains.",
    ),
    "filters": Place(
        "tables",
        "filters",
        "List the installed filters: where they come from, which rules use them, how they are.",
    ),
    "alerts": Place("alerts", "alerts", "Show alerts that were raised, and acknowledge them."),
    "reload": Place(
        "orders", "reload", "Make the gate read its files again, and put them in force, whole."
    ),
    "kill": Place("kill", "kill", "End connections at once, and all connections of sessions."),
    "upgrade": Place(
        "upgrade",
        "upgrade",
        "Let this version of the program take the running gate over, without turning anybody away.",
    ),
    "drain": Place(
        "drain",
        "drain",
        "Take nothing new, wait for what is there, then end the gate; shows how far it is.",
    ),
    "stop": Place("orders", "stop", "Make the gate drain and end, as SIGTERM does."),
    "log": Place("log", "log", "Show, export and verify what the gate recorded."),
    "report": Place(
        "report",
        "report",
        "Sum up a day or a week: clients, sites, refusals by rule, what scanners found, "
        "bytes, times.",
    ),
    "explain": Place(
        "explain",
        "explain",
        "Say what the gate would answer a client, which rule decides, and what those "
        "before it lack.",
    ),
    "why": Place(
        "why",
        "why",
        "Say why a connection or request was allowed, refused or ended, then and by the "
        "policy of now.",
    ),
    "simulate": Place(
        "simulate",
        "simulate",
        "Decide what the log has once more, by another policy, and say what would be different.",
    ),
    "policy": Place(
        "policy",
        "policy",
        "Show the policies that were in force, change the one that is, or go back to an "
        "earlier one.",
    ),
    "learn": Place(
        "learn", "learn", "Learn a policy: see what learns now, and make rules of what has passed."
    ),
    "user": Place("user", "user", "Add, remove, list and verify the users of a gate."),
    "console": Place(
        "console", "console", "Say who may use the console in the browser and its API."
    ),
    "ca": Place(
        "ca", "ca", "Make, show, export and replace the authority that signs where TLS is opened."
    ),
    "new-filter": Place(
        "new_filter",
        "new_filter",
        "Write the filter NAME and its tests, ready to run and to change.",
    ),
    "test-filter": Place(
        "replay_filter",
        "test_filter",
        "Replay a recorded CONVERSATION against a filter, and say where it goes otherwise.",
    ),
}
"""In the order of the list."""
