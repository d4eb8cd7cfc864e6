"""The spool's directory on a real file system: files without names, and what start-up refuses."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from sluicegate.errors import ConfigError, LimitExceeded, TransportError
from sluicegate.limits import Limits
from sluicegate.spool import SpoolDirectory

LIMITS = Limits(spool_free_bytes_min=0, spool_free_inodes_min=0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir(mode=0o700)
    return path


def check_private_and_nameless(directory: Path, descriptor: int) -> None:
    try:
        status = os.fstat(descriptor)
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_nlink == 0
        assert not os.get_inheritable(descriptor)
        assert os.listdir(directory) == []
    finally:
        os.close(descriptor)


def test_spool_file_has_no_name_and_is_private(directory: Path) -> None:
    opened = SpoolDirectory(directory, LIMITS).open_file()
    assert opened.free_bytes > 0
    check_private_and_nameless(directory, opened.descriptor)


def test_spool_file_cannot_be_given_a_name_later(directory: Path) -> None:
    descriptor = SpoolDirectory(directory, LIMITS).open_file().descriptor
    folder = os.open(directory, os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        # With a folder's descriptor Python calls linkat(2), which would follow the link.
        os.link(f"/proc/self/fd/{descriptor}", "found", dst_dir_fd=folder)
    os.close(folder)
    os.close(descriptor)


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EISDIR])
def test_file_system_without_tmpfile_gets_a_name_that_is_gone_at_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    really_open = os.open
    asked: list[object] = []

    def open_without_tmpfile(path: object, flags: int, mode: int = 0o777) -> int:
        asked.append(path)
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(refusal, os.strerror(refusal))
        return really_open(path, flags, mode)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", open_without_tmpfile)
    spool = SpoolDirectory(directory, LIMITS)
    check_private_and_nameless(directory, spool.open_file().descriptor)
    check_private_and_nameless(directory, spool.open_file().descriptor)
    assert len(asked) == 3, "a file system that refused is not asked again"


def test_good_directory_passes_without_warning(directory: Path) -> None:
    assert SpoolDirectory(directory, LIMITS).check() == []


def test_directory_in_memory_is_warned_of() -> None:
    path = Path("/dev/shm/sluicegate-test-spool")
    path.mkdir(mode=0o700)
    try:
        warnings = SpoolDirectory(path, LIMITS).check()
    finally:
        path.rmdir()
    assert len(warnings) == 1
    assert "tmpfs" in warnings[0]


def test_missing_directory_says_how_to_make_it(directory: Path) -> None:
    with pytest.raises(ConfigError, match="mkdir -m 700"):
        SpoolDirectory(directory / "missing", LIMITS).check()


def test_file_in_place_of_the_directory_is_refused(directory: Path) -> None:
    (directory / "file").touch()
    with pytest.raises(ConfigError, match="not a directory"):
        SpoolDirectory(directory / "file", LIMITS).check()


def test_link_in_place_of_the_directory_is_refused(directory: Path) -> None:
    (directory / "link").symlink_to(directory)
    with pytest.raises(ConfigError, match="not a directory"):
        SpoolDirectory(directory / "link", LIMITS).check()


def test_directory_that_others_may_enter_is_refused(directory: Path) -> None:
    directory.chmod(0o750)
    with pytest.raises(ConfigError, match="chmod 700"):
        SpoolDirectory(directory, LIMITS).check()


def test_directory_of_another_user_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    with pytest.raises(ConfigError, match=f"chown {somebody}"):
        SpoolDirectory(directory, LIMITS).check()


@pytest.mark.parametrize("limit", ["spool_free_bytes_min", "spool_free_inodes_min"])
def test_full_file_system_is_refused_by_the_limit_that_it_breaks(
    directory: Path, limit: str
) -> None:
    if limit == "spool_free_inodes_min" and not os.statvfs(directory).f_files:
        limit = "spool_free_bytes_min"  # the file system makes inodes as needed
    limits = Limits(**{"spool_free_bytes_min": 0, "spool_free_inodes_min": 0} | {limit: 1 << 60})
    with pytest.raises(LimitExceeded, match=limit):
        SpoolDirectory(directory, limits).open_file()
    with pytest.raises(ConfigError, match=f"{limit} reached.* or lower"):
        SpoolDirectory(directory, limits).check()


def test_directory_that_vanished_is_an_error_of_the_world(directory: Path) -> None:
    spool = SpoolDirectory(directory, LIMITS)
    directory.rmdir()
    with pytest.raises(TransportError):
        spool.open_file()
