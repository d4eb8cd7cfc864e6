"""The operator's refusal pages: templates in a folder, read and checked at load.

``load`` calls it for ``[web]``. The invariant: a template that is put in force is one that can be
filled in, and a file that would never be used is found here.
"""

from __future__ import annotations

import re
from typing import Final

import pydantic

from sluicegate.documents import Document, Findings, Model
from sluicegate.gate.web.refusal_page import DEFAULT_PAGES, RefusalPages
from sluicegate.gate.web.refusal_template import RefusalTemplate, TemplateError

from .parent_proxies import ParentProxyTable
from .secret_files import SecretFiles

__all__ = ["WebTable", "load_refusal_pages"]


class WebTable(Model):
    """``[web]``."""

    refusal_pages: str = pydantic.Field(default="", examples=["pages"])
    """A folder with ``refusal.html``, and ``refusal-403.html`` for one status; empty: the gate's
    own page."""
    parent_proxy: tuple[ParentProxyTable, ...] = ()
    """Where requests for some hosts are sent on; the first that serves a host gets them."""


def load_refusal_pages(
    table: WebTable, files: SecretFiles, document: Document, findings: Findings
) -> RefusalPages:
    """Return the pages of a gate; what is wrong with one is a finding."""
    folder = table.refusal_pages
    if not folder:
        return DEFAULT_PAGES
    names = files.list_folder(folder, document, _AT, findings)
    if names is None:
        return DEFAULT_PAGES
    default, by_status = DEFAULT_PAGES.default, dict[int, RefusalTemplate]()
    is_any = False
    for name in names:
        if not name.endswith(_SUFFIXES):
            continue
        found = _NAME.fullmatch(name)
        if found is None:
            findings.refuse(f"{folder}/{name}", "is no template of a refusal page", _CURE)
            continue
        is_any = True
        text = files.read_file(f"{folder}/{name}", document, _AT, findings)
        template = None if text is None else _template(text, f"{folder}/{name}", findings)
        if template is not None and found[1] is None:
            default = template
        elif template is not None:
            by_status[int(found[1])] = template
    if not is_any and not findings.errors:
        findings.refuse(document.where(_AT), f"there is no template in {folder!r}", _CURE)
    return RefusalPages(default, by_status)


def _template(text: str, name: str, findings: Findings) -> RefusalTemplate | None:
    try:
        return RefusalTemplate(text)
    except TemplateError as error:
        findings.refuse(f"{name}:{error.line}", error.cause, error.cure)
        return None


_AT: Final = ("web", "refusal_pages")
_SUFFIXES: Final = (".html", ".htm")
_NAME: Final = re.compile(r"refusal(?:-([45][0-9]{2}))?\.html")
_CURE: Final = "templates are called refusal.html, and refusal-403.html for one status"
