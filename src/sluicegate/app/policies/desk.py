"""PolicyDesk: what operators ask about the policy, and how another one comes into force.

The supervisor, or a gate of one process, owns one; the control socket and the console lead to it.
It alone writes the policy's files, for who asks may not. The invariant: what is written was checked
first, was made from what is in force, and is put back when the reload refuses it.
"""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from sluicegate.app.load import Loaded, load
from sluicegate.app.policy_files import read_policy_texts
from sluicegate.app.texts import Texts
from sluicegate.clock import Clock
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError
from sluicegate.gate.policy_orders import (
    AnyPolicyAnswer,
    AnyPolicyOrder,
    ChangePolicy,
    CheckPolicy,
    FindingView,
    ListVersions,
    PolicyChanged,
    PolicyChecked,
    PolicyFile,
    PolicyRules,
    PolicyTried,
    PolicyVersion,
    PolicyVersions,
    ReadRules,
    ReadVersion,
    RollBack,
    TryPolicy,
    VersionOrigin,
    VersionTexts,
)
from sluicegate.policy import PolicyTexts, find_includes, find_lists
from sluicegate.policy.changes import compare_policies
from sluicegate.policy_limits import (
    POLICY_EDITED_BYTES_MAX,
    POLICY_NOTE_CHARACTERS_MAX,
    POLICY_ROWS_MAX,
)

from .history import PolicyHistory
from .policy_texts import digest_of, files_of, path_of, size_of, texts_from
from .rule_views import rule_views
from .trial import Trial
from .written_files import cannot_write, write_files

__all__ = ["PolicyDesk"]

_FOLDER: Final = "policies"
_EDITED: Final = "the policy"


class _Expected(NamedTuple):
    """What the next reload is for, if it brings these files."""

    texts: str
    origin: VersionOrigin
    note: str


class PolicyDesk:
    """The policies of one gate."""

    def __init__(
        self,
        loaded: Callable[[], Loaded],
        reload: Callable[[str], Awaitable[list[str]]],
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        """Put the parts together.

        Args:
            loaded: Returns what is in force.
            reload: Puts in force what the disk has; raises ``ConfigRefused``.
            clock: Tells when.
            say: Shows a line to whoever started the gate.
        """
        self._loaded = loaded
        self._reload = reload
        self._clock = clock
        self._say = say
        state = loaded().configuration.state_dir
        self._history = PolicyHistory(state / _FOLDER)
        self._trial = Trial()
        self._turn = asyncio.Lock()
        #: One order that changes something at a time.
        self._keeping = asyncio.Lock()
        #: The history is read and written by one at a time.
        self._expected: _Expected | None = None
        self._last: PolicyVersion | None = None
        self._failure = ""

    @property
    def warnings(self) -> list[str]:
        """What an operator should know."""
        return [self._failure] if self._failure else []

    async def note(self, before: Loaded | None, by: str) -> None:
        """Keep what is in force now, unless that is what was kept last; never raises.

        Args:
            before: What was in force until now; None at the start.
            by: Who wanted it.
        """
        loaded = self._loaded()
        texts = loaded.texts.policy
        digest = digest_of(texts)
        expected, self._expected = self._expected, None
        if expected is None or expected.texts != digest:
            expected = _Expected(digest, "reload" if before is not None else "start", "")
        row = PolicyVersion(
            number=0,
            policy=loaded.settings.policy.hash,
            texts=digest,
            time=self._clock.wall(),
            by=by,
            origin=expected.origin,
            note=expected.note,
            size_bytes=size_of(texts),
        )
        if before is not None:
            _describe_changes(row, before, loaded)
        async with self._keeping:
            try:
                self._last = await asyncio.to_thread(self._keep, row, texts)
                self._failure = ""
            except ConfigError as error:
                # It is in force all the same: that is what records and this warning say.
                self._last, self._failure = row, f"the history of the policy: {error}"
                self._say(self._failure)

    async def answer(self, order: AnyPolicyOrder, by: str) -> AnyPolicyAnswer:
        """Answer, or do, what an operator wants.

        Raises:
            ConfigRefused: It is refused, and nothing was changed.
        """
        try:
            match order:
                case ListVersions():
                    return await self._list(order)
                case ReadVersion():
                    return await self._read(order.version)
                case ReadRules():
                    return self._rules()
                case CheckPolicy():
                    return self._check(order.files)[1]
                case TryPolicy():
                    return await self._try(order)
                case ChangePolicy():
                    files = texts_from(order.files)
                    return await self._change(files, order.base, "change", order.note, by)
                case RollBack():
                    return await self._roll_back(order, by)
        except ConfigError as error:
            raise ConfigRefused((error,)) from error

    def _keep(self, row: PolicyVersion, texts: PolicyTexts) -> PolicyVersion:
        rows = self._history.rows
        if rows and (rows[-1].texts, rows[-1].policy) == (row.texts, row.policy):
            return rows[-1]
        return self._history.add(row, texts)

    # -- asking --------------------------------------------------------------------------------

    async def _list(self, order: ListVersions) -> PolicyVersions:
        async with self._keeping:
            rows = await asyncio.to_thread(lambda: self._history.rows)
        found = [row for row in rows if not order.before or row.number < order.before]
        limit = max(0, min(order.limit, POLICY_ROWS_MAX))
        return PolicyVersions(
            rows=found[::-1][:limit],
            total=len(rows),
            texts=digest_of(self._loaded().texts.policy),
            number=self._in_force().number,
        )

    async def _read(self, version: str) -> VersionTexts:
        loaded = self._loaded()
        if not version:
            texts, row = loaded.texts.policy, self._in_force()
        else:
            async with self._keeping:
                row = await asyncio.to_thread(self._history.find, version)
                texts = await asyncio.to_thread(self._history.texts, row)
        size = size_of(texts)
        if size > POLICY_EDITED_BYTES_MAX:
            raise ConfigError(
                _EDITED,
                f"its files have {size} bytes; {POLICY_EDITED_BYTES_MAX} are the most here",
                "read and change them where they are, and reload",
            )
        main = loaded.configuration.policy_path.name
        return VersionTexts(version=row, files=files_of(texts, main), main=main)

    def _in_force(self) -> PolicyVersion:
        """Describe what is in force, also before it is kept."""
        loaded = self._loaded()
        texts = loaded.texts.policy
        digest = digest_of(texts)
        if self._last is not None and self._last.texts == digest:
            return self._last
        return PolicyVersion(
            number=0,
            policy=loaded.settings.policy.hash,
            texts=digest,
            time=self._clock.wall(),
            by="",
            origin="start",
            size_bytes=size_of(texts),
            is_kept=False,
        )

    def _rules(self) -> PolicyRules:
        loaded = self._loaded()
        rows = rule_views(loaded)
        path = loaded.configuration.policy_path
        return PolicyRules(
            policy=loaded.settings.policy.hash,
            texts=digest_of(loaded.texts.policy),
            since=self._in_force().time,
            rows=rows[:POLICY_ROWS_MAX],
            total=len(rows),
            warnings=[FindingView(where="", cause=one) for one in loaded.warnings],
            can_write=cannot_write(path),
        )

    def _check(self, files: list[PolicyFile]) -> tuple[PolicyTexts | None, PolicyChecked]:
        """Say what a policy would be; with its texts, if it is one."""
        loaded, findings = self._loaded(), Findings()
        changed = texts_from(files)
        texts = self._proposed(changed, findings)
        proposed = None
        if texts is not None:
            main, users = loaded.texts.main, loaded.texts.users
            proposed = load(
                loaded.configuration.path,
                findings,
                loaded,
                Texts(main, texts, users, loaded.texts.secrets),
            )
        checked = PolicyChecked(
            errors=[_view(one) for one in findings.errors],
            warnings=[_view(one) for one in findings.warnings],
        )
        if proposed is None or findings.errors:
            return None, checked
        checked.policy = proposed.settings.policy.hash
        changes = compare_policies(loaded.settings.policy.policy, proposed.settings.policy.policy)
        checked.added, checked.removed = list(changes.added), list(changes.removed)
        checked.changed, checked.moved = list(changes.changed), list(changes.moved)
        return texts, checked

    def _proposed(self, changed: Mapping[str, str], findings: Findings) -> PolicyTexts | None:
        """Read all files of a policy of which some are other than on disk."""
        loaded = self._loaded()
        path = loaded.configuration.policy_path
        known = texts_from(files_of(loaded.texts.policy, path.name))
        size = sum(len(text.encode()) for text in changed.values())
        if size > POLICY_EDITED_BYTES_MAX:
            cause = f"{size} bytes were sent; {POLICY_EDITED_BYTES_MAX} are the most"
            findings.refuse(_EDITED, cause, "change the files where they are, and reload")
        for name in changed:
            if name not in known:
                findings.refuse(name, "is no file of the policy in force", "name one that is")
        for text in changed.values():
            self._refuse_foreign(text, path, known, findings)
        return None if findings.errors else read_policy_texts(path, findings, changed)

    def _refuse_foreign(
        self, text: str, main: pathlib.Path, known: Mapping[str, str], findings: Findings
    ) -> None:
        """Refuse files elsewhere: what is wrong with them would show what stands in them."""
        folder = main.parent.resolve()
        for name in [*(one for names in find_includes(text) for one in names), *find_lists(text)]:
            path = path_of(main, name).resolve()
            is_known = name in known or any(one.startswith(f"{name}/") for one in known)
            if not is_known and not path.is_relative_to(folder):
                findings.refuse(
                    name, "lies outside the folder of the policy", "add it to the file yourself"
                )

    async def _try(self, order: TryPolicy) -> PolicyTried:
        texts, checked = self._check(order.files)
        if texts is None:
            raise ConfigRefused(
                tuple(ConfigError(e.where, e.cause, e.cure) for e in checked.errors)
            )
        path = self._loaded().configuration.path
        return PolicyTried(report=await self._trial.run(path, order.files, order.since_s))

    # -- changing ------------------------------------------------------------------------------

    async def _roll_back(self, order: RollBack, by: str) -> PolicyChanged:
        async with self._keeping:
            row = await asyncio.to_thread(self._history.find, order.version)
            texts = await asyncio.to_thread(self._history.texts, row)
        main = self._loaded().configuration.policy_path.name
        note = order.note or f"back to version {row.number}"
        files = texts_from(files_of(texts, main))
        return await self._change(files, order.base, "roll-back", note, by, row.texts)

    async def _change(
        self,
        files: Mapping[str, str],
        base: str,
        origin: VersionOrigin,
        note: str,
        by: str,
        wanted: str = "",
    ) -> PolicyChanged:
        """Write files and put them in force.

        Args:
            files: Texts by name.
            base: Digest of the texts that whoever orders it has seen in force.
            origin: What it is, for the history.
            note: Why.
            by: Who wants it.
            wanted: The digest that the policy then must have; empty: any.
        """
        if len(note) > POLICY_NOTE_CHARACTERS_MAX or not (note.isprintable() or not note):
            cause = f"at most {POLICY_NOTE_CHARACTERS_MAX} characters on one line"
            raise ConfigError("note", cause)
        async with self._turn:
            loaded = self._loaded()
            path, current = loaded.configuration.policy_path, loaded.texts.policy
            self._refuse_stale(path, current, base)
            texts, checked = self._check(
                [PolicyFile(name=name, text=text) for name, text in files.items()]
            )
            if texts is None:
                raise ConfigRefused(
                    tuple(ConfigError(e.where, e.cause, e.cure) for e in checked.errors)
                )
            digest = digest_of(texts)
            if wanted and digest != wanted:
                extra = sorted({one.name for one in files_of(texts, path.name)} - set(files))
                raise ConfigError(
                    _EDITED,
                    "that version had other files than there are now"
                    + (f": {', '.join(extra)} would have to go" if extra else ""),
                    "take them away yourself, reload, and roll back then",
                )
            known = texts_from(files_of(current, path.name))
            changed = {name: text for name, text in files.items() if known.get(name) != text}
            if not changed:
                raise ConfigError(_EDITED, "this is what is in force already")
            notes = await self._write_and_reload(
                {path_of(path, name): text for name, text in changed.items()},
                {path_of(path, name): known[name] for name in changed},
                _Expected(digest, origin, note),
                by,
            )
            return PolicyChanged(version=self._in_force(), notes=notes)

    async def _write_and_reload(
        self,
        new: Mapping[pathlib.Path, str],
        old: Mapping[pathlib.Path, str],
        expected: _Expected,
        by: str,
    ) -> list[str]:
        await asyncio.to_thread(write_files, new)
        self._expected = expected
        try:
            return await self._reload(by)
        except ConfigRefused as refused:
            try:
                await asyncio.to_thread(write_files, old)
            except ConfigError as error:
                raise ConfigRefused((*refused.errors, error)) from error
            raise
        finally:
            self._expected = None

    def _refuse_stale(self, path: pathlib.Path, current: PolicyTexts, base: str) -> None:
        if digest_of(current) != base:
            raise ConfigError(
                _EDITED, "another one has come into force meanwhile", "look at it, and begin again"
            )
        findings = Findings()
        on_disk = read_policy_texts(path, findings)
        if on_disk is None or digest_of(on_disk) != base:
            raise ConfigError(
                str(path),
                "the files on disk are not what is in force: somebody has changed them",
                "sluicegate reload puts them in force, if they are right",
            )


def _view(error: ConfigError) -> FindingView:
    return FindingView(where=error.where, cause=error.cause, cure=error.cure)


def _describe_changes(row: PolicyVersion, before: Loaded, after: Loaded) -> None:
    changes = compare_policies(before.settings.policy.policy, after.settings.policy.policy)
    row.added, row.removed = list(changes.added), list(changes.removed)
    row.changed, row.moved = list(changes.changed), list(changes.moved)
