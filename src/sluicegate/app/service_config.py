"""``[service]`` of ``sluicegate.toml``, and where a gate keeps its state.

Commands that ask a running gate, or read its log, need no more of the file; ``config`` reads the
whole of it. The invariant: both find the same places, also where the rest of the file is wrong.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import pydantic

from sluicegate.documents import Findings, Model, read_document, typed
from sluicegate.process_limits import WORKERS_MAX

from .authority_config import AuthoritySettings, AuthorityTable, to_authority
from .log_config import LogTable, StoreSettings, log_path, to_store

__all__ = [
    "CONTROL_NAME",
    "BackendChoice",
    "ServiceTable",
    "StatePaths",
    "find_state",
    "read_text",
]

BackendChoice = Literal["auto", "io_uring", "epoll"]


CONTROL_NAME: Final = "control.sock"
"""The control socket, in ``state_dir``."""


class ServiceTable(Model):
    """``[service]``."""

    state_dir: str = pydantic.Field(default="state", min_length=1)
    backend: BackendChoice = "auto"
    policy: str = pydantic.Field(default="policy.toml", min_length=1)
    users: str = pydantic.Field(default="users.toml", min_length=1)
    user: str = ""
    group: str = ""
    sandbox: bool = True
    writable: tuple[str, ...] = ()
    workers: Literal["auto"] | Annotated[int, pydantic.Field(ge=1, le=WORKERS_MAX)] = "auto"


@dataclass(frozen=True, slots=True)
class StatePaths:
    """Where a gate keeps what others ask for; known even if the rest of its file is wrong."""

    control_path: pathlib.Path
    log_path: pathlib.Path
    store: StoreSettings | None
    """The store of records; None: there is none."""
    users_path: pathlib.Path
    authority: AuthoritySettings
    """Who signs leaves, also where ``[ca]`` is not there yet."""
    has_authority: bool
    has_user: bool
    """Whether the gate changes its user."""


def find_state(path: pathlib.Path, findings: Findings) -> StatePaths | None:
    """Read only where a gate keeps its state, for commands that ask a running one."""
    text = read_text(path, findings, "choose the file with --config")
    document = read_document(text, path.name, findings) if text is not None else None
    if document is None:
        return None
    service = typed(document, ServiceTable, findings, ("service",))
    log = typed(document, LogTable, findings, ("log",))
    ca = typed(document, AuthorityTable, findings, ("ca",))
    if service is None or log is None or ca is None:
        return None
    folder = path.absolute().parent
    state_dir = folder / service.state_dir
    authority = to_authority(ca, folder, state_dir, document, findings)
    if authority is None:
        return None
    return StatePaths(
        control_path=state_dir / CONTROL_NAME,
        log_path=log_path(log, folder, state_dir),
        store=to_store(log, path, state_dir, document, findings),
        users_path=folder / service.users,
        authority=authority,
        has_authority="ca" in document.tree,
        has_user=bool(service.user),
    )


def read_text(path: pathlib.Path, findings: Findings, cure: str) -> str | None:
    """Return a file's text; None, with a finding, when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        if not text.startswith("\ufeff"):
            return text
        findings.refuse(
            f"{path.name}:1", "begins with a byte order mark", "save the file as UTF-8 without it"
        )
    except OSError as error:
        findings.refuse(str(path), f"cannot be read: {error.strerror}", cure)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        findings.refuse(f"{path.name}:{line}", "not UTF-8", "save the file as UTF-8")
    return None
