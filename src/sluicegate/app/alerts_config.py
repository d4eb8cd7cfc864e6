"""``[alerts]`` and ``[[alert]]`` of ``sluicegate.toml``: what operators are told of, and how.

``config`` has both. The invariant: every alert in force is complete, counts by a field that its
records have, and names actions that there are.
"""

from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
import pydantic

from sluicegate.alert_limits import (
    ALERT_ACTIONS_MAX,
    ALERT_COUNT_MAX,
    ALERT_SECONDS_MAX,
    ALERTS_MAX,
)
from sluicegate.audit.alerts import CONDITIONS, LOG_ACTION, AlertRule, RaiseAgain, Severity
from sluicegate.audit.alerts.action import (
    ActionSettings,
    CommandSettings,
    MailSettings,
    MailTls,
    WebhookSettings,
)
from sluicegate.audit.alerts.kinds import kinds_chosen
from sluicegate.audit.alerts.predefined import PREDEFINED
from sluicegate.audit.alerts.subject import records_query
from sluicegate.audit.search import FieldType, QueryRefused, parse_query
from sluicegate.audit.search.fields import find_field
from sluicegate.documents import Document, Findings, Model, Name, Wrong
from sluicegate.documents.suggestion import suggest
from sluicegate.names import Authority, HostRefused, parse_authority

__all__ = ["AlertSettings", "AlertTable", "AlertsTable", "to_alerts"]

_Timeout = Annotated[float, pydantic.Field(ge=1, le=600)]
_ADDRESS = Annotated[
    str,
    pydantic.StringConstraints(
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}$"
    ),
]


def _parse_url(value: object) -> str:
    """Check the address of a webhook."""
    text = str(value)
    scheme, separator, rest = text.partition("://")
    if scheme not in _PORTS or not separator or not text.isascii() or not text.isprintable():
        raise Wrong(f"{text!r} is no address of the web", _URL_CURE)
    if " " in text or "#" in text:
        raise Wrong(f"{text!r} has what no request can have", _URL_CURE)
    authority = rest.partition("/")[0].partition("?")[0]
    if "@" in authority:
        raise Wrong("names a user: secrets do not belong there", 'sign what is sent: "key_file"')
    try:
        parse_authority(authority, default_port=_PORTS[scheme])
    except HostRefused as refused:
        raise Wrong(f"{text!r}: {refused.hint}", _URL_CURE) from None
    return text


_URL_CURE: Final = '"https://HOST/PATH"'
_PORTS: Final = {"http": 80, "https": 443}


def _parse_query(value: object) -> str:
    """Check which records count."""
    text = str(value)
    if not text.strip():
        raise Wrong("is empty: every record would count", "kind:transfer verdict:refused")
    try:
        parse_query(records_query(text, "", "", 0.0, 0.0), 0.0)
        parse_query(text, 0.0)
    except QueryRefused as refused:
        raise Wrong(refused.cause, refused.cure) from None
    return text


def _parse_condition(value: object) -> str:
    """Check which condition of the gate an alert is about."""
    text = str(value)
    if text not in CONDITIONS:
        raise Wrong(f"{text!r} is no condition of a gate", suggest(text, sorted(CONDITIONS)))
    return text


def _parse_by(value: object) -> str:
    """Check by which field records are counted apart."""
    text = str(value)
    field = find_field(text)
    if field is None:
        raise Wrong(f"no record has a field {text!r}", "client, host, rule, user, process")
    if field.type not in _COUNTED:
        raise Wrong(f"{text} has too many values to count by", "client, host, rule, user, process")
    return text


_COUNTED: Final = frozenset({FieldType.TEXT, FieldType.ADDRESS, FieldType.NUMBER})


class CommandTable(Model):
    """``command`` of one ``[[alerts.action]]``."""

    run: tuple[str, ...] = pydantic.Field(
        min_length=1, max_length=64, examples=[["/usr/local/bin/page", "--team", "net"]]
    )
    """The program, with its whole path, and its arguments; no shell reads them."""
    timeout_s: _Timeout = 30.0


class WebhookTable(Model):
    """``webhook`` of one ``[[alerts.action]]``."""

    url: Annotated[str, pydantic.PlainValidator(_parse_url, json_schema_input_type=str)] = (
        pydantic.Field(examples=["https://chat.example.org/hooks/gate"])
    )
    key_file: str = ""
    """A private file whose first line signs what is sent; empty: nothing is signed."""
    ca: str = ""
    """A file of certificates that the other side is verified with; empty: the system's."""
    timeout_s: _Timeout = 30.0


class MailTable(Model):
    """``mail`` of one ``[[alerts.action]]``."""

    server: str = pydantic.Field(examples=["mail.example.org:587"])
    sender: _ADDRESS = pydantic.Field(alias="from", examples=["gate@example.org"])
    to: tuple[_ADDRESS, ...] = pydantic.Field(
        min_length=1, max_length=32, examples=[["operators@example.org"]]
    )
    tls: MailTls = "starttls"
    """How the connection is kept secret: after a greeting, from its first byte, or not at all."""
    user: str = ""
    password_file: str = ""
    """A private file with the password in its first line."""
    ca: str = ""
    """A file of certificates that the server is verified with; empty: the system's."""
    timeout_s: _Timeout = 30.0


class ActionTable(Model):
    """One ``[[alerts.action]]``: a name, and one of the three."""

    name: Name = pydantic.Field(examples=["operators"])
    command: CommandTable | None = None
    webhook: WebhookTable | None = None
    mail: MailTable | None = None


class AlertsTable(Model):
    """``[alerts]``."""

    enabled: bool = True
    """Whether there are alerts at all."""
    predefined: bool = True
    """Whether the predefined ones are in force that no ``[[alert]]`` names."""
    actions: tuple[str, ...] = (LOG_ACTION,)
    """What is done for an alert that says nothing else."""
    action: tuple[ActionTable, ...] = pydantic.Field(default=(), max_length=ALERT_ACTIONS_MAX)


class AlertTable(Model):
    """One ``[[alert]]``; one with the name of a predefined alert changes what it says of that."""

    name: Name = pydantic.Field(examples=["downloads-refused"])
    enabled: bool = True
    query: Annotated[str, pydantic.PlainValidator(_parse_query, json_schema_input_type=str)] = (
        pydantic.Field(default="", examples=["kind:transfer verdict:refused"], max_length=2048)
    )
    """Which records count."""
    condition: Annotated[
        str, pydantic.PlainValidator(_parse_condition, json_schema_input_type=str)
    ] = ""
    """A condition of the gate, in place of a query."""
    count: int = pydantic.Field(default=1, ge=1, le=ALERT_COUNT_MAX)
    """How many records it takes."""
    seconds: float = pydantic.Field(default=0.0, ge=0, le=ALERT_SECONDS_MAX)
    """Within how many seconds they must come; 0: however long it takes."""
    by: Annotated[str, pydantic.PlainValidator(_parse_by, json_schema_input_type=str)] = ""
    """The field whose values are counted apart; empty: all are counted together."""
    again: RaiseAgain = "after-acknowledged"
    """When it is raised once more."""
    minutes: float = pydantic.Field(default=60.0, gt=0, le=60 * 24 * 31)
    """For ``again = "after-minutes"``."""
    severity: Severity = "warning"
    category: str = pydantic.Field(default="", max_length=64)
    message: str = pydantic.Field(default="", max_length=200)
    """What it means, in a sentence."""
    actions: tuple[str, ...] = ()
    """What is done; empty: ``actions`` of ``[alerts]``."""


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """The alerts of a gate."""

    rules: tuple[AlertRule, ...] = ()
    """None: nobody is told of anything, and nothing looks for it."""
    actions: tuple[ActionSettings, ...] = ()
    is_asked_for: bool = False
    """Whether the operator's file speaks of alerts at all."""


def to_alerts(
    table: AlertsTable,
    alerts: tuple[AlertTable, ...],
    folder: pathlib.Path,
    document: Document,
    findings: Findings,
) -> AlertSettings:
    """Return the alerts in force; paths are relative to the folder of the file."""
    actions = _to_actions(table, folder, document, findings)
    known = {LOG_ACTION, *(one.name for one in actions)}
    _check_actions(table.actions, known, document, ("alerts", "actions"), findings)
    rules = {
        name: msgspec.structs.replace(rule, actions=table.actions)
        for name, rule in PREDEFINED.items()
        if table.predefined
    }
    named: set[str] = set()
    for index, alert in enumerate(alerts):
        place = ("alert", index)
        if alert.name in named:
            cause = f"the name {alert.name!r} is taken by another alert"
            findings.refuse(document.where((*place, "name")), cause)
        named.add(alert.name)
        _check_actions(alert.actions, known, document, (*place, "actions"), findings)
        rule = _to_rule(alert, table, document, index, findings)
        rules.pop(alert.name, None)
        if rule is not None and alert.enabled:
            rules[alert.name] = rule
    if len(rules) > ALERTS_MAX:
        findings.refuse(
            document.where(("alert",)),
            f"there are {len(rules)} alerts, with the predefined ones; {ALERTS_MAX} may be",
        )
    in_force = tuple(rules.values()) if table.enabled else ()
    is_asked_for = not document.tree.keys().isdisjoint({"alerts", "alert"})
    return AlertSettings(in_force, actions, is_asked_for)


def _to_rule(
    alert: AlertTable,
    table: AlertsTable,
    document: Document,
    index: int,
    findings: Findings,
) -> AlertRule | None:
    """Return one alert: what its table says, and of a predefined one the rest."""
    predefined = PREDEFINED.get(alert.name)
    named = alert.model_fields_set - {"enabled", "name"}
    given: dict[str, Any] = alert.model_dump(include=named)
    given["actions"] = alert.actions or table.actions
    if predefined is not None:
        given = {**msgspec.structs.asdict(predefined), **given}
    else:
        given = {"name": alert.name, "minutes": alert.minutes, **given}
    rule = msgspec.convert(given, AlertRule)
    place = document.where(("alert", index))
    if bool(rule.query) is bool(rule.condition):
        cause = "has a query and a condition" if rule.query else "is about nothing"
        findings.refuse(place, cause, 'give it a "query", or a "condition"')
        return None
    by = find_field(rule.by) if rule.by else None
    if by is not None and rule.query:
        kinds = kinds_chosen(parse_query(rule.query, 0.0))
        if not kinds & by.kinds:
            cause = f"no record that the query chooses has a field {rule.by!r}"
            findings.refuse(place, cause, f"kinds that have it: {', '.join(sorted(by.kinds))}")
            return None
    if rule.condition and rule.by:
        findings.refuse(place, "a condition is no record: it has no fields", 'remove "by"')
        return None
    return rule


def _to_actions(
    table: AlertsTable, folder: pathlib.Path, document: Document, findings: Findings
) -> tuple[ActionSettings, ...]:
    found: dict[str, ActionSettings] = {}
    for index, action in enumerate(table.action):
        place = ("alerts", "action", index)
        if action.name in found or action.name == LOG_ACTION:
            cause = f"the name {action.name!r} is taken"
            findings.refuse(document.where((*place, "name")), cause)
            continue
        what = _to_what(action, folder, document, index, findings)
        if what is not None:
            found[action.name] = ActionSettings(name=action.name, what=what)
    return tuple(found.values())


def _to_what(
    action: ActionTable, folder: pathlib.Path, document: Document, index: int, findings: Findings
) -> CommandSettings | WebhookSettings | MailSettings | None:
    place = ("alerts", "action", index)
    kinds = [one for one in _KINDS if getattr(action, one) is not None]
    if len(kinds) != 1:
        cause = f"does {' and '.join(kinds)}" if kinds else "does nothing"
        cure = 'give it one of "command", "webhook" and "mail"'
        findings.refuse(document.where(place), cause, cure)
        return None
    if action.command is not None:
        command = action.command
        if not command.run[0].startswith("/") or "\0" in "".join(command.run):
            cure = 'run = ["/usr/local/bin/page", "…"]'
            where = document.where((*place, "command", "run"))
            findings.refuse(where, f"{command.run[0]!r} is no whole path of a program", cure)
            return None
        return CommandSettings(run=command.run, timeout_s=command.timeout_s)
    if action.webhook is not None:
        webhook = action.webhook
        return WebhookSettings(
            url=webhook.url,
            key_file=_path(folder, webhook.key_file),
            ca=_path(folder, webhook.ca),
            timeout_s=webhook.timeout_s,
        )
    assert action.mail is not None, "it is one of three"
    return _to_mail(action.mail, folder, document, index, findings)


_KINDS: Final = ("command", "webhook", "mail")


def _to_mail(
    mail: MailTable, folder: pathlib.Path, document: Document, index: int, findings: Findings
) -> MailSettings | None:
    place = ("alerts", "action", index, "mail")
    try:
        server: Authority = parse_authority(mail.server, default_port=_MAIL_PORTS[mail.tls])
    except HostRefused as refused:
        findings.refuse(document.where((*place, "server")), f"{mail.server!r}: {refused.hint}")
        return None
    if bool(mail.user) is not bool(mail.password_file):
        findings.refuse(document.where(place), "is half of a login", '"user" and "password_file"')
        return None
    if mail.user and mail.tls == "none":
        cause = "the password could be read on the way"
        findings.refuse(document.where((*place, "tls")), cause, 'tls = "starttls", or "tls"')
        return None
    return MailSettings(
        host=server.host.text,
        port=server.port or _MAIL_PORTS[mail.tls],
        sender=mail.sender,
        to=mail.to,
        tls=mail.tls,
        user=mail.user,
        password_file=_path(folder, mail.password_file),
        ca=_path(folder, mail.ca),
        timeout_s=mail.timeout_s,
    )


_MAIL_PORTS: Final[dict[Literal["starttls", "tls", "none"], int]] = {
    "starttls": 587,
    "tls": 465,
    "none": 25,
}
"""RFC 6409 and RFC 8314; between mail servers it is 25."""


def _path(folder: pathlib.Path, path: str) -> str:
    return os.fspath(folder / path) if path else ""


def _check_actions(
    wanted: tuple[str, ...],
    known: set[str],
    document: Document,
    place: tuple[str | int, ...],
    findings: Findings,
) -> None:
    for name in wanted:
        if name not in known:
            cause = f"there is no action {name!r}"
            findings.refuse(document.where(place), cause, suggest(name, sorted(known)))
