"""``[alerts]`` and ``[[alert]]``: what they become, and what is refused with its cure."""

from __future__ import annotations

import pathlib

import pytest

from sluicegate.app.alerts_config import AlertSettings
from sluicegate.app.config import read_configuration
from sluicegate.app.secret_files import SecretFiles
from sluicegate.audit.alerts import AlertRule
from sluicegate.audit.alerts.action import CommandSettings, MailSettings, WebhookSettings
from sluicegate.audit.alerts.predefined import PREDEFINED
from sluicegate.documents import Findings

FOLDER = pathlib.Path("/etc/sluicegate")
LISTENER = '[[listener]]\nname = "ftp"\naddress = "127.0.0.1:2121"\n'


def read(text: str) -> tuple[AlertSettings | None, list[str]]:
    findings = Findings()
    path = FOLDER / "sluicegate.toml"
    found = read_configuration(path, LISTENER + text, findings, SecretFiles(FOLDER))
    return found.alerts if found else None, [str(one) for one in findings.errors]


def settings(text: str) -> AlertSettings:
    found, errors = read(text)
    assert errors == []
    assert found is not None
    return found


def rule(text: str, name: str) -> AlertRule:
    (found,) = [one for one in settings(text).rules if one.name == name]
    return found


def test_without_a_table_the_predefined_alerts_are_in_force_and_only_say_it() -> None:
    found = settings("")
    assert {one.name for one in found.rules} == set(PREDEFINED)
    assert {one.actions for one in found.rules} == {("log",)}
    assert not found.is_asked_for


def test_alert_says_what_it_says_and_has_defaults_for_the_rest() -> None:
    found = rule(
        '[[alert]]\nname = "mine"\nquery = "kind:request"\ncount = 5\nseconds = 60\n'
        'by = "client"\nagain = "after-minutes"\nseverity = "error"\ncategory = "web"\n',
        "mine",
    )
    assert found == AlertRule(
        name="mine", query="kind:request", count=5, seconds=60.0, by="client",
        again="after-minutes", minutes=60.0, severity="error", category="web",
    )  # fmt: skip


def test_alert_with_a_predefined_name_changes_what_it_says_and_keeps_the_rest() -> None:
    found = rule('[[alert]]\nname = "malware-found"\ncount = 3\nseconds = 60\n', "malware-found")
    predefined = PREDEFINED["malware-found"]
    assert (found.count, found.seconds) == (3, 60.0)
    assert (found.query, found.by, found.minutes) == (
        predefined.query,
        predefined.by,
        predefined.minutes,
    )


def test_predefined_alerts_are_switched_off_one_by_one_or_all() -> None:
    one = settings('[[alert]]\nname = "limit-reached"\nenabled = false\n')
    assert {rule.name for rule in one.rules} == set(PREDEFINED) - {"limit-reached"}
    named = settings('[alerts]\npredefined = false\n[[alert]]\nname = "malware-found"\n')
    assert [rule.name for rule in named.rules] == ["malware-found"]
    assert settings("[alerts]\nenabled = false\n").rules == ()


ACTIONS = [
    (
        'command = { run = ["/usr/bin/page", "x"], timeout_s = 5 }',
        CommandSettings(run=("/usr/bin/page", "x"), timeout_s=5.0),
    ),
    (
        'webhook = { url = "https://hooks.example.org/1?a=b", key_file = "hook.key" }',
        WebhookSettings(
            url="https://hooks.example.org/1?a=b", key_file="/etc/sluicegate/hook.key"
        ),
    ),
    (
        'mail = { server = "mail.example.org", from = "g@example.org", to = ["o@example.org"] }',
        MailSettings(
            host="mail.example.org", port=587, sender="g@example.org", to=("o@example.org",)
        ),
    ),
    (
        (
            'mail = { server = "[2001:db8::1]:2525", from = "g@example.org", to = ["o@example.org"]'
            ', tls = "tls", user = "g", password_file = "p" }'
        ),
        MailSettings(
            host="2001:db8::1", port=2525, sender="g@example.org", to=("o@example.org",),
            tls="tls", user="g", password_file="/etc/sluicegate/p",
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ACTIONS)
def test_actions_are_read(text: str, expected: object) -> None:
    found = settings(f'[alerts]\nactions = ["told"]\n[[alerts.action]]\nname = "told"\n{text}\n')
    assert [one.what for one in found.actions] == [expected]
    assert {one.actions for one in found.rules} == {("told",)}


def action(text: str) -> str:
    return f'[[alerts.action]]\nname = "told"\n{text}\n'


REFUSED = [
    ('[[alert]]\nname = "x"\n', "is about nothing"),
    ('[[alert]]\nname = "x"\nquery = ""\n', "every record would count"),
    ('[[alert]]\nname = "x"\nquery = "knid:request"\n', "no record has a field"),
    (
        '[[alert]]\nname = "x"\nquery = "kind:limit"\ncondition = "scanner-down"\n',
        "has a query and",
    ),
    ('[[alert]]\nname = "x"\ncondition = "scanner"\n', "no condition of a gate"),
    ('[[alert]]\nname = "x"\ncondition = "scanner-down"\nby = "client"\n', "has no fields"),
    ('[[alert]]\nname = "x"\nquery = "kind:limit"\nby = "url"\n', "no record that the query"),
    ('[[alert]]\nname = "x"\nquery = "kind:limit"\nby = "time"\n', "too many values"),
    ('[[alert]]\nname = "x"\nquery = "kind:limit"\nactions = ["mial"]\n', "no action 'mial'"),
    ('[[alert]]\nname = "x"\nquery = "kind:limit"\n' * 2, "is taken by another alert"),
    ('[[alert]]\nname = "x"\nquery = "kind:limit"\ncount = 0\n', "count"),
    (action(""), "does nothing"),
    (action('command = { run = ["page"] }'), "no whole path of a program"),
    (action('webhook = { url = "ftp://x/" }'), "no address of the web"),
    (action('webhook = { url = "https://u:p@x.example/" }'), "secrets do not belong there"),
    (action('webhook = { url = "https://x.example/a b" }'), "what no request can have"),
    (action('webhook = { url = "https://x..example/" }'), "x..example"),
    (action('mail = { server = "m", from = "a@b", to = [] }'), "to"),
    (action('mail = { server = "m", from = "a@b\\r\\nBcc: x@y", to = ["a@b"] }'), "from"),
    (action('mail = { server = "m", from = "a@b", to = ["a@b"], user = "u" }'), "half of a login"),
    (
        action(
            'mail = { server = "m", from = "a@b", to = ["a@b"], user = "u", password_file = "p", '
            'tls = "none" }'
        ),
        "could be read on the way",
    ),
    (action('command = { run = ["/x"] }') * 2, "is taken"),
    ('[[alerts.action]]\nname = "log"\ncommand = { run = ["/x"] }\n', "is taken"),
]


@pytest.mark.parametrize(("text", "cause"), REFUSED)
def test_what_is_wrong_is_refused_with_its_cause(text: str, cause: str) -> None:
    _, errors = read(text)
    assert errors
    assert any(cause in error for error in errors), errors
