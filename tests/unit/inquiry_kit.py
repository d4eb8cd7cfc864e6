"""Files of a gate and its log, for tests of the commands that ask about both."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from click.testing import CliRunner, Result

from sluicegate.audit import DecisionRecord
from sluicegate.audit.lines import encode_record
from sluicegate.audit.records import Record
from sluicegate.cli.main import cli

MAIN = """\
[[listener]]
name = "proxy"
address = "127.0.0.1:1080"
entry = "proxy"
authenticate = "optional"

[[listener]]
name = "ftp"
address = "127.0.0.1:2121"

[[filter]]
name = "ftp_access"

[[filter]]
name = "exe_block"
"""

POLICY = """\
[[publish]]
name = "ftp"
listener = "ftp"
server = "192.0.2.10:21"
clients = ["10.0.0.0/8"]
filters = ["ftp_access"]

[[rule]]
name = "no-social"
action = "deny"
clients = ["10.0.0.0/8"]
to = ["*.social.example.org"]

[[rule]]
name = "web"
action = "allow"
clients = ["10.0.0.0/8"]
to = ["*"]
protocols = ["@https"]
"""

USERS = """\
[[user]]
name = "bob"
groups = ["staff"]
password_hash = "$argon2id$v=19$m=7168,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$\
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""

NOON = 1_796_126_400.0
"""2026-12-01 12:00 UTC, a Tuesday."""


def rule(name: str, to: str, **keys: str) -> str:
    """Return a ``[[rule]]`` that allows the clients of the tests HTTPS."""
    table = {
        "action": '"allow"', "clients": '["10.0.0.0/8"]', "to": f'["{to}"]',
        "protocols": '["tcp:443"]', **keys,
    }  # fmt: skip
    lines = (f"{key} = {value}\n" for key, value in table.items() if value)
    return f'[[rule]]\nname = "{name}"\n' + "".join(lines)


class Folder:
    """A folder with a configuration, a policy, and a log."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.config = path / "sluicegate.toml"
        self.log = path / "state" / "records.jsonl"
        self.config.write_text(MAIN)
        self.write_policy(POLICY)
        users = path / "users.toml"
        users.write_text(USERS)
        os.chmod(users, 0o600)
        self.log.parent.mkdir()

    def write_policy(self, text: str, name: str = "policy.toml") -> pathlib.Path:
        """Write a policy."""
        path = self.path / name
        path.write_text(text)
        return path

    def write_log(self, records: Iterable[Record], name: str = "records.jsonl") -> pathlib.Path:
        """Write a log as a gate does."""
        path = self.log.with_name(name)
        path.write_bytes(b"".join(map(encode_record, records)))
        return path

    def invoke(self, command: str, *arguments: object) -> Result:
        """Run a command on these files."""
        texts = [str(argument) for argument in arguments]
        return CliRunner().invoke(cli, [*command.split(), "-c", str(self.config), *texts])

    def told(self, command: str, *arguments: object) -> dict[str, Any]:
        """Run a command, and return the JSON that it prints."""
        result = self.invoke(command, *arguments, "--json")
        assert result.stdout, result.stderr
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    def policy_hash(self) -> str:
        """Return the hash of the policy in the files."""
        policy: str = self.told("check")["policy"]
        return policy


class Decisions:
    """Makes decision records, each with a connection of its own."""

    def __init__(self, policy: str = "0" * 64) -> None:
        self.policy = policy
        self.count = 0

    def make(self, target: str = "", verdict: str = "allowed", **fields: Any) -> DecisionRecord:
        """Make one; what is not said is plain."""
        self.count += 1
        known: dict[str, Any] = {
            "time": NOON + self.count,
            "connection": f"b-0-{self.count}",
            "session": "",
            "client": f"10.1.2.3:{40000 + self.count}",
            "listener": "proxy",
            "verdict": verdict,
            "reason": "allowed-by-rule" if verdict == "allowed" else "no-rule",
            "policy": self.policy,
            "target": target,
            "rule": "web" if verdict == "allowed" else "",
            "entry": "socks5",
        }
        return DecisionRecord(**{**known, **fields})
