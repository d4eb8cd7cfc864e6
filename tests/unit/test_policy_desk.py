"""The policy desk: who may overwrite what, what is kept, and that a refusal leaves no trace."""

from __future__ import annotations

import asyncio
import os
import pathlib
import stat
from collections.abc import Sequence

import pytest

from sluicegate.app.load import Loaded, load
from sluicegate.app.policies.desk import PolicyDesk
from sluicegate.app.policies.history import PolicyHistory
from sluicegate.app.policies.policy_texts import digest_of, size_of
from sluicegate.clock import SystemClock
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError
from sluicegate.gate.policy_orders import (
    AnyPolicyAnswer,
    AnyPolicyOrder,
    ChangePolicy,
    CheckPolicy,
    ListVersions,
    PolicyChanged,
    PolicyChecked,
    PolicyFile,
    PolicyRules,
    PolicyVersion,
    PolicyVersions,
    ReadRules,
    ReadVersion,
    RollBack,
    VersionTexts,
)
from sluicegate.policy import PolicyText, PolicyTexts
from sluicegate.policy_limits import POLICY_EDITED_BYTES_MAX, POLICY_NOTE_CHARACTERS_MAX
from tests.unit.inquiry_kit import POLICY, Folder, rule

MORE = POLICY + rule("more", "more.example.org")


class Gate:
    """What a desk needs of a gate: files in force, and a reload that may be refused."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = Folder(folder)
        self.said: list[str] = []
        self.refusal = ""
        self.loaded = self._load()
        self.desk = PolicyDesk(lambda: self.loaded, self.reload, SystemClock(), self.said.append)

    @property
    def path(self) -> pathlib.Path:
        return self.folder.path / "policy.toml"

    async def reload(self, by: str) -> list[str]:
        if self.refusal:
            raise ConfigRefused((ConfigError("worker 0", self.refusal),))
        before = self.loaded
        self.loaded = self._load()
        await self.desk.note(before, by)
        return []

    async def ask(self, order: AnyPolicyOrder) -> AnyPolicyAnswer:
        return await self.desk.answer(order, "ada")

    async def change(self, text: str, base: str = "", note: str = "") -> PolicyChanged:
        base = base or digest_of(self.loaded.texts.policy)
        answer = await self.ask(ChangePolicy(files=main(text), base=base, note=note))
        assert isinstance(answer, PolicyChanged)
        return answer

    async def history(self) -> list[PolicyVersion]:
        answer = await self.ask(ListVersions())
        assert isinstance(answer, PolicyVersions)
        return answer.rows

    def _load(self) -> Loaded:
        findings = Findings()
        loaded = load(self.folder.config, findings)
        findings.raise_errors()
        assert loaded is not None
        return loaded


def main(text: str) -> list[PolicyFile]:
    return [PolicyFile(name="policy.toml", text=text)]


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Gate:
    return Gate(tmp_path)


def causes(refused: pytest.ExceptionInfo[ConfigRefused]) -> str:
    return "; ".join(str(error) for error in refused.value.errors)


async def started(gate: Gate) -> Gate:
    await gate.desk.note(None, "start")
    return gate


def test_change_is_written_put_in_force_and_kept_with_its_reason(gate: Gate) -> None:
    async def play() -> None:
        await started(gate)
        changed = await gate.change(MORE, note="TICKET-1")
        assert (changed.version.number, changed.version.origin) == (2, "change")
        assert (changed.version.by, changed.version.note) == ("ada", "TICKET-1")
        assert changed.version.added == ["more"]
        assert [row.origin for row in await gate.history()] == ["change", "start"]

    asyncio.run(play())
    assert gate.path.read_text() == MORE
    assert "more" in [one.name for one in gate.loaded.settings.policy.policy.rules]


def test_roll_back_brings_the_very_texts_back(gate: Gate) -> None:
    async def play() -> list[PolicyVersion]:
        await started(gate)
        await gate.change(MORE)
        base = digest_of(gate.loaded.texts.policy)
        answer = await gate.ask(RollBack(version="1", base=base))
        assert isinstance(answer, PolicyChanged)
        return await gate.history()

    rows = asyncio.run(play())
    assert gate.path.read_text() == POLICY
    assert [(row.number, row.origin, row.note) for row in rows] == [
        (3, "roll-back", "back to version 1"), (2, "change", ""), (1, "start", ""),
    ]  # fmt: skip
    assert rows[0].texts == rows[2].texts
    assert rows[0].removed == ["more"]


OUTSIDE = {
    "a path": 'include = { after = ["/etc/passwd"] }\n' + POLICY,
    "a folder above": 'include = { after = ["../other.toml"] }\n' + POLICY,
    "a list": POLICY + '[objects.networks]\nx = { file = "/etc/shadow" }\n',
}
WRONG = {
    "not TOML": "[[rule]\n",
    "web": POLICY + rule("web", "b.example.org"),
    "nobody": POLICY + rule("x", "x.example.org", filters='["nobody"]'),
    "bytes were sent": "# x\n" * (POLICY_EDITED_BYTES_MAX // 4 + 1),
}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        *(pytest.param(text, cause, id=cause) for cause, text in WRONG.items()),
        *(pytest.param(text, "outside", id=name) for name, text in OUTSIDE.items()),
    ],
)
def test_wrong_policy_is_refused_and_nothing_is_written(gate: Gate, text: str, cause: str) -> None:
    async def play() -> None:
        await started(gate)
        await gate.change(text)

    with pytest.raises(ConfigRefused) as refused:
        asyncio.run(play())
    assert cause in causes(refused)
    assert gate.path.read_text() == POLICY
    assert sorted(path.name for path in gate.folder.path.iterdir()) == [
        "policy.toml", "sluicegate.toml", "state", "users.toml",
    ]  # fmt: skip


def test_what_a_reload_refuses_is_put_back_on_disk(gate: Gate) -> None:
    async def play() -> None:
        await started(gate)
        gate.refusal = "cannot prepare"
        await gate.change(MORE)

    with pytest.raises(ConfigRefused, match="cannot prepare"):
        asyncio.run(play())
    assert gate.path.read_text() == POLICY
    assert [row.number for row in asyncio.run(gate.history())] == [1]


def test_reason_of_a_refused_change_is_not_given_to_the_next_reload(gate: Gate) -> None:
    async def play() -> list[PolicyVersion]:
        await started(gate)
        gate.refusal = "not now"
        with pytest.raises(ConfigRefused):
            await gate.change(MORE, note="TICKET-1")
        gate.refusal = ""
        gate.path.write_text(MORE)
        await gate.reload("SIGHUP")
        return await gate.history()

    newest = asyncio.run(play())[0]
    assert (newest.origin, newest.note, newest.by) == ("reload", "", "SIGHUP")


def test_who_has_not_seen_what_is_in_force_overwrites_nothing(gate: Gate) -> None:
    async def play() -> None:
        base = digest_of(gate.loaded.texts.policy)
        await gate.change(MORE)
        await gate.change(POLICY, base)

    with pytest.raises(ConfigRefused, match="meanwhile"):
        asyncio.run(play())
    assert gate.path.read_text() == MORE


def test_what_somebody_wrote_to_disk_and_did_not_load_is_not_overwritten(gate: Gate) -> None:
    gate.path.write_text("# mine\n" + POLICY)
    with pytest.raises(ConfigRefused, match="not what is in force"):
        asyncio.run(gate.change(MORE))
    assert gate.path.read_text() == "# mine\n" + POLICY


def test_file_that_is_no_part_of_the_policy_is_not_written(gate: Gate) -> None:
    order = ChangePolicy(
        files=[PolicyFile(name="users.toml", text="")], base=digest_of(gate.loaded.texts.policy)
    )
    before = (gate.folder.path / "users.toml").read_text()
    with pytest.raises(ConfigRefused, match="no file of the policy"):
        asyncio.run(gate.ask(order))
    assert (gate.folder.path / "users.toml").read_text() == before


@pytest.mark.parametrize("note", ["x" * (POLICY_NOTE_CHARACTERS_MAX + 1), "two\nlines", "\x1b[2J"])
def test_note_that_could_fool_a_reader_is_refused(gate: Gate, note: str) -> None:
    with pytest.raises(ConfigRefused, match="note"):
        asyncio.run(gate.change(MORE, note=note))
    assert gate.path.read_text() == POLICY


def test_same_texts_are_no_change(gate: Gate) -> None:
    with pytest.raises(ConfigRefused, match="already"):
        asyncio.run(gate.change(POLICY))


def test_file_keeps_its_mode_and_a_link_to_it_stays_one(gate: Gate) -> None:
    elsewhere = gate.folder.path / "state" / "real.toml"
    gate.path.rename(elsewhere)
    gate.path.symlink_to(elsewhere)
    os.chmod(elsewhere, 0o640)
    asyncio.run(gate.change(MORE))
    assert gate.path.is_symlink()
    assert elsewhere.read_text() == MORE
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o640


def test_comments_alone_are_a_version_of_their_own_with_the_same_policy(gate: Gate) -> None:
    async def play() -> list[PolicyVersion]:
        await started(gate)
        await gate.change("# why\n" + POLICY)
        return await gate.history()

    newer, older = asyncio.run(play())
    assert newer.policy == older.policy
    assert newer.texts != older.texts


def test_start_with_the_policy_that_was_kept_last_keeps_no_other_one(gate: Gate) -> None:
    async def play() -> list[PolicyVersion]:
        await started(gate)
        await started(gate)
        return await gate.history()

    assert [row.number for row in asyncio.run(play())] == [1]


def test_included_file_is_changed_where_it_lies(gate: Gate) -> None:
    (gate.folder.path / "rules.d").mkdir()
    included = gate.folder.path / "rules.d" / "lab.toml"
    included.write_text(rule("lab", "lab.example.org"))
    gate.path.write_text('include = { before = ["rules.d"] }\n' + POLICY)

    async def play() -> VersionTexts:
        await gate.reload("test")
        base = digest_of(gate.loaded.texts.policy)
        text = rule("lab", "other.example.org")
        await gate.ask(
            ChangePolicy(files=[PolicyFile(name="rules.d/lab.toml", text=text)], base=base)
        )
        answer = await gate.ask(ReadVersion())
        assert isinstance(answer, VersionTexts)
        return answer

    answer = asyncio.run(play())
    assert [file.name for file in answer.files] == ["rules.d/lab.toml", "policy.toml"]
    assert "other.example.org" in included.read_text()


def test_roll_back_to_other_files_than_there_are_is_refused_and_names_them(gate: Gate) -> None:
    async def play() -> None:
        await started(gate)
        (gate.folder.path / "rules.d").mkdir()
        gate.path.write_text('include = { before = ["rules.d"] }\n' + POLICY)
        await gate.reload("test")
        (gate.folder.path / "rules.d" / "lab.toml").write_text(rule("lab", "lab.example.org"))
        await gate.reload("test")
        base = digest_of(gate.loaded.texts.policy)
        await gate.ask(RollBack(version="2", base=base))

    with pytest.raises(ConfigRefused, match=r"lab\.toml would have to go"):
        asyncio.run(play())


def test_check_says_what_would_change_and_what_would_never_decide(gate: Gate) -> None:
    text = POLICY + rule("late", "late.social.example.org")
    answer = asyncio.run(gate.ask(CheckPolicy(files=main(text))))
    assert isinstance(answer, PolicyChecked)
    assert answer.added == ["late"]
    assert any("never decides" in one.cause for one in answer.warnings)
    assert gate.path.read_text() == POLICY


def test_rules_stand_in_order_as_they_were_written(gate: Gate) -> None:
    gate.path.write_text(POLICY + "\n# about the next one\n" + rule("s", "a.social.example.org"))
    asyncio.run(gate.reload("test"))
    answer = asyncio.run(gate.ask(ReadRules()))
    assert isinstance(answer, PolicyRules)
    assert [row.name for row in answer.rows] == ["ftp", "no-social", "web", "s"]
    assert answer.rows[1].text == (
        '[[rule]]\nname = "no-social"\naction = "deny"\nclients = ["10.0.0.0/8"]\n'
        'to = ["*.social.example.org"]'
    )
    assert answer.rows[3].covered_by == ["no-social"]
    assert answer.rows[2].protocols == ["@https"]


def test_unwritable_history_is_a_warning_and_no_reason_to_refuse_a_reload(gate: Gate) -> None:
    (gate.folder.path / "state" / "policies").write_text("in the way")

    async def play() -> None:
        await gate.reload("test")

    asyncio.run(play())
    assert gate.said
    assert gate.desk.warnings == gate.said


# The history on its own.


def version(text: str) -> tuple[PolicyVersion, PolicyTexts]:
    texts = PolicyTexts(text, (PolicyText("a.toml", "# a"),), (), {"list": "10.0.0.0/8\n"})
    row = PolicyVersion(
        number=0, policy=f"{len(text):064}", texts=digest_of(texts), time=1.0, by="ada",
        origin="reload", size_bytes=size_of(texts),
    )  # fmt: skip
    return row, texts


def filled(folder: pathlib.Path, texts: Sequence[str], **bounds: int) -> PolicyHistory:
    history = PolicyHistory(folder, **bounds)
    for text in texts:
        history.add(*version(text))
    return PolicyHistory(folder, **bounds)


def test_history_is_the_same_when_it_is_read_again(tmp_path: pathlib.Path) -> None:
    history = filled(tmp_path / "kept", ["one", "three"])
    assert [row.number for row in history.rows] == [1, 2]
    assert history.texts(history.find("2")) == version("three")[1]


def test_oldest_versions_go_when_there_are_too_many(tmp_path: pathlib.Path) -> None:
    history = filled(tmp_path, ["1", "22", "333"], versions_max=2)
    assert [row.number for row in history.rows] == [2, 3]
    assert len(list(tmp_path.iterdir())) == 4


def test_oldest_versions_go_when_they_are_too_large_together(tmp_path: pathlib.Path) -> None:
    size = size_of(version("x" * 100)[1])
    history = filled(tmp_path, ["x" * 100, "y" * 100, "z" * 100], bytes_max=2 * size)
    assert [row.number for row in history.rows] == [2, 3]


def test_of_a_version_that_is_too_large_alone_the_fact_is_kept(tmp_path: pathlib.Path) -> None:
    history = filled(tmp_path, ["x" * 100], bytes_max=50)
    assert [row.is_kept for row in history.rows] == [False]
    with pytest.raises(ConfigError, match="not kept"):
        history.texts(history.rows[0])


def test_numbers_go_on_where_the_oldest_went(tmp_path: pathlib.Path) -> None:
    history = filled(tmp_path, ["1", "22"], versions_max=1)
    history.add(*version("333"))
    assert [row.number for row in history.rows] == [3]


def test_damaged_version_is_an_error_and_no_policy(tmp_path: pathlib.Path) -> None:
    history = filled(tmp_path, ["one"])
    path = tmp_path / "00000001.texts"
    path.write_text(path.read_text().replace("one", "two"))
    with pytest.raises(ConfigError, match="damaged"):
        history.texts(history.rows[0])


def test_version_is_found_by_the_beginning_of_its_hash(tmp_path: pathlib.Path) -> None:
    history = filled(tmp_path, ["one", "three"])
    assert history.find(f"{5:064}"[:64]).number == 2
    with pytest.raises(ConfigError, match="not kept"):
        history.find("77")
