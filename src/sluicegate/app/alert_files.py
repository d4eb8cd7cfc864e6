"""Files that actions of alerts lead to: whether they can be used, said before the first alert.

``load`` asks, so that ``sluicegate check``, a start and a reload say it. The invariant: what was
read is not kept, and no worker reads it: the process that does an action reads it again, each time.
"""

from __future__ import annotations

import os
import pathlib
import ssl
from typing import Any, Final

from sluicegate.audit.alerts.action import ActionSettings, CommandSettings, MailSettings
from sluicegate.documents import Document, Findings
from sluicegate.errors import ConfigError

from .alerts.secret import KEY, PASSWORD, secret_line
from .config import Configuration
from .secret_files import SecretFiles

__all__ = ["check_alert_files"]


def check_alert_files(
    configuration: Configuration, secrets: SecretFiles, findings: Findings
) -> None:
    """Find out whether programs, passwords, keys and certificates of actions can be used.

    Args:
        configuration: Has the actions.
        secrets: Whether somebody else has read files: this is a worker, and has no use for these.
        findings: Where errors and warnings go.
    """
    if secrets.is_given or not configuration.alerts.rules:
        return
    document = configuration.document
    for action in configuration.alerts.actions:
        _check(action, document, _place_of(action.name, document), findings)


def _check(
    action: ActionSettings, document: Document, place: tuple[str | int, ...], findings: Findings
) -> None:
    what = action.what
    if isinstance(what, CommandSettings):
        program = what.run[0]
        if not os.access(program, os.X_OK) or pathlib.Path(program).is_dir():
            where = document.where((*place, "command", "run"))
            findings.warn(where, f"{program} is no program that can be run", _PROGRAM_CURE)
        return
    if isinstance(what, MailSettings):
        place, key, path, holds = (*place, "mail"), "password_file", what.password_file, PASSWORD
    else:
        place, key, path, holds = (*place, "webhook"), "key_file", what.key_file, KEY
    if path:
        try:
            secret_line(path, holds)
        except ConfigError as error:
            cause = f"{error.where}: {error.cause}"
            findings.refuse(document.where((*place, key)), cause, error.cure)
    if what.ca:
        try:
            ssl.create_default_context(cafile=what.ca)
        except OSError as error:
            cause = f"{what.ca}: no certificates can be read: {error.strerror or error}"
            findings.refuse(document.where((*place, "ca")), cause, _CERTIFICATES_CURE)


_PROGRAM_CURE: Final = "its whole path, and chmod +x"
_CERTIFICATES_CURE: Final = "PEM; relative paths begin at the folder of sluicegate.toml"


def _place_of(name: str, document: Document) -> tuple[str | int, ...]:
    """Return where an action is; of several with its name the first is the one in force."""
    tree: dict[str, Any] = document.tree
    names = [one.get("name") for one in tree["alerts"]["action"]]
    return ("alerts", "action", names.index(name))
