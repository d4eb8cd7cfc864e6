"""Confine: what a process gives up before it works for anybody.

``worker`` and ``audit_writer`` call it once, when all that they need was opened or inherited, the
operator's files are read and filters are loaded, and before the loop runs. The invariant: what is
given up here cannot be got back by whatever runs in the process afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.app.confinement import Confinement, confine_process

if TYPE_CHECKING:
    from sluicegate.app.config import Configuration  # the audit writer needs none of it

__all__ = ["confine"]


def confine(configuration: Configuration | None, *, capabilities: int = 0) -> Confinement:
    """Give up what is not needed; return what is in force, and what this kernel lacks.

    A worker writes in the spool, and where its filters do; the log and the control socket are the
    business of others. The audit writer has its file already.

    Args:
        configuration: What a worker works by; None in the audit writer.
        capabilities: A mask of those that it needs to dial.

    Raises:
        OSError: Capabilities cannot be given up.
    """
    if configuration is None:
        return confine_process(())
    return confine_process(
        [configuration.spool_dir, *configuration.writable],
        capabilities=capabilities,
        has_sandbox=configuration.has_sandbox,
        unreadable=configuration.authority_folder,
    )
