"""``[objects]``: named lists, schedules and protocols, and what ``@name`` stands for.

``parse`` collects the objects of all files in one ``Objects``; the readers of rules ask it. The
invariant: a reference is to one object of a kind that its key takes, without cycles, or it is
refused; two lists that say the same are resolved once and are the same tuple.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sluicegate.address import IpNetwork
from sluicegate.documents import Wrong, suggest
from sluicegate.names import HostPattern

from .content_types import PREDEFINED_CONTENT_TYPES, ContentTypes
from .parse_values import (
    TimeZoneOf,
    parse_content_type,
    parse_host,
    parse_network,
    parse_protocol,
    parse_url,
    parse_user,
    parse_week,
    reference_in,
)
from .paths import UrlPattern
from .place import Place
from .protocols import PREDEFINED_PROTOCOLS, ProtocolDefinition, SecondaryPattern
from .schedule import Schedule, Span
from .tables import ListTable, ObjectTables, ProtocolTable, ScheduleTable

__all__ = ["NamedLists", "Objects"]

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of a list."""

    text: str
    where: str


class NamedLists(Generic[ValueT]):
    """All lists of one kind."""

    def __init__(self, kind: str, plural: str, parse: Callable[[str], ValueT]) -> None:
        self.kind = kind
        #: Its key below ``objects``.
        self.plural = plural
        #: What its entries are, in words.
        self._parse = parse
        self._entries: dict[str, tuple[Sequence[_Entry], Place]] = {}
        self._resolved: dict[str, tuple[ValueT, ...]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def names(self) -> list[str]:
        """What may be referred to."""
        return sorted(self._entries)

    def add(self, name: str, table: ListTable, place: Place, lists: Mapping[str, str]) -> None:
        """Take a list; what its entries mean is asked later."""
        if name in self._entries:
            place.refuse((), f"{name!r} is defined twice", "give each its own name")
            return
        entries: Sequence[_Entry] = ()
        if table.file is None:
            path = () if isinstance(place.document.table(place.at), list) else ("members",)
            entries = [
                _Entry(text, place.where(*path, index))
                for index, text in enumerate(table.members or ())
            ]
        elif table.file in lists:
            entries = _lines_of(table.file, lists[table.file])
        # A list that could not be read has its own finding.
        self._entries[name] = (entries, place)

    def add_predefined(self, predefined: Mapping[str, Sequence[str]], place: Place) -> None:
        """Take what every policy has, where nothing took its name."""
        for name, texts in predefined.items():
            if name not in self._entries:
                self._entries[name] = ([_Entry(text, "") for text in texts], place)

    def resolve(self, name: str, chain: tuple[str, ...] = ()) -> tuple[ValueT, ...]:
        """Return everything that a list stands for; what is wrong in it is refused once."""
        known = self._resolved.get(name)
        if known is not None:
            return known
        entries, place = self._entries[name]
        chain = (*chain, name)
        values: dict[ValueT, None] = {}
        for entry in entries:
            reference = reference_in(entry.text)
            if reference is None:
                try:
                    values[self._parse(entry.text)] = None
                except Wrong as wrong:
                    place.findings.refuse(entry.where, wrong.cause, wrong.cure)
            elif reference in chain:
                circle = " → ".join(f"@{one}" for one in (*chain, reference))
                place.findings.refuse(entry.where, f"goes round in a circle: {circle}")
            elif reference in self._entries:
                values.update(dict.fromkeys(self.resolve(reference, chain)))
            else:
                cause = f"there is no @{reference} in objects.{self.kind}"
                place.findings.refuse(entry.where, cause, suggest(reference, self.names))
        self._resolved[name] = tuple(values)
        return self._resolved[name]

    def resolve_all(self) -> None:
        """Find what is wrong with lists that nothing refers to, too."""
        for name in list(self._entries):
            self.resolve(name)


def _lines_of(path: str, text: str) -> list[_Entry]:
    return [
        _Entry(entry, f"{path}:{number}")
        for number, line in enumerate(text.splitlines(), 1)
        if (entry := line.partition("#")[0].strip())
    ]


class Objects:
    """Every object of a policy, and what rules get for its name."""

    def __init__(self, *, allow_underscore: bool, time_zone: TimeZoneOf) -> None:
        self.allow_underscore = allow_underscore
        self.networks = NamedLists[IpNetwork]("networks", "networks", parse_network)
        self.names = NamedLists[HostPattern]("names", "host names", self._parse_name)
        self.urls = NamedLists[UrlPattern](
            "urls", "URLs", lambda text: parse_url(text, allow_underscore=allow_underscore)
        )
        self.users = NamedLists[str]("users", "users", parse_user)
        self.content_types = NamedLists[str]("content_types", "content types", parse_content_type)
        self.schedules: dict[str, Schedule] = {}
        self.protocols: dict[str, ProtocolDefinition] = dict(PREDEFINED_PROTOCOLS)
        self._own_protocols: set[str] = set()
        self._time_zone = time_zone
        self._network_lists: dict[tuple[IpNetwork | str, ...], tuple[IpNetwork, ...]] = {}
        self._type_sets: dict[tuple[str, ...], ContentTypes] = {}

    @property
    def lists(self) -> Sequence[NamedLists[Any]]:
        """All kinds that are lists."""
        return (self.networks, self.names, self.urls, self.users, self.content_types)

    def add(self, tables: ObjectTables, place: Place, lists: Mapping[str, str]) -> None:
        """Take the objects of one file."""
        for kind in self.lists:
            of_kind: Mapping[str, ListTable] = getattr(tables, kind.kind)
            for name, table in of_kind.items():
                kind.add(name, table, _below(place, kind.kind, name), lists)
        for name, schedule in tables.schedules.items():
            self._add_schedule(name, schedule, _below(place, "schedules", name))
        for name, protocol in tables.protocols.items():
            self._add_protocol(name, protocol, _below(place, "protocols", name))

    def finish(self, place: Place) -> None:
        """Take what is predefined, and find what is wrong with any object."""
        self.content_types.add_predefined(PREDEFINED_CONTENT_TYPES, place)
        for one in self.lists:
            one.resolve_all()
        targets: Sequence[NamedLists[Any]] = (self.networks, self.names, self.urls)
        for number, kind in enumerate(targets):
            for other in targets[number + 1 :]:
                for name in sorted(set(kind.names) & set(other.names)):
                    place.findings.refuse(
                        place.where("objects", other.kind, name),
                        f'@{name} is also in objects.{kind.kind}, and "to" takes both',
                        "give each its own name",
                    )

    # -- what rules ask ------------------------------------------------------------------------

    def networks_of(
        self, entries: tuple[IpNetwork | str, ...], place: Place, key: str
    ) -> tuple[IpNetwork, ...]:
        """Return the networks of a list of networks and references."""
        known = self._network_lists.get(entries)
        if known is not None and len(set(entries)) == len(entries):
            return known
        before = len(place.findings.errors)
        found: dict[IpNetwork, None] = {}
        for index, entry in enumerate(entries):
            if entry in entries[:index]:
                place.refuse((key, index), f"{str(entry)!r} is listed twice")
            reference = reference_in(entry)
            if reference is not None:
                kinds: Sequence[NamedLists[IpNetwork]] = (self.networks,)
                found.update(dict.fromkeys(self.members(reference, kinds, place, (key, index))))
            elif not isinstance(entry, str):
                found[entry] = None
        networks = tuple(found)
        if not networks and entries and len(place.findings.errors) == before:
            place.warn((key,), "is empty: nothing is in the lists that it names")
        self._network_lists[entries] = networks
        return networks

    def content_types_of(self, texts: tuple[str, ...], place: Place) -> ContentTypes | None:
        """Return the types of a list of types and references; None for an empty list."""
        if not texts:
            return None
        known = self._type_sets.get(texts)
        if known is None:
            kinds = (self.content_types,)
            found = self.texts_of(texts, kinds, parse_content_type, place, "content_types")
            known = self._type_sets[texts] = ContentTypes.of(tuple(found))
        return known

    def texts_of(
        self,
        texts: Sequence[str],
        kinds: Sequence[NamedLists[Any]],
        parse: Callable[[str], ValueT],
        place: Place,
        key: str,
    ) -> list[ValueT]:
        """Return the values of a list of texts and references, each once."""
        found: dict[ValueT, None] = {}

        def read(index_text: str) -> ValueT | str:
            return index_text if reference_in(index_text) is not None else parse(index_text)

        for index, value in place.each(key, texts, read):
            reference = reference_in(texts[index])
            if reference is None:
                found[value] = None  # type: ignore[index]  # a text stays one only as a reference
            else:
                found.update(dict.fromkeys(self.members(reference, kinds, place, (key, index))))
        return list(found)

    def members(
        self,
        name: str,
        kinds: Sequence[NamedLists[Any]],
        place: Place,
        path: tuple[str | int, ...],
    ) -> tuple[Any, ...]:
        """Return what ``@name`` stands for where one of some kinds of lists is taken."""
        for kind in kinds:
            if name in kind:
                return kind.resolve(name)
        self.refuse_reference(name, [kind.kind for kind in kinds], place, path)
        return ()

    def refuse_reference(
        self, name: str, taken: Sequence[str], place: Place, path: tuple[str | int, ...]
    ) -> None:
        """Say why a name stands for nothing here, and what would be right."""
        kinds: dict[str, list[str]] = {one.kind: one.names for one in self.lists}
        kinds["schedules"], kinds["protocols"] = sorted(self.schedules), sorted(self.protocols)
        wanted = " or ".join(f"objects.{kind}" for kind in taken)
        for kind, names in kinds.items():
            if kind not in taken and name in names:
                place.refuse(
                    path,
                    f"@{name} is in objects.{kind}, and this key takes {wanted}",
                    "name an object of that kind",
                )
                return
        known = sorted(one for kind in taken for one in kinds[kind])
        cure = suggest(name, known) if known else f"define it in {wanted}"
        place.refuse(path, f"there is no @{name} in {wanted}", cure)

    def schedule(self, name: str | None, place: Place) -> Schedule | None:
        """Return the schedule that a rule names."""
        if name is None:
            return None
        found = self.schedules.get(name)
        if found is None:
            cure = suggest(name, sorted(self.schedules)) if self.schedules else _SCHEDULE_CURE
            place.refuse(("schedule",), f"there is no schedule {name!r} in objects.schedules", cure)
        return found

    def protocol(
        self, text: str, place: Place, path: tuple[str | int, ...]
    ) -> ProtocolDefinition | None:
        """Return the protocol that ``@name`` stands for."""
        name = reference_in(text)
        if name is None:
            place.refuse(path, f"is {text!r}, which is no protocol's name", 'for example "@ftp"')
            return None
        if name not in self.protocols:
            self.refuse_reference(name, ["protocols"], place, path)
        return self.protocols.get(name)

    # -- schedules and protocols ---------------------------------------------------------------

    def _parse_name(self, text: str) -> HostPattern:
        pattern = parse_host(text, allow_underscore=self.allow_underscore)
        if pattern.host.is_address:
            raise Wrong(f"is {text!r}, an address", "put it into objects.networks")
        return pattern

    def _add_schedule(self, name: str, table: ScheduleTable, place: Place) -> None:
        if name in self.schedules:
            place.refuse((), f"{name!r} is defined twice", "give each its own name")
        zone = self._time_zone(table.time_zone)
        if zone is None:
            place.refuse(
                ("time_zone",),
                f"is {table.time_zone!r}, which is no time zone",
                'an IANA name, for example "Europe/Berlin" or "UTC"',
            )
            zone = dt.UTC
        spans: set[Span] = set()
        for _, found in place.each("weekly", table.weekly, parse_week):
            spans.update(found)
        dates = [date for _, date in place.each("dates_off", table.dates_off, _parse_date)]
        self.schedules[name] = Schedule(
            name, zone, table.time_zone, tuple(sorted(spans)), frozenset(dates)
        )

    def _add_protocol(self, name: str, table: ProtocolTable, place: Place) -> None:
        if name in self._own_protocols:
            place.refuse((), f"{name!r} is defined twice", "give each its own name")
        self._own_protocols.add(name)
        secondary: list[SecondaryPattern] = []
        for index, one in enumerate(table.secondary):
            try:
                secondary.append(SecondaryPattern(parse_protocol(one.ports), one.direction))
            except Wrong as wrong:
                place.refuse(("secondary", index, "ports"), wrong.cause, wrong.cure)
        ports = place.each("ports", table.ports, parse_protocol)
        self.protocols[name] = ProtocolDefinition(
            name,
            tuple(pattern for _, pattern in ports),
            table.direction,
            tuple(secondary),
            table.filters,
        )


def _below(place: Place, *path: str) -> Place:
    return Place(place.document, ("objects", *path), place.findings)


def _parse_date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise Wrong(f"is {text!r}, which is no date", "for example 2026-12-25") from None


_SCHEDULE_CURE: Final = "define it in objects.schedules"
