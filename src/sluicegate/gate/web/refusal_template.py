"""Templates of refusal pages: HTML with a few named places, checked before they are ever used.

``app`` reads an operator's from a folder, ``refusal_page`` fills them. The invariant: what is
filled in stands between tags and is escaped, and the page asks for nothing from anywhere: no
template that exists can be made to run a script or to load a thing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import html.parser
import re
from collections.abc import Mapping
from typing import Final

from typing_extensions import override

__all__ = ["PLACES", "RefusalTemplate", "TemplateError"]

PLACES: Final = frozenset({"reason", "record", "rule", "status", "title"})
"""What a template may name, as ``$reason``; ``$$`` is a dollar sign."""


class TemplateError(ValueError):
    """A template cannot be used: what, and in which line."""

    def __init__(self, line: int, cause: str, cure: str = "") -> None:
        super().__init__(f"line {line}: {cause}")
        self.line = line
        self.cause = cause
        self.cure = cure


class RefusalTemplate:
    """One checked template; immutable."""

    __slots__ = ("_parts", "style_sources")

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises:
            TemplateError: It has a place where none can be, or something that no browser would load
                or run on this page.
        """
        self._parts = _split(text)
        reader = _Reader()
        reader.feed(text)
        reader.close()
        if "record" not in {name for _, name in self._parts}:
            raise TemplateError(
                1, "it does not say $record", "with it, people who were refused can be helped"
            )
        self.style_sources = " ".join(_source_of(style) for style in reader.styles)
        #: What a content security policy has to allow for its ``<style>`` elements.

    def fill(self, values: Mapping[str, str]) -> bytes:
        """Return the page.

        Args:
            values: Text for each of ``PLACES``; it is escaped here.
        """
        pieces: list[str] = []
        for literal, name in self._parts:
            pieces.append(literal)
            if name:
                pieces.append(html.escape(values[name]))
        return "".join(pieces).encode()


def _split(text: str) -> list[tuple[str, str]]:
    """Return pairs of literal text and the name of the place behind it; the last name is empty."""
    parts: list[tuple[str, str]] = []
    literal, at = "", 0
    for found in _PLACE.finditer(text):
        literal += text[at : found.start()]
        at = found.end()
        name = found[1]
        if name == "$":
            literal += "$"
            continue
        if name not in PLACES:
            line = text.count("\n", 0, found.start()) + 1
            known = ", ".join(f"${one}" for one in sorted(PLACES))
            raise TemplateError(line, f"there is no place {found[0]!r}", f"{known}, or $$ for $")
        parts.append((literal, name))
        literal = ""
    parts.append((literal + text[at:], ""))
    return parts


class _Reader(html.parser.HTMLParser):
    """Finds what must not be in a template, and its styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.styles: list[str] = []
        self._is_in_style = False

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _TAGS_REFUSED:
            raise self._refused(f"<{tag}> has no use here: this page runs and loads nothing")
        self._check_places(self.get_starttag_text() or "", f"inside the tag <{tag}>")
        for name, value in attrs:
            self._check_attribute(tag, name, value or "")
        if tag == "style":
            self._is_in_style = True
            self.styles.append("")

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._is_in_style = False

    @override
    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._is_in_style = False

    @override
    def handle_data(self, data: str) -> None:
        if self._is_in_style:
            self._check_places(data, "inside <style>")
            if "$" in data or "url(" in data.lower() or "@import" in data.lower():
                raise self._refused("a style with $, url() or @import")
            self.styles[-1] += data

    @override
    def handle_comment(self, data: str) -> None:
        self._check_places(data, "inside a comment")

    @override
    def handle_decl(self, decl: str) -> None:
        if decl.lower() != "doctype html":
            raise self._refused(f"<!{decl[:20]}> is not <!doctype html>")

    @override
    def unknown_decl(self, data: str) -> None:
        raise self._refused("a section in square brackets")

    @override
    def handle_pi(self, data: str) -> None:
        raise self._refused("a processing instruction")

    def _check_attribute(self, tag: str, name: str, value: str) -> None:
        if name.startswith("on") or name == "style":
            raise self._refused(f"the attribute {name} does nothing on this page", "use <style>")
        if name in _LOADING and not value.lower().startswith("data:image/"):
            raise self._refused(f"{name} loads something", "put images in as data:image/… URLs")
        if name == "href" and not _LINK.fullmatch(value):
            raise self._refused("a link that is no https, http or mailto URL")
        if tag == "meta" and name == "http-equiv":
            raise self._refused("http-equiv is set by the gate")

    def _check_places(self, text: str, where: str) -> None:
        if _PLACE.sub(lambda found: "" if found[1] == "$" else "\0", text).count("\0"):
            raise self._refused(f"a place {where}", "put it between tags, where text stands")

    def _refused(self, cause: str, cure: str = "take it out") -> TemplateError:
        return TemplateError(self.getpos()[0], cause, cure)


def _source_of(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"'sha256-{digest}'"


_PLACE: Final = re.compile(r"\$(\$|[A-Za-z_]\w*|\{\w*\}|)")
_TAGS_REFUSED: Final = frozenset(
    {
        "applet", "audio", "base", "button", "embed", "form", "frame", "frameset", "iframe",
        "input", "link", "math", "noscript", "object", "plaintext", "portal", "script", "select",
        "svg", "template", "textarea", "video", "xmp",
    }
)  # fmt: skip
_LOADING: Final = frozenset(
    {"action", "background", "cite", "data", "formaction", "manifest", "ping", "poster", "src",
     "srcset", "xlink:href"}
)  # fmt: skip
_LINK: Final = re.compile(r"(?:https?://|mailto:)[!-~]+|#[\w-]*", re.IGNORECASE)
