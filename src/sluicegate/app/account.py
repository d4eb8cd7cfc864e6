"""The account of a gate: whom it works as, settled before anything else of it happens.

``run`` and ``supervise`` call ``take_account`` first. The invariant: what comes after it (filters,
files, sockets, threads) belongs to the configured user, never to the one who started the gate.
"""

from __future__ import annotations

import os
import pathlib

from sluicegate.documents import Findings
from sluicegate.errors import ConfigError

from .config import Configuration, read_configuration, read_text
from .privileges import (
    NET_BIND_SERVICE,
    change_account,
    find_account,
    needs_low_ports,
    prepare_folder,
)
from .secret_files import SecretFiles

__all__ = ["kept_capabilities", "take_account"]


def take_account(path: pathlib.Path) -> None:
    """Become the user that the configuration names, and give up what the gate does not need.

    A configuration that cannot be read is left for ``load`` to tell of; nothing happens here then.

    Raises:
        ConfigError: The user does not exist, or something cannot be given up.
    """
    findings = Findings()
    text = read_text(path, findings, "choose the file with --config")
    secrets = SecretFiles(path.absolute().parent)
    configuration = None if text is None else read_configuration(path, text, findings, secrets)
    if configuration is None:
        return
    account = find_account(configuration.user, configuration.group)
    if account is not None and os.geteuid() == 0:
        for folder in (
            configuration.state_dir,
            configuration.spool_dir,
            configuration.log_path.parent,
        ):
            try:
                prepare_folder(folder, account)
            except OSError as error:
                raise ConfigError(
                    str(folder), f"cannot be made: {error.strerror}", "make it, for that user"
                ) from error
    change_account(account, keep_low_ports=bool(kept_capabilities(configuration)))


def kept_capabilities(configuration: Configuration) -> int:
    """Return the mask of capabilities that whoever opens the listeners needs."""
    addresses = [listener.address for listener in configuration.listeners]
    return 1 << NET_BIND_SERVICE if needs_low_ports(addresses) else 0
