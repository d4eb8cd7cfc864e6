"""How an explanation is shown to people: the answer first, then how it came about.

``explain`` and ``why`` print with it. The invariant: what comes from files or clients is made
printable before it reaches the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import click

from sluicegate.app.inquiry.explanation import (
    AddressView,
    Explanation,
    FilterUse,
    LackView,
    RuleView,
    TraceView,
)
from sluicegate.app.inquiry.hello_explanation import HelloView
from sluicegate.app.inquiry.holding_view import HoldingView
from sluicegate.app.inquiry.own_tls_explanation import OWN

from .display import format_bytes, format_time, printable

__all__ = ["show_explanation"]

_SHOWN_RULES_MAX: Final = 50
"""Rules before the one that decided, of which every one is shown unless all are wanted."""

_INDENT: Final = " " * 13


def show_explanation(explanation: Explanation, *, all_rules: bool = False) -> None:
    """Print an explanation.

    Args:
        explanation: What to print.
        all_rules: Every rule, however many there are.
    """
    one = explanation
    verdict = (
        click.style("allowed", fg="green") if one.allowed else click.style("refused", fg="red")
    )
    meaning = f": {one.meaning}" if one.meaning else ""
    click.echo(f"{verdict} ({printable(one.reason)}){meaning}")
    _row("client", " ".join((one.client, *_user_of(one))))
    _row("listener", one.listener)
    if one.host:
        request = f", {one.method} {one.path}" if one.method else ""
        _row("asked for", f"{one.host} {one.protocol}:{one.port}{request}")
    _row("when", format_time(one.at))
    _row("policy", one.policy[:12])
    _show_decider(one)
    _show_before(one.before, has_decider=one.rule is not None, all_rules=all_rules)
    _show_lookup(one)
    _show_consequences(one)


def _user_of(one: Explanation) -> Iterable[str]:
    if one.user:
        groups = f" of {', '.join(one.groups)}" if one.groups else ""
        yield f"({one.user}{groups})"


def _row(name: str, text: str) -> None:
    click.echo(f"  {name:<11}{printable(text)}")


def _more(text: str) -> None:
    click.echo(f"{_INDENT}{printable(text)}")


def _show_decider(one: Explanation) -> None:
    if one.rule is None:
        _row("decided by", "no rule")
        return
    _row("decided by", _describe_rule(one.rule))
    if one.rule.owner or one.rule.comment:
        owner = f"{one.rule.owner}: " if one.rule.owner else ""
        _more(f"{owner}{one.rule.comment}".rstrip(": "))
    if one.rule.expires is not None:
        _more(f"until {format_time(one.rule.expires)}")
    for lack in one.unknown:
        _more(f"not known yet: {lack.key}: {lack.text}{_written(lack)}")
    if one.server:
        _row("server", one.server)


def _describe_rule(rule: RuleView) -> str:
    action = "" if rule.kind != "rule" else f" (action {rule.action})"
    return f"[[{rule.kind}]] {rule.name}{action}"


def _written(lack: LackView) -> str:
    if not lack.written:
        return ""
    shown = ", ".join(lack.written[:_WRITTEN_MAX])
    rest = len(lack.written) - _WRITTEN_MAX
    return f" ({shown}{f' and {rest} more' if rest > 0 else ''})"


_WRITTEN_MAX: Final = 6


def _show_before(before: list[TraceView], *, has_decider: bool, all_rules: bool) -> None:
    if not before:
        return
    shown = before if all_rules else before[-_SHOWN_RULES_MAX:]
    count = f"{len(before)} {'rule' if len(before) == 1 else 'rules'}"
    _row("before it" if has_decider else "rules", f"{count} did not match")
    if len(shown) < len(before):
        _more(f"the last {len(shown)} of them; --all shows every one")
    for trace in shown:
        lacks = "; ".join(f"{lack.key}: {lack.text}{_written(lack)}" for lack in trace.lacks)
        _more(f"{trace.rule}: {lacks}")


def _show_lookup(one: Explanation) -> None:
    lookup = one.lookup
    if lookup is None:
        return
    if lookup.state == "not-asked":
        _row(
            "addresses", "nothing was looked up; --resolve asks the gate's servers and judges them"
        )
        return
    if lookup.state == "not-allowed":
        _row("addresses", "nothing is looked up for what is refused")
        return
    if lookup.aliases:
        _row("alias of", ", ".join(lookup.aliases))
    if lookup.reason:
        _row("lookup", lookup.reason)
    for number, address in enumerate(lookup.addresses):
        text = _describe_address(address)
        if number:
            _more(text)
        else:
            _row("addresses", text)


def _describe_address(one: AddressView) -> str:
    verdict = "may be dialled" if one.may_be_dialled else "is not dialled"
    if one.denial:
        verdict = f"is refused: {one.denial}"
    relation = ""
    if one.network_rule:
        relation = f"; [[network_rule]] {one.network_rule}: {one.relation}"
    return f"{one.address} ({one.address_class}; {one.why}) {verdict}{relation}"


def _show_hello(hello: HelloView) -> None:
    """Say what is wanted of a ClientHello, and what one was judged to be."""
    if hello.mode == OWN:
        _show_own_tls(hello)
        return
    wants = hello.wants
    names = f"the name {' or '.join(hello.names)}" if hello.names else "a name that leads there"
    name = names if wants["sni"] == "match" else "any name"
    rest = ", ".join(f"{key} {value}" for key, value in wants.items() if key != "sni")
    _row("hello", f"it has to have {name}; {rest}")
    _show_sni(hello)
    if hello.mode != "splice" and not hello.reason:
        how = ", ".join(f"{key} {value}" for key, value in hello.opening.items())
        done = "opened: requests inside are judged one by one" if how else "passed on as it is"
        _row("tls", f"{hello.mode}: the server is verified, then TLS is {done}")
        if how:
            _more(how)


def _show_own_tls(hello: HelloView) -> None:
    """Say what the gate's own certificates are for."""
    rest = ", ".join(f"{key} {value}" for key, value in hello.wants.items())
    _row("tls", f"spoken with the gate, for {', '.join(hello.names) or 'no name'}; {rest}")
    _show_sni(hello)


def _show_sni(hello: HelloView) -> None:
    if hello.sni is not None:
        said = f"with the name {hello.sni}" if hello.sni else "without a name"
        _more(f"{said}: {'refused: ' + hello.reason if hello.reason else 'passes'}")


def _show_consequences(one: Explanation) -> None:
    if one.hello is not None:
        _show_hello(one.hello)
    if not one.allowed:
        return
    _row("filters", "none" if not one.filters else " > ".join(map(_describe_filter, one.filters)))
    if one.holds is not None:
        _show_holds(one.holds)
    if one.limits:
        _row("limits", ", ".join(_describe_limit(*item) for item in one.limits.items()))
    again = [_AGAIN[name] for name in one.asked_again]
    if again:
        _row("later", f"the policy is asked again about {' and '.join(again)}")


_AGAIN: Final = {"request": "every HTTP request", "transfer": "every object"}


def _describe_filter(one: FilterUse) -> str:
    kind = f" ({one.kind}{', by its protocol' if one.is_bound else ''})" if one.kind else ""
    bypass = ", passes without it when it fails" if one.on_failure == "bypass" else ""
    sees = "".join(f"; {message} {need}" for message, need in one.sees.items())
    return f"{one.name}{kind}{bypass}{sees}"


def _show_holds(holds: HoldingView) -> None:
    """Say which objects wait for a verdict, and what their receivers get meanwhile."""
    judged = {"uploads": holds.uploads, "downloads": holds.downloads}
    rows = [f"{what} ({_judges(holds, names)})" for what, names in judged.items() if names]
    _row("held", rows[0])
    for row in rows[1:]:
        _more(row)
    for number, one in enumerate(holds.delivery):
        others = "all others" if number else "all"
        types = ", ".join(one.content_types) or others
        _more(f"{types}: {one.method} after {one.after_s:g} s")
    if holds.unknown_codings == "judge":
        _more("bodies in a coding that cannot be read are judged as they are")


def _judges(holds: HoldingView, names: list[str]) -> str:
    of = {name: ", ".join(types) for name, types in holds.content_types.items()}
    return "; ".join(f"{name}: {of[name]}" if name in of else name for name in names)


def _describe_limit(name: str, value: float) -> str:
    return f"{name} {format_bytes(value) if name == 'bytes_max' else f'{value:g}'}"
