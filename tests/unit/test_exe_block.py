"""ExeBlock's judgement: what is found, where it looks, and what it refuses to guess about."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sluicegate.bundled.exe_block import ExeBlock, ExeBlockSettings
from sluicegate.filterapi import (
    ContentVerdict,
    Direction,
    Refuse,
    Release,
    SocketAddress,
    TransferOffer,
)

PE = bytearray(200)
PE[:2], PE[0x3C], PE[0x80:0x84] = b"MZ", 0x80, b"PE\0\0"
PE = bytes(PE)
ELF = b"\x7fELF" + bytes(100)
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c" + bytes(100)


class File:
    def __init__(self, content: bytes) -> None:
        self.content = content

    async def read_at(self, offset: int, count: int) -> bytes:
        return self.content[offset : offset + count]

    def blocking_file(self) -> io.BytesIO:
        return io.BytesIO(self.content)


class Connection:
    client_address = SocketAddress("10.1.2.3", 40000)


class Transfer:
    """A whole object at rest."""

    connection = Connection()

    def __init__(self, content: bytes, **offer: Any) -> None:
        self.content = content
        known = {"name": "object", "direction": Direction.DOWNLOAD, "protocol": "ftp"}
        self.offer = TransferOffer(**(known | offer))

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[File]:
        yield File(self.content)

    async def run_blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


def judge(content: bytes, settings: dict[str, Any] | None = None, **offer: Any) -> ContentVerdict:
    block = ExeBlock(ExeBlockSettings(**(settings or {})))
    return asyncio.run(block.inspect(Transfer(content, **offer)))


def zipped(**members: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return archive.getvalue()


def tarred(content: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as opened:
        member = tarfile.TarInfo("member")
        member.size = len(content)
        opened.addfile(member, io.BytesIO(content))
    return archive.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PE, "Windows (PE) executable"),
        (b"MZ" + bytes(100), "DOS (MZ) executable"),
        (ELF, "Linux (ELF) executable"),
        (b"\xcf\xfa\xed\xfe" + bytes(100), "macOS (Mach-O) executable"),
        (b"\xca\xfe\xba\xbe\0\0\0\2" + bytes(100), "macOS (universal Mach-O) executable"),
        (zipped(a=b"x", b=PE), "pe executable inside zip archive (b)"),
        (tarred(ELF), "elf executable inside tar archive (member)"),
        (gzip.compress(tarred(ELF)), "elf executable inside gzip archive (member)"),
        (zipped(inner=zipped(tool=ELF)), "elf executable inside zip archive (inner/tool)"),
    ],
)
def test_executables_are_refused_with_what_was_found_and_where(content, reason):
    assert judge(content) == Refuse(reason)


@pytest.mark.parametrize(
    "content", [b"", b"M", b"text", b"#!/bin/sh\n", zipped(a=b"x"), gzip.compress(b"text")]
)
def test_what_is_none_is_released(content):
    assert judge(content) == Release()


def test_scripts_count_where_it_is_configured():
    assert judge(b"#!/bin/sh\n", {"scripts": True}) == Refuse("script (#!) executable")


def test_only_the_configured_archives_are_looked_into():
    passing = {"archives": ["gzip"], "other_archives": "pass"}
    assert judge(zipped(a=PE), passing) == Release()
    assert judge(gzip.compress(zipped(a=PE)), passing) == Release()
    assert isinstance(judge(gzip.compress(PE), passing), Refuse)


@pytest.mark.parametrize("content", [SEVEN_ZIP, zipped(a=SEVEN_ZIP), gzip.compress(SEVEN_ZIP)])
def test_archives_into_which_it_cannot_look_are_refused_unless_the_operator_lets_them_pass(content):
    assert isinstance(judge(content), Refuse)
    assert judge(content, {"other_archives": "pass"}) == Release()


def test_archives_that_are_left_out_are_refused_like_those_it_does_not_know():
    settings = {"archives": ["gzip"]}
    assert judge(zipped(a=b"x"), settings) == Refuse("zip archive, into which is not looked")
    inside = judge(gzip.compress(zipped(a=b"x")), settings)
    assert inside == Refuse(
        "gzip archive cannot be looked into: it holds a zip archive, into which is not looked"
    )


def test_damaged_archive_is_refused():
    verdict = judge(zipped(a=b"x" * 1000)[:-30])
    assert isinstance(verdict, Refuse)
    assert verdict.reason.startswith("zip archive cannot be looked into: ")


@pytest.mark.parametrize("content", [b"\r" + PE, b"\r\rM\rZ" + PE[2:], b"\r\x7fELF" + bytes(9)])
def test_carriage_returns_that_a_server_may_drop_do_not_hide_executables(content):
    assert judge(content) == Release()
    assert isinstance(judge(content, is_text=True), Refuse)


def test_archives_in_text_mode_are_refused_because_the_receiver_gets_others():
    verdict = judge(zipped(a=b"x"), is_text=True)
    assert verdict == Refuse("zip archive in ASCII mode: use binary mode (TYPE I)")


@pytest.mark.parametrize(
    ("settings", "offer"),
    [
        ({"exempt_names": ["*.exe"]}, {"name": "a/b.exe"}),
        ({"exempt_users": ["bot"]}, {"user": "bot"}),
        ({"exempt_clients": ["10.1.2.0/24"]}, {}),
    ],
)
def test_exemptions_are_by_name_user_and_client(settings, offer):
    assert judge(PE, settings, **offer) == Release()
    assert isinstance(judge(PE, settings | {"exempt_clients": []}, name="x", user="y"), Refuse)


@pytest.mark.parametrize("name", ["a/drivers/../evil.exe", "a\\drivers\\..\\evil.exe"])
def test_a_name_that_leaves_the_folder_it_names_is_not_exempted(name):
    settings = {"exempt_names": ["*drivers*.exe"]}
    assert judge(PE, settings, name="a/drivers/good..exe") == Release()
    assert isinstance(judge(PE, settings, name=name), Refuse)


def test_an_empty_user_is_nobodys_exemption():
    assert isinstance(judge(PE, {"exempt_users": [""]}), Refuse)


@pytest.mark.parametrize(
    "settings",
    [
        {"exempt_clients": ["10.1.2.3/8"]},
        {"exempt_clients": [10]},
        {"exempt_clients": ["::ffff:10.0.0.0/104"]},
        {"exempt_clients": ["fe80::1%eth0"]},
        {"archives": ["rar"]},
        {"other_archives": "maybe"},
        {"unknown": 1},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        ExeBlockSettings(**settings)


@given(st.binary(max_size=300), st.booleans())
def test_any_content_gets_a_verdict(content, is_text):
    assert isinstance(judge(content, is_text=is_text), Release | Refuse)
