"""What web filters declare that they need, held against what they can take.

The registry asks when it compiles a rule. The invariant: a filter that could not be shown what it
needs blocks its rule at load, and is never found out by a client's request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sluicegate.filterapi import Direction, Need, Needs, Wants, WebFilter

if TYPE_CHECKING:
    from sluicegate.gate.registry import RulePlan

__all__ = ["has_hook", "lets_websockets", "objection_to_needs", "reads_messages"]


def objection_to_needs(web_filter: WebFilter) -> str:
    """Return why a filter cannot be shown what it says it needs; empty if it can."""
    needs = web_filter.needs
    for direction, need in ((_UPLOAD, needs.request), (_DOWNLOAD, needs.response)):
        hook = _HOOKS[direction].get(need, "")
        if hook and not has_hook(web_filter, hook):
            return f"it needs {need.name} of {_MESSAGES[direction]}s, and has no {hook}"
    for is_needed, hook, what in (
        (needs.messages, "on_message", "messages"),
        (needs.events, "on_event", "events"),
    ):
        if is_needed is not has_hook(web_filter, hook):
            if is_needed:
                return f"it needs {what}, and has no {hook}"
            return f"it has {hook}, and does not say that it needs {what}"
    if needs.object_bytes_max <= 0:
        return "its object_bytes_max is not above 0"
    if not needs.object_wait_s > 0:
        return "its object_wait_s is not above 0"
    return ""


def has_hook(web_filter: WebFilter, hook: str) -> bool:
    """Tell whether a filter has a hook of its own."""
    return getattr(type(web_filter), hook) is not getattr(WebFilter, hook)


def reads_messages(plan: RulePlan) -> bool:
    """Tell whether anybody under a rule is to see the messages of a WebSocket."""
    return bool(plan.content) or any(step.filter.needs.messages for step in plan.web)


def lets_websockets(plan: RulePlan) -> bool:
    """Tell whether a WebSocket shows every filter of a rule what it needs.

    A filter that looks into bodies, and not into messages, would not see what takes their place;
    nor would a content filter that asks for other protocols, or for types: a message has none.
    """
    if plan.must_inspect and not reads_messages(plan):
        return False
    if not all(_takes_messages(step.filter.wants) for step in plan.content):
        return False
    return all(one.messages or _sees_heads_alone(one) for one in _needs_of(plan))


def _takes_messages(wants: Wants) -> bool:
    return not wants.content_types and (not wants.protocols or "websocket" in wants.protocols)


def _needs_of(plan: RulePlan) -> list[Needs]:
    return [step.filter.needs for step in plan.web]


def _sees_heads_alone(needs: Needs) -> bool:
    return max(needs.request, needs.response) is Need.HEADERS and not needs.events


_UPLOAD: Final = Direction.UPLOAD
_DOWNLOAD: Final = Direction.DOWNLOAD
_MESSAGES: Final = {_UPLOAD: "request", _DOWNLOAD: "response"}
_HOOKS: Final = {
    _UPLOAD: {Need.STREAM: "on_request_chunk", Need.OBJECT: "on_request_body"},
    _DOWNLOAD: {Need.STREAM: "on_response_chunk", Need.OBJECT: "on_response_body"},
}
