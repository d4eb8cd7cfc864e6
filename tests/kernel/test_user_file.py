"""The users file on disk: who may read and write it, and that no change is ever lost."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pathlib
import stat
import threading

import pytest

from sluicegate.access_limits import (
    USERS_FILE_BYTES_MAX,
)
from sluicegate.documents import Findings
from sluicegate.errors import ConfigError
from sluicegate.identity import UserFile, Users, read_users, user_file
from sluicegate.identity.passwords import make_dummy_hash
from sluicegate.identity.users import User
from tests.unit.identity_kit import CHEAP, user

pytestmark = pytest.mark.either_driver

HASH = make_dummy_hash(CHEAP)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "users.toml"


def people(path: pathlib.Path) -> list[str]:
    findings = Findings()
    users = read_users(path, findings)
    findings.raise_errors()
    assert isinstance(users, Users)
    return [one.name for one in users]


def left_behind(path: pathlib.Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir())


def test_first_user_makes_a_file_that_only_its_owner_reads(path: pathlib.Path) -> None:
    UserFile(path).add(user("ann"))

    assert people(path) == ["ann"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("# Who may use this gate")
    assert left_behind(path) == [".users.toml.lock", "users.toml"]


def test_users_are_added_replaced_and_removed(path: pathlib.Path) -> None:
    file = UserFile(path)

    assert not file.add(user("ann"))
    assert not file.add(user("bob"), may_replace=True)
    assert file.add(user("ann", "other words"), may_replace=True)
    file.remove("bob")

    assert people(path) == ["ann"]


def test_known_user_is_not_replaced_unasked(path: pathlib.Path) -> None:
    UserFile(path).add(user("ann"))
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="there is a user 'ann' already") as refused:
        UserFile(path).add(user("ann", "other words"))

    assert "--replace" in refused.value.cure
    assert path.read_bytes() == before


def test_file_that_is_missing_has_nobody_to_remove(path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        UserFile(path).remove("ann")

    assert left_behind(path) == [".users.toml.lock"]


@pytest.mark.parametrize(
    ("mode", "word"),
    [
        (0o620, "others can write it"),
        (0o602, "others can write it"),
        (0o666, "others can write it"),
        (0o604, "everybody can read"),
        (0o644, "everybody can read"),
    ],
)
def test_file_that_is_open_to_others_is_refused(path: pathlib.Path, mode: int, word: str) -> None:
    UserFile(path).add(user("ann"))
    path.chmod(mode)
    findings = Findings()

    assert read_users(path, findings) is None
    assert word in findings.errors[0].cause
    assert findings.errors[0].cure == f"chmod 0600 {path}"
    with pytest.raises(ConfigError, match=word):
        UserFile(path).add(user("bob"))


def test_file_that_its_group_can_read_is_warned_of_and_stays_so(path: pathlib.Path) -> None:
    UserFile(path).add(user("ann"))
    path.chmod(0o640)
    findings = Findings()

    assert read_users(path, findings) is not None
    assert [warning.cause for warning in findings.warnings] == [
        "its group can read the password hashes"
    ]
    UserFile(path).add(user("bob"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_is_kept_and_a_strangers_file_is_refused(path: pathlib.Path) -> None:
    UserFile(path).add(user("ann"))
    os.chown(path, 0, 12345)
    UserFile(path).add(user("bob"))
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 12345)

    os.chown(path, 12345, 0)
    findings = Findings()

    assert read_users(path, findings) is None
    assert "belongs to the user 12345" in findings.errors[0].cause


def test_what_is_no_file_is_refused_at_once(path: pathlib.Path) -> None:
    os.mkfifo(path, 0o600)
    findings = Findings()

    assert read_users(path, findings) is None
    assert findings.errors[0].cause == "is not a file"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"\n\n\xff", "not UTF-8"),
        (b"#" * (USERS_FILE_BYTES_MAX + 1), f"is longer than {USERS_FILE_BYTES_MAX} bytes"),
    ],
)
def test_content_that_is_no_users_file_is_refused(
    path: pathlib.Path, content: bytes, cause: str
) -> None:
    path.touch(0o600)
    path.write_bytes(content)
    findings = Findings()

    assert read_users(path, findings) is None
    assert findings.errors[0].cause == cause


def test_link_to_the_file_stays_a_link(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    UserFile(path).add(user("ann"))
    link = tmp_path / "link.toml"
    link.symlink_to(path)

    UserFile(link).add(user("bob"))

    assert link.is_symlink()
    assert people(path) == ["ann", "bob"]


def test_planted_lock_is_not_followed(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path.with_name(".users.toml.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigError, match="cannot be changed"):
        UserFile(path).add(user("ann"))

    assert not (tmp_path / "elsewhere").exists()


def add_ten(path: pathlib.Path, prefix: str) -> None:
    for number in range(10):
        UserFile(path).add(User(f"{prefix}{number}", HASH))


def test_no_update_of_two_writers_is_lost(path: pathlib.Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_ten, args=(path, prefix)) for prefix in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert sorted(people(path)) == sorted(f"{p}{n}" for p in "abc" for n in range(10))


def test_writers_of_one_process_take_turns_too(path: pathlib.Path) -> None:
    threads = [threading.Thread(target=add_ten, args=(path, prefix)) for prefix in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(people(path)) == 20


def test_file_that_an_editor_changed_meanwhile_is_left_alone(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    UserFile(path).add(user("ann"))
    real_fsync = os.fsync

    def changed_by_hand(descriptor: int) -> None:
        path.write_text(path.read_text() + "# by hand\n")
        real_fsync(descriptor)

    monkeypatch.setattr(user_file.os, "fsync", changed_by_hand)

    with pytest.raises(ConfigError, match="somebody else changed it"):
        UserFile(path).add(user("bob"))

    assert path.read_text().endswith("# by hand\n")
    assert left_behind(path) == [".users.toml.lock", "users.toml"]


def test_full_disk_changes_nothing_and_leaves_nothing(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    UserFile(path).add(user("ann"))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(user_file.os, "fsync", full)

    with pytest.raises(ConfigError, match="No space left on device"):
        UserFile(path).add(user("bob"))

    assert path.read_bytes() == before
    assert left_behind(path) == [".users.toml.lock", "users.toml"]


def test_new_version_is_on_disk_before_its_name_and_the_name_after(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, pathlib.Path.replace

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("sync folder" if is_folder else "sync file")
        real_fsync(descriptor)

    def replace(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        steps.append("rename")
        return real_replace(source, target)

    monkeypatch.setattr(user_file.os, "fsync", fsync)
    monkeypatch.setattr(pathlib.Path, "replace", replace)
    UserFile(path).add(user("ann"))

    assert steps == ["sync file", "rename", "sync folder"]
