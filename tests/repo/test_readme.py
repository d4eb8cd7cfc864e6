"""The filters that people copy from the README and the how-to really work."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import pathlib
import re
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import Any

from sluicegate.buffer import ConstBuffer, Window
from sluicegate.errors import Side
from sluicegate.filterapi import LEAVE, ContentVerdict, Cut, Forward, Refuse, Release
from tests.repo.source_tree import DOCS, ROOT


def filter_on(page: pathlib.Path, name: str) -> Any:
    """Run the page's block that defines a class, and return an instance of it."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    source = next(block for block in blocks if f"class {name}(" in block)
    names: dict[str, Any] = {}
    exec(compile(source, str(page), "exec"), names)
    return names[name]()


class TransferAtRest:
    """As much of a transfer as the page's filter asks for."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.head = body[:4096]

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[TransferAtRest]:
        yield self

    def blocking_file(self) -> io.BytesIO:
        return io.BytesIO(self.body)

    async def run_blocking(self, function: Callable[..., object], *args: object) -> object:
        return function(*args)


def archive_with(name: str) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr(name, "content")
    return body.getvalue()


def verdict_of_readme(body: bytes) -> ContentVerdict:
    filter_ = filter_on(ROOT / "README.md", "NoMacros")
    return asyncio.run(filter_.inspect(TransferAtRest(body)))


def test_filter_of_the_readme_refuses_a_document_with_macros() -> None:
    assert verdict_of_readme(archive_with("word/vbaProject.bin")) == Refuse("macro document")


def test_filter_of_the_readme_releases_what_has_no_macros() -> None:
    assert verdict_of_readme(archive_with("word/document.xml")) == Release()
    assert verdict_of_readme(b"plain text") == Release()


def test_stream_filter_of_the_howto_leaves_ssh_alone_and_cuts_the_rest() -> None:
    only_ssh = filter_on(DOCS / "howto" / "write-a-filter.md", "OnlySsh")

    def answer(data: bytes) -> object:
        return only_ssh.on_data(Side.CLIENT, Window(ConstBuffer(data), 0, len(data)))

    assert answer(b"SSH-2.0-client\r\n") == LEAVE
    assert answer(b"SS") == Forward(0)
    assert answer(b"GET / HTTP/1.1\r\n") == Cut("not an SSH client")


def bare(source: str) -> str:
    """Leave out what the README leaves out: docstrings, and that a method overrides one."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node):
                del node.body[0]
            if not isinstance(node, ast.Module):
                node.decorator_list = []
    return ast.unparse(tree).replace("from typing_extensions import override\n", "")


def test_filter_of_the_readme_is_the_example() -> None:
    example = (ROOT / "examples" / "filters" / "no_macros.py").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition("```python\n")[2].partition("```")[0]
    assert bare(block) == bare(example)
