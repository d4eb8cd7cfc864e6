"""Changing what is in force: prepared by every worker, then put in force by all of them.

``supervisor`` calls it with files that are checked. The invariant: afterwards every worker that
serves has these files in force, proven by the hash that it answers with, or it is being replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sluicegate.app.authority_files import reopen_authority
from sluicegate.app.load import Loaded
from sluicegate.documents import Findings
from sluicegate.errors import ConfigError

from .crew import Crew, Worker
from .doors import Door, Doors
from .orders import Abandon, Commit, Committed, Drain, Message, Prepare, Prepared
from .signer_post import SignerPost

__all__ = ["change_authority", "commit_all", "prepare_all"]


async def prepare_all(
    crew: Crew, doors: Doors, loaded: Loaded, opened: Sequence[Door]
) -> list[ConfigError]:
    """Let every worker get ready; if one cannot, let all of them forget it.

    Without an error, every worker that serves is prepared when this returns.
    """
    prepared: list[Worker] = []
    errors: list[ConfigError] = []
    # Again for those that have come meanwhile.
    while not errors and (fresh := [one for one in crew.working if one not in prepared]):
        errors = await _prepare(crew, doors, loaded, opened, fresh)
        prepared += fresh
    if errors:
        for worker in prepared:
            worker.child.send(Abandon())
    return errors


async def _prepare(
    crew: Crew, doors: Doors, loaded: Loaded, opened: Sequence[Door], workers: Sequence[Worker]
) -> list[ConfigError]:
    addresses = [str(door.place) for door in opened]

    def make(worker: Worker, number: int) -> tuple[Message, list[int]]:
        message = Prepare(number=number, texts=loaded.texts, addresses=addresses)
        return message, doors.of_slot(worker.slot, opened)

    errors: list[ConfigError] = []
    for worker, reply in zip(workers, await crew.order(workers, make), strict=True):
        if not isinstance(reply, Prepared):
            if not worker.child.has_ended:
                errors.append(ConfigError(worker.name, "does not answer", "see its log"))
        elif reply.causes:
            errors += [ConfigError(worker.name, cause) for cause in reply.causes]
        elif reply.policy != loaded.settings.policy.hash:
            errors.append(ConfigError(worker.name, f"has policy {reply.policy} prepared"))
    return errors


async def change_authority(
    signer: SignerPost, crew: Crew, begun_with: Loaded, loaded: Loaded, findings: Findings
) -> None:
    """Sign with the keys that are there now, once all workers are prepared.

    Where they are is fixed at the start: workers have given up reading there. If it fails, with a
    finding, workers forget what they are prepared for.
    """
    before, settings = begun_with.configuration.authority, loaded.configuration.authority
    if before is None or settings is None or before.folder != settings.folder:
        return
    opened = reopen_authority(loaded.configuration, signer.opened, findings)
    if opened is not None and opened is not signer.opened:
        try:
            await signer.change(opened)
        except ConfigError as error:
            findings.errors.append(error)
    if findings.errors:
        for worker in crew.working:
            worker.child.send(Abandon())


async def commit_all(crew: Crew, loaded: Loaded, say: Callable[[str], None]) -> None:
    """Put in force what is prepared; a worker that does not is replaced by one that has it."""
    workers, late = crew.working, crew.starting
    for worker in late:
        # It began with what was in force before. At once: in a moment it would have clients.
        crew.replace(worker)
    policy = loaded.settings.policy.hash
    replies = await crew.order(workers, lambda _worker, number: (Commit(number=number), []))
    for worker, reply in zip(workers, replies, strict=True):
        if isinstance(reply, Committed) and reply.policy == policy:
            worker.policy = reply.policy
        elif not worker.child.has_ended:
            say(f"{worker.name} could not change its policy: it is replaced")
            worker.child.kill()
    leaving = [one for one in crew.leaving if one.is_ready]
    await asyncio.gather(*(_change_leaving(crew, one, loaded, say) for one in leaving))


async def _change_leaving(
    crew: Crew, worker: Worker, loaded: Loaded, say: Callable[[str], None]
) -> None:
    """Let a worker that drains judge what it has left; if it cannot, it ends now."""
    policy = loaded.settings.policy.hash
    [prepared] = await crew.order(
        [worker],
        lambda _worker, number: (Prepare(number=number, texts=loaded.texts, addresses=[]), []),
    )
    if isinstance(prepared, Prepared) and prepared.policy == policy:
        [reply] = await crew.order([worker], lambda _worker, number: (Commit(number=number), []))
        if isinstance(reply, Committed) and reply.policy == policy:
            worker.policy = reply.policy
            return
    if not worker.child.has_ended:
        say(f"{worker.name}, which drains, cannot take the policy: it ends now")
        worker.child.send(Drain(timeout_s=0.0))
