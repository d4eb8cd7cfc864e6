"""The rules in force, as people read them: in order, as they were written, and which never decide.

``desk`` answers with them. The invariant: every rule of the policy is there once, in the order in
which it is tried; a text that cannot be found is empty, never another rule's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

from sluicegate.app.load import Loaded
from sluicegate.documents.places import locate_keys
from sluicegate.gate.policy_orders import RuleView
from sluicegate.policy import AnyRule, Publication, Rule
from sluicegate.policy.shadowing import shadowed_rules

from .policy_texts import files_of

__all__ = ["rule_views"]

_KINDS: Final = ("publish", "rule")
_OWN_SERVER: Final = "earlier publications"


class _Text(NamedTuple):
    place: str
    text: str


def rule_views(loaded: Loaded) -> list[RuleView]:
    """Return the rules in the order in which they are tried."""
    snapshot = loaded.settings.policy
    proxies = [one.name for one in loaded.configuration.listeners if one.entry is not None]
    covered = {
        rule.name: [one.name for one in covers]
        for rule, covers in shadowed_rules(snapshot, dict.fromkeys(proxies))
    }
    covered |= {one.name: [_OWN_SERVER] for one in snapshot.unreachable()}
    texts = _texts_of(loaded)
    return [
        _view(one, texts.get(one.name, _Text("", "")), covered.get(one.name, []))
        for one in snapshot.policy.all_rules
    ]


def _view(rule: AnyRule, text: _Text, covered_by: list[str]) -> RuleView:
    view = RuleView(
        name=rule.name,
        kind="publish" if isinstance(rule, Publication) else "rule",
        action="publish" if isinstance(rule, Publication) else rule.action.value,
        place=text.place,
        text=text.text,
        is_enabled=rule.is_enabled,
        clients=_written(rule, "clients", [str(one) for one in rule.clients]),
        filters=list(rule.filters),
        owner=rule.owner,
        comment=rule.comment,
        expires=rule.expires or 0.0,
        has_schedule=rule.schedule is not None,
        covered_by=covered_by,
    )
    if isinstance(rule, Rule):
        view.listeners = list(rule.listeners or ())
        view.users = list(rule.users or ())
        view.to = _written(rule, "to", rule.to.texts())
        view.protocols = _written(rule, "protocols", [str(one) for one in rule.protocols])
    else:
        view.listeners, view.to = [rule.listener], [str(rule.server)]
        view.protocols = [rule.protocol] if rule.protocol else []
    return view


def _written(rule: AnyRule, key: str, texts: list[str]) -> list[str]:
    """Return what an operator wrote for a key, with its ``@names``, or else what it means."""
    return list(rule.written.get(key, ())) or texts


def _texts_of(loaded: Loaded) -> dict[str, _Text]:
    lists = loaded.texts.policy.lists
    found: dict[str, _Text] = {}
    for file in files_of(loaded.texts.policy, loaded.configuration.policy_path.name):
        if file.name not in lists:
            found.update(_tables_of(file.name, file.text))
    return found


def _tables_of(name: str, text: str) -> Iterator[tuple[str, _Text]]:
    """Yield the tables of the rules of one file, by the names of the rules."""
    tree, lines = tomllib.loads(text), text.splitlines()
    places = locate_keys(text)
    for kind in _KINDS:
        tables = cast("list[dict[str, Any]]", tree.get(kind, []))
        for index, table in enumerate(tables):
            at = (kind, index)
            first = places.get(at)
            if first is None:
                continue
            after = [line for path, line in places.items() if path[:2] != at and line > first]
            last = min(after, default=len(lines) + 1) - 1
            own = _without_what_follows(lines[first - 1 : last])
            yield str(table.get("name", "")), _Text(f"{name}:{first}", "\n".join(own))


def _without_what_follows(lines: list[str]) -> list[str]:
    """Leave out comments and empty lines at the end: they belong to the next table."""
    end = len(lines)
    while end > 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return lines[:end]
