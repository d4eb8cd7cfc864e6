"""How commands ask for a user's password: at a prompt, or from the first line of standard input.

``user`` and ``user_test`` ask. The invariant: a password is never on the command line, where every
process of the machine could read it, and is never printed.
"""

from __future__ import annotations

import os
import sys

import click

from sluicegate.access_limits import (
    PASSWORD_BYTES_MAX,
)
from sluicegate.errors import ConfigError

from .display import printable

__all__ = ["read_password"]


def read_password(name: str, *, is_new: bool) -> bytes:
    """Ask on a terminal; else take the first line of standard input, byte for byte.

    Raises:
        ConfigError: There is no line, or it is longer than any password.
    """
    if sys.stdin.isatty():
        shown = printable(name)
        asked = f"{'New password' if is_new else 'Password'} for {shown}"
        typed: str = click.prompt(asked, hide_input=True, confirmation_prompt=is_new, err=True)
        return os.fsencode(typed)
    line = sys.stdin.buffer.readline(PASSWORD_BYTES_MAX + 2)
    password = line.removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        raise ConfigError("standard input", "has no password in its first line")
    if len(password) > PASSWORD_BYTES_MAX:
        raise ConfigError("standard input", f"has more than {PASSWORD_BYTES_MAX} bytes in a line")
    return password
