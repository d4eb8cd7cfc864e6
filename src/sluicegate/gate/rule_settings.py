"""A rule's settings for a filter, typed and complete, made once when a policy is put in force.

``registry`` asks for them when it compiles a rule. The invariant: a filter that declares
``RuleSettings`` is never handed anything else, whatever a rule says or leaves out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import cast

from sluicegate.documents import merged
from sluicegate.errors import FILTER_ERRORS
from sluicegate.filterapi import AnyDataFilter, Filter, WebFilter

from .settings import PerConnection, PerRule
from .web.declared_needs import objection_to_needs

__all__ = ["maker_of", "rule_settings_of", "web_filter_of"]


def rule_settings_of(target: Filter, written: Mapping[str, object]) -> object:
    """Return what ``event.rule_settings`` is for a filter: its model, or else the table.

    Raises:
        ValueError: The table does not fit the model; the checks of a policy find that first.
    """
    declared: object = getattr(type(target), "RuleSettings", None)
    if not isinstance(declared, type):
        return written
    base: object = getattr(target, "settings", None)
    return merged(cast("type[object]", declared), written, base)


def maker_of(target: PerConnection, written: Mapping[str, object]) -> Callable[[], AnyDataFilter]:
    """Return what makes a data filter for each connection of a rule.

    Raises:
        ValueError: As ``rule_settings_of``.
    """
    if target.rule_settings is None:
        return target.make
    return functools.partial(target.make, merged(target.rule_settings, written, target.settings))


def web_filter_of(target: WebFilter | PerRule, written: Mapping[str, object]) -> WebFilter:
    """Return the web filter of a rule, made with its settings if it has a model of them.

    Raises:
        ValueError: As ``rule_settings_of``; or it cannot be made with them.
    """
    if isinstance(target, WebFilter):
        return _checked(target)
    settings = merged(target.rule_settings, written, target.settings)
    try:
        made = target.make(settings)
    except FILTER_ERRORS as error:
        raise ValueError(f"it cannot be made: {type(error).__name__}: {error}") from error
    return _checked(made)


def _checked(web_filter: WebFilter) -> WebFilter:
    objection = objection_to_needs(web_filter)
    if objection:
        raise ValueError(objection)
    return web_filter
