"""ConsolePost: the place that the console fills, in the supervisor or in a gate of one process.

The invariant: the console may ask what ``_MAY`` lists, and nothing else; the policy is changed only
for somebody whose password was checked here; whatever becomes of the console, the gate goes on.
"""

from __future__ import annotations

import asyncio
import importlib.util
from typing import ClassVar, Final, Protocol

import msgspec
from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.app.config import Configuration
from sluicegate.app.inquiry.past import Unanswerable
from sluicegate.app.inquiry.record_explanation import explain_record
from sluicegate.app.load import Loaded
from sluicegate.app.log_config import known_place
from sluicegate.audit.records import OperatorRecord
from sluicegate.console.link import Explained
from sluicegate.console.sessions import EXTERNAL
from sluicegate.documents import ConfigRefused, Wrong
from sluicegate.errors import ConfigError, TransportError
from sluicegate.gate.control import ControlTarget
from sluicegate.gate.control_messages import (
    AcknowledgeRequest,
    AlertsRequest,
    ConnectionsRequest,
    FiltersRequest,
    KillRequest,
    PolicyRequest,
    ReloadRequest,
    SessionsRequest,
    StatusRequest,
    TransfersRequest,
)
from sluicegate.gate.policy_orders import is_change
from sluicegate.process_limits import WORKER_START_TIMEOUT_S

from .attendant_post import AttendantPost
from .child import Child
from .child_post import Begin, Upkeep
from .console_proofs import ConsoleProofs
from .orders import (
    Acted,
    AddedFirst,
    AddFirst,
    AnyMessage,
    AskFor,
    BeginConsole,
    Explain,
    ExplainedLine,
    Prove,
    Proved,
    StoreAt,
)

__all__ = ["ConsolePost", "ConsoleTarget"]

_BACKLOG: Final = 128
_LIBRARIES: Final = ("anyio", "jinja2", "starlette", "uvicorn")
_OIDC_LIBRARIES: Final = ("httpx", "joserfc")

_USER: Final = "console user "
"""Before the name of who wants it."""
_NOT_PROVED: Final = "nobody's password was given for this"
_NOT_TAKEN: Final = "the gate does not take the password that the console has sent"

_MAY: Final = (
    AcknowledgeRequest,
    AlertsRequest,
    ConnectionsRequest,
    FiltersRequest,
    KillRequest,
    PolicyRequest,
    ReloadRequest,
    SessionsRequest,
    StatusRequest,
    TransfersRequest,
)


class ConsoleTarget(ControlTarget, Protocol):
    """A running gate, and what it works by."""

    @property
    def loaded(self) -> Loaded:
        """The operator's files, as they are in force."""
        ...


class ConsolePost(AttendantPost):
    """The console of one gate, and its replacements."""

    end_s: ClassVar[float] = WORKER_START_TIMEOUT_S

    def __init__(
        self,
        configuration: Configuration,
        target: ConsoleTarget,
        upkeep: Upkeep,
    ) -> None:
        """Have none yet.

        Args:
            configuration: Says whether there is a console, and what the operator wants of it.
            target: Who answers it.
            upkeep: What every place needs; also what was done there is recorded.
        """
        super().__init__("console", "console", _MAY, target, upkeep)
        self.settings = configuration.console
        self._store = configuration.store
        self._target = target
        self._has_sandbox = configuration.has_sandbox
        folder = self.settings.folder if self.settings is not None else ""
        self._proofs = ConsoleProofs(folder, upkeep.clock)

    @override
    def listen(self) -> None:
        """Open the console's address, if there is a console.

        Raises:
            ConfigError: It cannot be opened.
        """
        if self.settings is None:
            return
        _check_libraries("[console]", "console", _LIBRARIES)
        if self.settings.oidc is not None:
            _check_libraries("[console.oidc]", "oidc", _OIDC_LIBRARIES)
        self._open(SocketAddress.parse(self.settings.listen), "[console]", _BACKLOG)

    def renew_password(self) -> None:
        """Read again where the password of the store's server is, and tell the console."""
        store = self._store
        if store is not None and store.password is not None and self._child is not None:
            self._child.send(StoreAt(place=known_place(store)))

    @override
    def _begin(self) -> Begin | None:
        if self.settings is None or self._listening is None:
            return None
        settings = self.settings
        if self._store is not None:
            place = known_place(self._store)
            settings = msgspec.structs.replace(settings, store=place)
        begin = BeginConsole(settings=settings, has_sandbox=self._has_sandbox)
        return begin, [self._listening.fileno()]

    @override
    def _on_said(self, child: Child, message: AnyMessage) -> None:
        match message:
            case Acted(record=record):
                self._record(record)
            case Explain():
                self._run(child, self._explain(child, message))
            case Prove():
                self._run(child, self._prove(child, message))
            case AddFirst():
                self._run(child, self._add_first(child, message))
            case _:
                super()._on_said(child, message)

    @override
    def _who(self, asked: AskFor) -> str:
        request = asked.request
        if not isinstance(request, PolicyRequest) or not is_change(request.order):
            return super()._who(asked)
        holder = self._proofs.holder(asked.ticket)
        if holder:
            return f"{_USER}{holder}"
        has_provider = self.settings is not None and self.settings.oidc is not None
        if has_provider and asked.by.startswith(f"{_USER}{EXTERNAL}"):
            return asked.by  # no password of theirs is known here
        self._note_doubt("policy-change", asked.by.removeprefix(_USER), _NOT_PROVED)
        raise ConfigRefused((ConfigError("the policy", _NOT_PROVED, "give the password again"),))

    async def _prove(self, child: Child, asked: Prove) -> None:
        ticket = await self._proofs.prove(asked.name, asked.password)
        if not ticket:
            self._note_doubt("confirm", asked.name, _NOT_TAKEN)
        if not child.has_ended:
            child.send(Proved(number=asked.number, ticket=ticket))

    def _note_doubt(self, action: str, by: str, cause: str) -> None:
        """Record what an honest console does not send: it asks for passwords, and tries them first.

        It may have been taken over, and then it records nothing of this by itself.
        """
        record = OperatorRecord(
            time=self._clock.wall(),
            action=action,
            by=by,
            origin="console",
            result="refused",
            causes=(cause,),
        )
        self._record(record)

    async def _add_first(self, child: Child, asked: AddFirst) -> None:
        fault = ""
        try:
            await self._proofs.accounts.add_first(asked.name, asked.password)
        except (Wrong, ConfigError, ConfigRefused, TransportError) as error:
            fault = str(error)
        if not child.has_ended:
            child.send(AddedFirst(number=asked.number, fault=fault))

    async def _explain(self, child: Child, asked: Explain) -> None:
        # Beside the loop: a policy of thousands of rules takes tens of milliseconds.
        found = await asyncio.to_thread(explain_record, asked.line, self._target.loaded)
        if isinstance(found, Unanswerable):
            explained = Explained(why_not=found.why)
        else:
            explained = Explained(tree=msgspec.to_builtins(found))
        if not child.has_ended:
            child.send(ExplainedLine(number=asked.number, explained=explained))


def _check_libraries(table: str, extra: str, libraries: tuple[str, ...]) -> None:
    """Refuse to start what lacks a library.

    Raises:
        ConfigError: One is missing.
    """
    missing = [one for one in libraries if importlib.util.find_spec(one) is None]
    if missing:
        cure = f"pip install 'sluicegate[{extra}]'"
        raise ConfigError(table, f"{', '.join(missing)} is missing", cure)
