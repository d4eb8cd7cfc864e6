"""The demonstration's script: which objects, by which way, what must become of them, and the files.

``live`` plays it. The invariant: the configuration is written as an operator would write it, and
every expectation is here.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sluicegate.address import SocketAddress

from .content import LARGE_PATH, clean_content, eicar_zip_content, elf_content, pe_content

__all__ = ["Case", "cases", "configuration", "find_clamd", "policy"]

CLAMD_SOCKETS: Final = ("/run/clamav/clamd.ctl", "/run/clamav/clamd.sock")
"""Where Debian's package and others' let their clamd listen."""

PAGE_AND_PROBLEM: Final = ("403 text/html", "403 application/problem+json")


@dataclass(frozen=True, slots=True)
class Case:
    """One object, and what must become of it."""

    name: str
    way: Literal["ftp", "http", "upload", "https"]
    path: str
    verdict: Literal["released", "refused"]
    content: Callable[[], bytes] | None = None
    """What the server has under its path; None: it has no file for it."""
    replies: tuple[str, ...] = ()
    """What the client must be told, each in its final word."""
    server: str = "tls"
    """Of those inside TLS, which one."""
    host: str = ""
    """What is asked for inside TLS, if not the server."""
    record: Literal["transfer", "connection", "request"] = "transfer"
    """Which record says what became of it."""


_CASES: Final = (
    Case("ftp clean", "ftp", "clean.bin", "released", clean_content),
    Case("ftp pe", "ftp", "setup.exe", "refused", pe_content),
    Case("ftp elf", "ftp", "installer.run", "refused", elf_content),
    Case("ftp empty", "ftp", "empty.txt", "released", bytes),
    Case("http clean", "http", "clean.bin", "released", replies=("200 ",)),
    Case("http pe", "http", "setup.exe", "refused", replies=PAGE_AND_PROBLEM),
    Case("http eicar in zip", "http", "eicar.zip", "refused", eicar_zip_content, PAGE_AND_PROBLEM),
    Case(
        "http upload card number",
        "upload",
        "form",
        "refused",
        replies=("403 application/problem+json",),
    ),
)
_INSIDE_TLS: Final = (
    Case("https inspected clean", "https", "clean.bin", "released", replies=("200 ",)),
    Case("https inspected pe", "https", "setup.exe", "refused", replies=("403 text/html",)),
    Case("https spliced", "https", "setup.exe", "released", None, ("200 ",), "own",
         record="connection"),
    Case("https expired", "https", "empty.txt", "refused", None, ("access denied",), "expired",
         record="connection"),
    Case("https wrong host", "https", "empty.txt", "refused", None, ("access denied",), "other",
         record="connection"),
    Case("https fronted", "https", "empty.txt", "refused", None, ("421 ",), "tls",
         "other.example", "request"),
)  # fmt: skip
_BY_CLAMD: Final = Case(
    "http eicar in zip (clamd)",
    "http",
    "clamd/eicar.zip",
    "refused",
    eicar_zip_content,
    PAGE_AND_PROBLEM,
)
_LARGE: Final = Case("http 1 GiB", "http", LARGE_PATH, "released", replies=("200 ",))


def cases(*, is_quick: bool, has_clamd: bool) -> tuple[Case, ...]:
    """Return what is played: quickly without the largest object, by clamd where one runs."""
    return (
        _CASES + _INSIDE_TLS + ((_BY_CLAMD,) if has_clamd else ()) + (() if is_quick else (_LARGE,))
    )


def find_clamd() -> str:
    """Return the socket of the clamd of this machine; empty when none runs that we may ask."""
    for path in CLAMD_SOCKETS:
        if pathlib.Path(path).is_socket() and os.access(path, os.W_OK):
            return path
    return ""


def configuration(clamd: str, *, has_console: bool = False) -> str:
    """Return ``sluicegate.toml``."""
    scanners = _CLAMD_CONFIGURATION.format(socket=clamd) if clamd else ""
    return _CONFIGURATION + scanners + (_CONSOLE_CONFIGURATION if has_console else "")


def policy(
    ftp: SocketAddress, web: SocketAddress, tls: Mapping[str, SocketAddress], clamd: str
) -> str:
    """Return ``policy.toml``; ``tls`` are the servers inside TLS, by name."""
    first = _CLAMD_RULE.format(port=web.port) if clamd else ""
    own = tls["own"].port
    opened = [one.port for name, one in tls.items() if name != "own"]
    protocols = json.dumps([f"tcp:{port}" for port in opened])
    inside = _TLS_RULES.format(own=own, ports=opened, protocols=protocols)
    return _POLICY.format(server=ftp, port=web.port, first=first) + inside


_CONSOLE_CONFIGURATION: Final = """
[log]
store = "sqlite"

[console]
listen = "127.0.0.1:0"
"""

_CONFIGURATION: Final = """\
[[listener]]
name = "ftp"
address = "127.0.0.1:0"

[[listener]]
name = "web"
address = "127.0.0.1:0"
entry = "proxy"
protocols = ["http", "http-connect"]

[ca]

[tls]
authorities = ["servers.pem"]

[[scanner]]
name = "yara"
kind = "yara"
processes = 1

[[filter]]
name = "ftp_access"

[[filter]]
name = "exe_block"

[[filter]]
name = "antivirus"
[filter.settings]
scanners = ["yara"]

[[filter]]
name = "data_loss"
"""

_CLAMD_CONFIGURATION: Final = """
[[scanner]]
name = "clamd"
kind = "clamd"
socket = "{socket}"
trust_limits = true

[[filter]]
name = "clamav"
use = "antivirus"
[filter.settings]
scanners = ["clamd"]
"""

_POLICY: Final = """\
[[publish]]
name = "files"
listener = "ftp"
server = "{server}"
clients = ["127.0.0.0/8"]
filters = ["ftp_access", "exe_block"]
{first}
[[rule]]
name = "large"
action = "allow"
listener = "web"
clients = ["127.0.0.0/8"]
to = ["127.0.0.1"]
protocols = ["tcp:{port}"]
paths = ["/large/*"]
filters = ["exe_block"]

[[rule]]
name = "web"
action = "allow"
listener = "web"
clients = ["127.0.0.0/8"]
to = ["127.0.0.1"]
protocols = ["tcp:{port}"]
filters = ["exe_block", "antivirus", "data_loss"]
"""

_TLS_RULES: Final = """
[[rule]]
name = "passed-on"
action = "allow"
listener = "web"
clients = ["127.0.0.0/8"]
to = ["127.0.0.1"]
protocols = ["tcp:{own}"]
tls = {{ ports = [{own}], without_sni = "allow" }}

[[rule]]
name = "opened"
action = "allow"
listener = "web"
clients = ["127.0.0.0/8"]
to = ["127.0.0.1"]
protocols = {protocols}
filters = ["exe_block", "antivirus", "data_loss"]
tls = {{ mode = "inspect", ports = {ports}, without_sni = "allow" }}
"""

_CLAMD_RULE: Final = """
[[rule]]
name = "clamd"
action = "allow"
listener = "web"
clients = ["127.0.0.0/8"]
to = ["127.0.0.1"]
protocols = ["tcp:{port}"]
paths = ["/clamd/*"]
filters = ["clamav"]
"""
