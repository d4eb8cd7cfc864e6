"""Settings of actions: whom an alert tells, and how; as they pass to the process that does it.

``app.alerts_config`` makes them. The invariant: secrets are not in them but the paths of their
files: the process that needs one reads it, each time.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = ["ActionSettings", "CommandSettings", "MailSettings", "MailTls", "WebhookSettings"]

MailTls: TypeAlias = Literal["starttls", "tls", "none"]


class CommandSettings(msgspec.Struct, frozen=True, kw_only=True, tag="command"):
    """A program to be run."""

    run: tuple[str, ...]
    """The program, with a whole path, and its arguments."""
    timeout_s: float = 30.0


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True, tag="webhook"):
    """An address of the web that is told in JSON."""

    url: str
    key_file: str = ""
    """A private file whose first line signs what is sent; empty: nothing is signed."""
    ca: str = ""
    """A file of certificates that the other side is verified with; empty: the system's."""
    timeout_s: float = 30.0


class MailSettings(msgspec.Struct, frozen=True, kw_only=True, tag="mail"):
    """People who get a mail."""

    host: str
    port: int
    sender: str
    to: tuple[str, ...]
    tls: MailTls = "starttls"
    user: str = ""
    password_file: str = ""
    """A private file with the password in its first line."""
    ca: str = ""
    """A file of certificates that the mail server is verified with; empty: the system's."""
    timeout_s: float = 30.0


class ActionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One action."""

    name: str
    what: CommandSettings | WebhookSettings | MailSettings
