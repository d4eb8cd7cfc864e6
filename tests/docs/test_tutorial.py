"""Every block of the tutorial does what the page says, in its order, in one folder."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.page_runner import fits, page_runner
from tests.repo.source_tree import DOCS

TUTORIAL = DOCS / "tutorial"


def pages() -> list[Path]:
    """The pages in the order of their table of contents."""
    index = (TUTORIAL / "index.md").read_text(encoding="utf-8")
    listed = index.partition(":maxdepth: 1\n\n")[2].partition("```")[0].split()
    return [TUTORIAL / f"{name}.md" for name in listed]


def test_tutorial_does_what_it_says(tmp_path: Path) -> None:
    with page_runner(tmp_path, "8000", "8080") as runner:
        for page in pages():
            runner.run_page(page)
    blocks = sum(len(re.findall(r"^```\w", p.read_text("utf-8"), re.MULTILINE)) for p in pages())
    assert len(runner.ran) == blocks
    assert {"python", "toml", "console", "text"} <= set(runner.ran)


def test_ellipsis_stands_for_anything_and_nothing_else_does() -> None:
    assert fits("a …\n…\nend", "a long\nand\nmore\nend\n")
    assert fits("…", "whatever")
    assert fits("", "")
    assert not fits("a", "a\nb")
    assert not fits("a …", "b c")
