"""Lets Sphinx read our field comments, which stand below the field they explain.

Sphinx takes a ``#:`` comment for the field that *follows*; a string below a field for the one
*above*. Our sources write ``#:`` below, so that the name is read first. ``conf.py`` calls
``install``; sources are rewritten in Sphinx's memory only, line for line.
"""

import re

from sphinx.pycode import ModuleAnalyzer

COMMENT = re.compile(r"^(?P<indent>\s+)#: ?(?P<text>.*)$")


def install() -> None:
    """Make Sphinx's analyzer see strings where a comment stands below its field."""
    original = ModuleAnalyzer.__init__

    def with_strings(self: ModuleAnalyzer, source: str, modname: str, srcname: str) -> None:
        original(self, comments_to_strings(source), modname, srcname)

    ModuleAnalyzer.__init__ = with_strings  # type: ignore[method-assign] # no hook exists


def comments_to_strings(source: str) -> str:
    """Turn each block of ``#:`` lines that follows a statement into a string."""
    lines = source.split("\n")
    index = 0
    while index < len(lines):
        end = index
        while end < len(lines) and COMMENT.match(lines[end]):
            end += 1
        if end > index and is_statement_end(lines[index - 1]):
            found = [COMMENT.match(line) for line in lines[index:end]]
            texts = [match["text"] for match in found if match]
            indent = found[0]["indent"] if found[0] else ""
            quoted = ('r"""' + f"\n{indent}".join(texts) + '"""').split("\n")
            lines[index:end] = [indent + quoted[0], *quoted[1:]]
        index = max(end, index + 1)
    return "\n".join(lines)


def is_statement_end(line: str) -> bool:
    """Tell whether the line before a comment ends a field, so that the comment is about it."""
    text = line.strip()
    return bool(text) and not text.startswith("#") and not text.endswith((":", '"""'))
