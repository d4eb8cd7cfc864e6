"""The account of a gate: whom it works as, settled before anything else of it happens.

``run`` and ``supervise`` call ``take_account`` first. The invariant: what comes after it (filters,
files, sockets, threads) belongs to the configured user, never to the one who started the gate.
"""

from __future__ import annotations

import os
import pathlib

from sluicegate.documents import Findings
from sluicegate.errors import ConfigError
from sluicegate.policy import parse_policy
from sluicegate.policy.network_rules import NetworkRelations

from .config import Configuration, read_configuration
from .policy_files import read_policy_texts
from .privileges import (
    NET_ADMIN,
    NET_BIND_SERVICE,
    change_account,
    find_account,
    needs_low_ports,
    prepare_folder,
)
from .public_suffixes import is_public_suffix
from .secret_files import SecretFiles
from .service_config import read_text
from .time_zones import find_time_zone

__all__ = ["capabilities_to_dial", "kept_capabilities", "take_account"]


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
            *((configuration.store.place.path,) if configuration.store is not None else ()),
        ):
            try:
                prepare_folder(folder, account)
            except OSError as error:
                raise ConfigError(
                    str(folder), f"cannot be made: {error.strerror}", "make it, for that user"
                ) from error
    change_account(account, kept=kept_capabilities(configuration, _find_routes(configuration)))


def kept_capabilities(configuration: Configuration, has_routes: bool) -> int:
    """Return the mask of capabilities that whoever opens the listeners and dials needs."""
    addresses = [listener.address for listener in configuration.listeners]
    kept = 1 << NET_BIND_SERVICE if needs_low_ports(addresses) else 0
    return kept | capabilities_to_dial(has_routes)


def capabilities_to_dial(has_routes: bool) -> int:
    """Return the mask of capabilities that whoever dials servers needs."""
    return 1 << NET_ADMIN if has_routes else 0


def _find_routes(configuration: Configuration) -> bool:
    """Tell whether the policy wants servers to see clients' addresses; ``load`` says what is wrong.

    Only a policy with network rules is read twice.
    """
    findings = Findings()
    texts = read_policy_texts(configuration.policy_path, findings)
    if texts is None:
        return False
    written = (texts.main, *(one.text for one in (*texts.before, *texts.after)))
    if not any("network_rule" in text for text in written):
        return False
    name = configuration.policy_path.name
    parsed = parse_policy(texts, name, findings, is_public_suffix, find_time_zone)
    return parsed is not None and NetworkRelations(parsed.policy.network_rules).has_routes
