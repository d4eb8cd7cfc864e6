"""The conditions of rules: one class for each, which decides and explains with one function.

``compiled_rule`` gives a rule those that it has, the index narrows down which rules are asked. The
invariant: ``holds`` is the only place that knows what a condition means; None is its answer as long
as what it is about has not shown itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

from typing_extensions import override

from sluicegate.address import IpNetwork
from sluicegate.names import AddressJudgement

from .content_types import ContentTypes
from .networks import NO_NETWORKS, NetworkSet
from .paths import PathPattern, UrlPattern, is_path_meant
from .protocols import ProtocolPattern
from .request import Level, Number, Question
from .rules import ANY_USER, GROUP_PREFIX, Rule, Targets
from .schedule import Schedule

__all__ = [
    "ENABLED",
    "ClientsCondition",
    "Condition",
    "ConditionPool",
    "ContentTypesCondition",
    "EnabledCondition",
    "ExpiryCondition",
    "MethodsCondition",
    "PathsCondition",
    "ProtocolsCondition",
    "ScheduleCondition",
    "TargetsCondition",
    "UsersCondition",
]


class Condition(ABC):
    """One condition of one or more rules; immutable."""

    __slots__ = ()

    key: ClassVar[str]
    """The key of a rule that says it."""
    level: ClassVar[int] = 0
    """What has to show itself before it can be answered."""

    @abstractmethod
    def holds(self, question: Question) -> bool | None:
        """Say whether a question meets it; None: that is not known yet."""

    @abstractmethod
    def lack(self, question: Question) -> str:
        """Say in words what a question that does not meet it lacks."""


class EnabledCondition(Condition):
    """Of a rule that is switched off: nothing meets it."""

    __slots__ = ()
    key = "enabled"

    @override
    def holds(self, question: Question) -> bool:
        return False

    @override
    def lack(self, question: Question) -> str:
        return "it is not enabled"


class ClientsCondition(Condition):
    """``clients`` without ``clients_except``."""

    __slots__ = ("_excepted", "_meant")
    key = "clients"

    def __init__(self, meant: NetworkSet, excepted: NetworkSet | None) -> None:
        self._meant = meant
        self._excepted = excepted

    @override
    def holds(self, question: Question) -> bool:
        version, client = question.client_version, question.client
        if not self._meant.has(version, client):
            return False
        return self._excepted is None or not self._excepted.has(version, client)

    @override
    def lack(self, question: Question) -> str:
        if self._meant.has(question.client_version, question.client):
            return "the client is one of clients_except"
        return "the client is none of its clients"


class ProtocolsCondition(Condition):
    """``protocols`` without ``protocols_except``."""

    __slots__ = ("_excepted", "_meant")
    key = "protocols"

    def __init__(
        self, meant: Sequence[ProtocolPattern], excepted: Sequence[ProtocolPattern]
    ) -> None:
        self._meant = _ports_of(meant) if meant else None
        self._excepted = _ports_of(excepted)

    @override
    def holds(self, question: Question) -> bool:
        port = question.port
        if self._meant is not None:
            for first, last in self._meant.get(question.protocol, ()):
                if first <= port <= last:
                    break
            else:
                return False
        if self._excepted:
            for first, last in self._excepted.get(question.protocol, ()):
                if first <= port <= last:
                    return False
        return True

    def speaks(self, protocol: str) -> bool:
        """Tell whether it names a transport protocol, to whatever port."""
        return self._meant is None or protocol in self._meant

    @override
    def lack(self, question: Question) -> str:
        return f"{question.protocol}:{question.port} is none of its protocols"


class Places:
    """Names, networks and URLs, ready for questions."""

    __slots__ = ("below", "exact", "is_everything", "is_refused", "networks", "urls")

    def __init__(self, targets: Targets, *, is_refused: bool) -> None:
        self.is_refused = is_refused
        #: Whether what is here does not pass. Then ``https://`` is also what HTTP/3 carries, of
        #: which nothing is seen, and a path is meant by whichever way a server may read it.
        self.is_everything = targets.is_everything
        self.exact = frozenset(one.host.text for one in targets.hosts if not one.is_wildcard)
        self.below = frozenset(one.host.text for one in targets.hosts if one.is_wildcard)
        self.networks = NetworkSet(targets.networks) if targets.networks else NO_NETWORKS
        urls: dict[str, list[UrlPattern]] = {}
        for one in targets.urls:
            urls.setdefault(one.host.text, []).append(one)
        self.urls = urls or _NO_URLS

    def has_name(self, name: str) -> bool:
        """Tell whether a name is written, or one below which it is."""
        if name in self.exact:
            return True
        below = self.below
        if below:
            start = name.find(".") + 1
            while start:
                if name[start:] in below:
                    return True
                start = name.find(".", start) + 1
        return False

    def has_url(self, question: Question) -> bool | None:
        """Tell whether a URL is meant; None: a part of it has not shown itself."""
        answer: bool | None = False
        http = question.http
        for one in self.urls.get(question.host, ()):
            if one.port != question.port:
                continue
            if question.protocol != "tcp" and not (
                self.is_refused and question.protocol == "udp" and one.scheme == "https"
            ):
                continue
            if http is None:
                if one.is_whole_site:
                    return True
                answer = None
            elif one.scheme == http.scheme and is_path_meant(
                (one.path,), http.path, in_any_reading=self.is_refused
            ):
                return True
        return answer


class TargetsCondition(Places, Condition):
    """``to`` without ``to_except``: what a client names, and what a name leads to."""

    __slots__ = ("_excepted",)
    key = "to"
    level = int(Level.REQUEST)

    def __init__(self, to: Targets, excepted: Targets, *, is_refusal: bool) -> None:
        super().__init__(to, is_refused=is_refusal)
        self._excepted = None if excepted.is_empty else Places(excepted, is_refused=not is_refusal)

    @override
    def holds(self, question: Question) -> bool | None:
        judgement = question.judgement
        found: bool | None
        if judgement is None:
            found = self.is_everything or self.has_name(question.host)
        else:
            found = self._leads_to_address(judgement, question.meant)
        if not found:
            if not self.urls:
                return False
            found = self.has_url(question)
            if found is False:
                return False
        return found if self._excepted is None else self._unless_excepted(found, question)

    def _unless_excepted(self, found: bool | None, question: Question) -> bool | None:
        """Take ``to_except`` away; of addresses that has been done."""
        excepted = self._excepted
        assert excepted is not None, "it is asked only where there is one"
        if question.judgement is None and excepted.has_name(question.host):
            return False
        if excepted.urls:
            is_excepted = excepted.has_url(question)
            if is_excepted:
                return False
            if is_excepted is None:
                return None
        return found

    def _leads_to_address(self, judgement: AddressJudgement, meant: tuple[Number, ...]) -> bool:
        """Tell whether a rule speaks of an address that a client wrote."""
        excepted, networks = self._excepted, self.networks
        if self.is_refused:
            # Held against every form of the address.
            return any(
                (self.is_everything or networks.has(*one))
                and (excepted is None or not excepted.networks.has(*one))
                for one in meant
            )
        version, number = meant[0]
        if not (networks.has(version, number) or (self.is_everything and judgement.is_public)):
            return False
        return excepted is None or not self.excepts(meant)

    def excepts(self, addresses: Iterable[Number]) -> bool:
        """Tell whether one of these addresses is in ``to_except``."""
        excepted = self._excepted
        return excepted is not None and any(excepted.networks.has(*one) for one in addresses)

    def excepts_name(self, name: str) -> bool:
        """Tell whether a name is in ``to_except``."""
        return self._excepted is not None and self._excepted.has_name(name)

    def names_alias(self, name: str) -> bool:
        """Tell whether a name is written in ``to``, and not only meant by ``*``."""
        return self.has_name(name) and not self.excepts_name(name)

    def names_address(self, addresses: Iterable[Number]) -> bool:
        """Tell whether one of these is in a network of ``to``, and not only meant by ``*``."""
        excepted = self._excepted
        return any(
            self.networks.has(*one) and (excepted is None or not excepted.networks.has(*one))
            for one in addresses
        )

    @override
    def lack(self, question: Question) -> str:
        if self.excepts_name(question.host):
            return f"{question.host} is one of to_except"
        judgement = question.judgement
        if judgement is not None and self.excepts(question.meant):
            return f"{question.host} is one of to_except"
        if self.is_everything and judgement is not None:
            return f"{question.host} is not public, and its networks do not name it"
        if self.urls and self.has_url(question) is None:
            return "no HTTP request has been seen"
        return f"{question.host} is none of its destinations"


class ExpiryCondition(Condition):
    """``expires``."""

    __slots__ = ("expires",)
    key = "expires"

    def __init__(self, expires: float) -> None:
        self.expires = expires

    @override
    def holds(self, question: Question) -> bool:
        return question.now < self.expires

    @override
    def lack(self, question: Question) -> str:
        return "it has expired"


class ScheduleCondition(Condition):
    """``schedule``."""

    __slots__ = ("schedule",)
    key = "schedule"

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    @override
    def holds(self, question: Question) -> bool:
        return self.schedule.is_active(question.now)

    @override
    def lack(self, question: Question) -> str:
        return f"its schedule {self.schedule.name!r} is not active then"


class UsersCondition(Condition):
    """``users``."""

    __slots__ = ("_users",)
    key = "users"

    def __init__(self, users: Iterable[str]) -> None:
        self._users = frozenset(users)

    @override
    def holds(self, question: Question) -> bool:
        user = question.user
        if user is None:
            return False
        users = self._users
        return (
            user.name in users
            or ANY_USER in users
            or any(GROUP_PREFIX + group in users for group in user.groups)
        )

    @override
    def lack(self, question: Question) -> str:
        if question.user is None:
            return "the client has not proved who it is"
        return f"{question.user.name} is none of its users"


class MethodsCondition(Condition):
    """``methods``."""

    __slots__ = ("_methods",)
    key = "methods"
    level = int(Level.REQUEST)

    def __init__(self, methods: Iterable[str]) -> None:
        self._methods = frozenset(methods)

    @override
    def holds(self, question: Question) -> bool | None:
        return None if question.http is None else question.http.method in self._methods

    @override
    def lack(self, question: Question) -> str:
        if question.http is None:
            return "no HTTP request has been seen"
        return f"{question.http.method} is none of its methods"


class PathsCondition(Condition):
    """``paths``."""

    __slots__ = ("_is_refusal", "_paths")
    key = "paths"
    level = int(Level.REQUEST)

    def __init__(self, paths: Sequence[PathPattern], *, is_refusal: bool) -> None:
        self._paths = tuple(paths)
        self._is_refusal = is_refusal

    @override
    def holds(self, question: Question) -> bool | None:
        http = question.http
        if http is None:
            return None
        return is_path_meant(self._paths, http.path, in_any_reading=self._is_refusal)

    @override
    def lack(self, question: Question) -> str:
        if question.http is None:
            return "no HTTP request has been seen"
        return f"{question.http.path} is none of its paths"


class ContentTypesCondition(Condition):
    """``content_types``."""

    __slots__ = ("_types",)
    key = "content_types"
    level = int(Level.TRANSFER)

    def __init__(self, types: ContentTypes) -> None:
        self._types = types

    @override
    def holds(self, question: Question) -> bool | None:
        transfer = question.transfer
        if transfer is None:
            return None
        return self._types.covers(transfer.content_type, transfer.extension)

    @override
    def lack(self, question: Question) -> str:
        transfer = question.transfer
        if transfer is None:
            return "no object has been seen"
        what = transfer.content_type or transfer.extension
        return f"{what} is none of its content types" if what else "the object has no type"


def _ports_of(patterns: Sequence[ProtocolPattern]) -> Mapping[str, tuple[tuple[int, int], ...]]:
    ports: dict[str, tuple[tuple[int, int], ...]] = {}
    for one in patterns:
        ports[one.protocol] = (*ports.get(one.protocol, ()), (one.first, one.last))
    return ports


class ConditionPool:
    """Conditions by what they say: rules that say the same share one."""

    def __init__(self) -> None:
        self._networks: dict[int, tuple[tuple[IpNetwork, ...], NetworkSet]] = {}
        self._clients: dict[tuple[int, int], ClientsCondition] = {}
        self._protocols: dict[object, ProtocolsCondition] = {}
        self._targets: dict[tuple[int, int, bool], tuple[Rule, TargetsCondition]] = {}
        self._together: dict[tuple[Condition, ...], tuple[Condition, ...]] = {}

    def together(self, conditions: Iterable[Condition]) -> tuple[Condition, ...]:
        """Return conditions as the one tuple that all rules with exactly these share."""
        found = tuple(conditions)
        return self._together.setdefault(found, found)

    def network_set(self, networks: tuple[IpNetwork, ...]) -> NetworkSet:
        """Return the set of a tuple of networks; the same tuple has one set."""
        known = self._networks.get(id(networks))
        if known is None:
            # The tuple is kept, so that nothing else gets its identity.
            known = self._networks[id(networks)] = (networks, NetworkSet(networks))
        return known[1]

    def clients(
        self, meant: tuple[IpNetwork, ...], excepted: tuple[IpNetwork, ...]
    ) -> ClientsCondition:
        """Return the condition of clients."""
        key = (id(meant), id(excepted) if excepted else 0)
        known = self._clients.get(key)
        if known is None:
            known = self._clients[key] = ClientsCondition(
                self.network_set(meant), self.network_set(excepted) if excepted else None
            )
        return known

    def protocols(self, rule: Rule) -> ProtocolsCondition | None:
        """Return the condition of protocols; None: all are meant."""
        if not rule.protocols and not rule.protocols_except:
            return None
        key = (rule.protocols, rule.protocols_except)
        known = self._protocols.get(key)
        if known is None:
            known = self._protocols[key] = ProtocolsCondition(*key)
        return known

    def targets(self, rule: Rule) -> TargetsCondition:
        """Return the condition of destinations."""
        is_refusal = rule.action.is_refusal
        key = (id(rule.to), id(rule.to_except), is_refusal)
        known = self._targets.get(key)
        if known is None:
            condition = TargetsCondition(rule.to, rule.to_except, is_refusal=is_refusal)
            known = self._targets[key] = (rule, condition)
        return known[1]


ENABLED: Final = EnabledCondition()
_NO_URLS: Final[dict[str, list[UrlPattern]]] = {}
