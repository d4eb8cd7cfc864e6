"""Files of actions: what cannot be used is said by a check, with its cause and its cure."""

from __future__ import annotations

import pathlib

import pytest

from sluicegate.app.alert_files import check_alert_files
from sluicegate.app.config import read_configuration
from sluicegate.app.secret_files import SecretFiles
from sluicegate.documents import Findings
from tests.pki import authority

LISTENER = '[[listener]]\nname = "ftp"\naddress = "127.0.0.1:2121"\n'
ACTION = '[[alerts.action]]\nname = "told"\n'
MAIL = 'server = "mail.example.org", from = "gate@example.org", to = ["ops@example.org"]'
LOGIN = f'{ACTION}mail = {{ {MAIL}, user = "gate", password_file = "secret" }}\n'
HOOK = f'{ACTION}webhook = {{ url = "https://chat.example.org/", key_file = "secret" }}\n'
TRUST = f'{ACTION}mail = {{ {MAIL}, ca = "ca.pem" }}\n'


def check(
    folder: pathlib.Path, text: str, given: dict[str, str] | None = None
) -> tuple[list[str], list[str]]:
    path = folder / "sluicegate.toml"
    findings, secrets = Findings(), SecretFiles(folder, given)
    configuration = read_configuration(path, LISTENER + text, findings, secrets)
    assert configuration is not None
    assert not findings.errors
    check_alert_files(configuration, secrets, findings)
    return [str(one) for one in findings.errors], [str(one) for one in findings.warnings]


def write(folder: pathlib.Path, name: str, text: str, mode: int = 0o600) -> pathlib.Path:
    path = folder / name
    path.touch(mode)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("action", "key"),
    [(LOGIN, "alerts.action[0].mail.password_file"), (HOOK, "alerts.action[0].webhook.key_file")],
    ids=["mail", "webhook"],
)
def test_secret_that_cannot_be_used_is_refused_where_it_is_named(
    tmp_path: pathlib.Path, action: str, key: str
) -> None:
    def only_error() -> str:
        (error,), warnings = check(tmp_path, action)
        assert not warnings
        assert error.startswith("sluicegate.toml:6: ")
        assert key in error
        return error

    assert "No such file" in only_error()
    path = write(tmp_path, "secret", "\n")
    assert "its first line is empty" in only_error()
    path.write_text("a secret\n")
    assert check(tmp_path, action) == ([], [])
    path.chmod(0o644)
    error = only_error()
    assert "chmod" in error
    assert "a secret" not in error


def test_certificates_that_are_none_are_refused(tmp_path: pathlib.Path) -> None:
    (error,), _ = check(tmp_path, TRUST)
    assert "ca.pem: no certificates can be read: No such file" in error
    path = write(tmp_path, "ca.pem", "nothing of that kind\n", 0o644)
    (error,), _ = check(tmp_path, TRUST)
    assert "ca.pem: no certificates can be read: " in error
    path.write_text(authority().pem)
    assert check(tmp_path, TRUST) == ([], [])


def test_program_that_cannot_be_run_is_a_warning(tmp_path: pathlib.Path) -> None:
    action = f'{ACTION}command = {{ run = ["{tmp_path}/page"] }}\n'
    path = write(tmp_path, "page", "#!/bin/sh\n")
    errors, (warning,) = check(tmp_path, action)
    assert not errors
    assert "page is no program that can be run" in warning
    path.chmod(0o755)
    assert check(tmp_path, action) == ([], [])


def test_second_of_two_actions_is_named_where_it_is(tmp_path: pathlib.Path) -> None:
    first = f'{ACTION.replace("told", "first")}command = {{ run = ["/bin/true"] }}\n'
    (error,), _ = check(tmp_path, first + HOOK)
    assert error.startswith("sluicegate.toml:9: ")


@pytest.mark.parametrize("text", [HOOK, TRUST])
def test_worker_and_a_gate_without_alerts_look_at_no_file(
    tmp_path: pathlib.Path, text: str
) -> None:
    assert check(tmp_path, text, {}) == ([], [])
    assert check(tmp_path, f"[alerts]\nenabled = false\n{text}") == ([], [])
