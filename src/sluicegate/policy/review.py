"""What is right and yet worth a word: rules that expire, learn, never decide, or cannot see.

``app`` asks ``review_policy`` once a policy is read, with the time. The invariant: nothing here
changes a decision; what it refuses (learning without an end in sight) is never put in force.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from sluicegate.policy_limits import POLICY_EXPIRY_NOTICE_DAYS, POLICY_LEARN_DAYS_MAX

from .compiled_rule import Shows
from .networks import NetworkSet
from .parse import ParsedPolicy
from .place import Place
from .request import Level
from .rules import Rule
from .shadowing import shadowed_rules
from .snapshot import PolicySnapshot
from .tls_opening import TlsMode

__all__ = ["review_policy"]

_DAY_S = 86400
_NAMED_MAX = 3
"""Rules that a warning names; of more, the count."""


def review_policy(
    parsed: ParsedPolicy,
    snapshot: PolicySnapshot,
    listeners: Iterable[str],
    shows: Shows,
    now: float,
) -> None:
    """Add what is to be said about a policy to its findings.

    Args:
        parsed: The policy, and where its parts stand.
        snapshot: It, compiled.
        listeners: All proxy listeners.
        shows: Per installed filter, what it will ask about again.
        now: Seconds since the epoch (UTC).
    """
    policy = parsed.policy
    places = dict(
        zip(
            (one.name for one in policy.all_rules),
            (*parsed.publications_at, *parsed.rules_at),
            strict=True,
        )
    )
    for one in policy.all_rules:
        if one.expires is not None and one.is_enabled:
            _review_expiry(one.expires, places[one.name], now)
    for rule in policy.rules:
        if rule.is_enabled:
            _review_sight(rule, places[rule.name], shows)
    for publication in snapshot.unreachable():
        places[publication.name].warn(
            (),
            f"the rule {publication.name!r} never matches: earlier ones cover its clients",
            "put it before them, or remove it",
        )
    for rule, covers in shadowed_rules(snapshot, listeners):
        named = [f"{one.name!r} ({places[one.name].where()})" for one in covers[:_NAMED_MAX]]
        more = f" and {len(covers) - _NAMED_MAX} more" if len(covers) > _NAMED_MAX else ""
        is_one = len(covers) == 1
        places[rule.name].warn(
            (),
            f"the rule {rule.name!r} never decides: {', '.join(named)}{more} "
            + ("matches whenever it would" if is_one else "together match whenever it would"),
            f"put it before {'that one' if is_one else 'one of them'}, or remove it",
        )
    _review_relations(parsed)
    for entry, place in zip(policy.learn, parsed.learn_at, strict=True):
        _review_learning(entry.until, place, now)


def _review_expiry(expires: float, place: Place, now: float) -> None:
    if expires <= now:
        place.warn(
            ("expires",), f"has expired on {_date(expires)}: it matches nobody", "remove the rule"
        )
    elif expires <= now + POLICY_EXPIRY_NOTICE_DAYS * _DAY_S:
        days = int((expires - now) // _DAY_S)
        cure = "move the date, or let it end"
        place.warn(("expires",), f"is {_date(expires)}, in {days} days", cure)


def _review_sight(rule: Rule, place: Place, shows: Shows) -> None:
    """Warn of conditions that nothing shows: the web proxy shows requests, and what answers say.

    A tunnel shows neither, and what is asked for by https is inside one.
    """
    seen = Level.NONE
    for name in rule.filters:
        seen |= shows.get(name, Level.NONE)
    if rule.tls is not None and rule.tls.opening.mode is TlsMode.INSPECT:
        seen |= Level.REQUEST | Level.TRANSFER
    wanted: list[tuple[Level, str, str]] = []
    if rule.looks_at_requests:
        key = "methods" if rule.methods else "paths" if rule.paths else "to"
        wanted.append((Level.REQUEST, key, "HTTP requests"))
    if rule.content_types is not None:
        wanted.append((Level.TRANSFER, "content_types", "objects"))
    for level, key, what in wanted:
        if rule.action.is_refusal:
            place.warn(
                (key,),
                f"connections whose rule shows no {what} are refused if this one may mean them",
                'say which "protocols" it means, or let rules behind it have filters that look',
            )
        elif not level & seen and _is_inside_tls(rule):
            place.warn(
                (key,),
                f"no filter of this rule shows {what}: what is asked for by https is in a tunnel "
                "that is not looked into, and does not match",
                f'tls = {{ mode = "inspect" }}, or a filter that shows {what}',
            )


def _is_inside_tls(rule: Rule) -> bool:
    """Tell whether a rule says more of https than which site."""
    return any(url.scheme == "https" and not url.is_whole_site for url in rule.to.urls)


def _review_relations(parsed: ParsedPolicy) -> None:
    rules = parsed.policy.network_rules
    sets = [(NetworkSet(one.sources), NetworkSet(one.targets)) for one in rules]
    for order, (rule, place) in enumerate(zip(rules, parsed.network_rules_at, strict=True)):
        for earlier, (sources, targets) in zip(rules[:order], sets, strict=False):
            if all(map(sources.covers_network, rule.sources)) and all(
                map(targets.covers_network, rule.targets)
            ):
                place.warn(
                    (),
                    f"the relation {rule.name!r} is never found: {earlier.name!r} names the same",
                    "put it before that one, or remove it",
                )
                break


def _review_learning(until: float, place: Place, now: float) -> None:
    if until <= now:
        place.warn(("until",), f"is over since {_date(until)}", "remove it")
    elif until > now + POLICY_LEARN_DAYS_MAX * _DAY_S:
        place.refuse(
            ("until",),
            f"is {_date(until)}; {POLICY_LEARN_DAYS_MAX} days are the most",
            "learning has to end: choose a date soon",
        )
    else:
        place.warn(
            (), f"what no rule speaks of passes for these clients until {_date(until)}", _LEARN_CURE
        )


def _date(instant: float) -> str:
    return dt.datetime.fromtimestamp(instant, dt.UTC).isoformat().replace("+00:00", "Z")


_LEARN_CURE = '"sluicegate learn propose" writes rules of what was seen'
