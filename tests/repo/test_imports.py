"""What a process or a command loads at its start, and that its collector looks again after that.

Each is started as the gate starts it. What it must not load costs memory in every process and time
at every start, and is code that a confined process has no use for.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import typing
from typing import NamedTuple

import msgspec
import pytest

from sluicegate.app.processes.child import START, Role
from sluicegate.cli.contents import CONTENTS
from sluicegate.collector import PAUSED

SHOW = (
    "import gc, json, sys; "
    "print(json.dumps({'is_collecting': gc.isenabled(), 'modules': sorted(sys.modules)}))"
)

DECIDING = (
    "sluicegate.app.build sluicegate.app.load sluicegate.app.config sluicegate.bundled "
    "sluicegate.filterapi sluicegate.gate.service sluicegate.gate.settings sluicegate.isolation "
    "sluicegate.policy.decision sluicegate.policy.parse sluicegate.policy.rules sluicegate.port "
    "sluicegate.protocols.http2 sluicegate.protocols.websocket sluicegate.scan.clamd "
    "sluicegate.spool sluicegate.testing dns h11 hpack re2 wsproto publicsuffixlist"
)
"""What decides over traffic, and carries it."""
FILES = "pydantic tomllib sluicegate.documents.model"
"""What reads operators' files."""
KEYS = "cryptography OpenSSL sluicegate.tls.authority sluicegate.tls.engine"
"""What holds keys and certificates."""
WEB = "httptools sluicegate.protocols.http1"
PAGES = "jinja2 starlette uvicorn sluicegate.console.server"

PROCESSES: dict[Role, str] = {
    "audit_writer": f"{DECIDING} {FILES} {KEYS} {WEB} {PAGES}",
    "signer": f"{DECIDING} {FILES} {WEB} {PAGES}",
    "store_keeper": f"{DECIDING} {FILES} {WEB} {PAGES} OpenSSL sluicegate.tls.engine",
    "forwarder": f"{DECIDING} {FILES} {WEB} {PAGES} OpenSSL sluicegate.tls.engine",
    "console": f"{DECIDING} {WEB} sluicegate.gate.control",
    "metrics_exporter": f"{DECIDING} {FILES} {KEYS} {PAGES}",
    "alerter": f"{DECIDING} {FILES} {PAGES} OpenSSL sluicegate.tls.engine",
    "worker": f"{PAGES} sluicegate.testing sluicegate.cli",
}
SANDBOXED: dict[str, str] = {
    "sluicegate.app.scanner_process": f"{DECIDING} {FILES} {KEYS} {WEB} {PAGES}",
    "sluicegate.app.cell": f"{PAGES} sluicegate.testing sluicegate.cli",
}
ASKING = f"{DECIDING} {KEYS} {WEB} {PAGES}".replace(" re2", "")
COMMANDS: dict[str, str] = {
    "": f"{DECIDING} {FILES} {KEYS} {WEB} {PAGES} asyncio msgspec importlib.metadata",
    "status": ASKING,
    "reload": ASKING,
    "check": f"{PAGES} dns sluicegate.gate.service sluicegate.names.resolver sluicegate.testing",
    "run": f"{PAGES} sluicegate.app.build sluicegate.gate.service sluicegate.testing",
    "log": f"{ASKING}".replace("cryptography ", ""),
    "new-filter": f"{DECIDING} {FILES} {KEYS} {WEB} {PAGES} asyncio",
}


class Shown(NamedTuple):
    """How a process is when it could begin to work."""

    is_collecting: bool
    modules: list[str]


def run_python(code: str, *arguments: str, inherited: tuple[int, ...] = ()) -> Shown:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        pass_fds=inherited,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    shown = msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, object])
    return Shown(**msgspec.convert(shown, type=dict[str, typing.Any]))


def loaded_against(forbidden: str, modules: list[str]) -> set[str]:
    names = forbidden.split()
    return {one for one in names for module in modules if f"{module}.".startswith(f"{one}.")}


@pytest.mark.parametrize("role", typing.get_args(Role))
def test_process_loads_what_it_uses_and_then_collects(role: Role) -> None:
    ours, theirs = socket.socketpair()
    ours.close()  # it ends at once: its supervisor is gone
    with theirs:
        number = theirs.fileno()
        at_end = f"import atexit; atexit.register(lambda: exec({SHOW!r}))"
        code = f"{at_end}; {START.format(role=role)}"
        shown = run_python(code, role, str(number), role, *sys.path, inherited=(number,))
    assert loaded_against(PROCESSES[role], shown.modules) == set()
    assert shown.is_collecting


@pytest.mark.parametrize("entry", SANDBOXED)
def test_sandboxed_process_loads_what_it_uses_and_then_collects(entry: str) -> None:
    confined = (
        "from sluicegate.sandbox import arrival; import os; "
        f"arrival.confine = lambda *_, **__: (exec({SHOW!r}), sys.stdout.flush(), os._exit(0))"
    )
    code = f"{PAUSED}; import sys; from {entry} import main; {confined}; main()"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = theirs.fileno()
        shown = run_python(code, str(number), str(os.getpid()), "0", "0", inherited=(number,))
    assert loaded_against(SANDBOXED[entry], shown.modules) == set()
    assert shown.is_collecting


@pytest.mark.parametrize("name", COMMANDS)
def test_command_loads_what_it_uses(name: str) -> None:
    arguments = ["sluicegate", *([name] if name else []), "--help"]
    code = (
        f"import atexit; atexit.register(lambda: exec({SHOW!r})); "
        f"import sys; sys.argv = {arguments!r}; "
        "from sluicegate.cli.main import main; main()"
    )
    shown = run_python(code)
    assert loaded_against(COMMANDS[name], shown.modules) == set()
    assert shown.is_collecting is bool(name), "the list of commands is the end of its process"


def test_every_process_and_known_commands_have_their_row() -> None:
    assert set(PROCESSES) == set(typing.get_args(Role))
    assert set(COMMANDS) - {""} <= set(CONTENTS)
