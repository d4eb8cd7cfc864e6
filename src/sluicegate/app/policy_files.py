"""The files of a policy: the main one, those it includes, and the lists that its objects name.

``load`` reads them with ``read_policy_texts``; the supervisor hands the same texts to its workers.
The invariant: a file that cannot be read is a finding, never an empty one: a list of blocked
networks that is missing must not block nothing.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Iterator, Mapping

from sluicegate.documents import Findings
from sluicegate.policy import PolicyText, PolicyTexts, find_includes, find_lists
from sluicegate.policy_limits import (
    POLICY_FILE_BYTES_MAX,
    POLICY_INCLUDES_MAX,
    POLICY_LIST_BYTES_MAX,
)

from .service_config import read_text

__all__ = ["read_policy_texts"]


def read_policy_texts(
    path: pathlib.Path, findings: Findings, proposed: Mapping[str, str] | None = None
) -> PolicyTexts | None:
    """Read everything that a policy consists of; None, with findings, if any of it is unreadable.

    Args:
        path: Of the main file; what it names is found from its folder.
        findings: Where errors go.
        proposed: Texts, by the names of files, that are taken in place of those on disk.
    """
    errors = len(findings.errors)
    given = proposed or {}
    main = given.get(path.name)
    if main is None:
        main = _read(path, path.name, POLICY_FILE_BYTES_MAX, findings, _WHERE_CURE)
    if main is None:
        return None
    folder = path.parent
    before, after = (
        tuple(_read_included(folder, names, path.name, findings, given))
        for names in find_includes(main)
    )
    lists: dict[str, str] = {}
    for text in (main, *(one.text for one in (*before, *after))):
        for name in find_lists(text):
            if name not in lists:
                found = given.get(name)
                if found is None:
                    found = _read(folder / name, name, POLICY_LIST_BYTES_MAX, findings, _LIST_CURE)
                lists[name] = found or ""
    if len(findings.errors) > errors:
        return None
    return PolicyTexts(main, before, after, lists)


def _read_included(
    folder: pathlib.Path,
    names: Iterable[str],
    main: str,
    findings: Findings,
    given: Mapping[str, str],
) -> Iterator[PolicyText]:
    """Read files and folders of files, in the order of their names."""
    paths = [path for name in names for path in _expand(folder / name, findings)]
    if len(paths) > POLICY_INCLUDES_MAX:
        cause = f"names {len(paths)} files; {POLICY_INCLUDES_MAX} are the most"
        findings.refuse(f"{main}: include", cause, "put rules that belong together into one file")
        return
    for path in paths:
        shown = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
        text = given.get(shown)
        if text is None:
            text = _read(path, shown, POLICY_FILE_BYTES_MAX, findings, _INCLUDE_CURE)
        if text is not None:
            yield PolicyText(shown, text)


def _expand(path: pathlib.Path, findings: Findings) -> list[pathlib.Path]:
    if not path.is_dir():
        return [path]
    try:
        return sorted(one for one in path.iterdir() if one.suffix == ".toml")
    except OSError as error:
        findings.refuse(str(path), f"cannot be read: {error.strerror}", _INCLUDE_CURE)
        return []


def _read(
    path: pathlib.Path, name: str, bytes_max: int, findings: Findings, cure: str
) -> str | None:
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # reading it says why
    if size > bytes_max:
        findings.refuse(name, f"has {size} bytes; {bytes_max} are the most", "split it")
        return None
    return read_text(path, findings, cure)


_WHERE_CURE = 'say where it is: "policy" in [service]'
_INCLUDE_CURE = "paths in include begin at the folder of the main file"
_LIST_CURE = "paths of lists begin at the folder of the main file"
