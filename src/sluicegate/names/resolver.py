"""The one resolver: a stub that asks the judge first, then its servers, then the judge again.

Entry modes hand it canonical hosts with the policy's judge and get a ``Destination`` to dial. It
asks for A and AAAA together, waits for both, and judges all they say as one answer. The invariant:
a name that the judge refuses causes no packet, every failure is a refusal with its reason, and what
it returns holds judged addresses only.
"""

from __future__ import annotations

import asyncio
import collections
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sluicegate.address import IpAddress, SocketAddress
from sluicegate.clock import Clock
from sluicegate.limits import Limits
from sluicegate.verdict import Deny

from .address_class import AddressClassifier
from .cache import AnswerCache
from .destination import (
    Destination,
    DestinationJudge,
    JudgedAddress,
    LookupReason,
    Unresolved,
    deny_unless_public,
)
from .exchange import AsyncioExchange, Exchange
from .host import CanonicalHost
from .packets import (
    Answer,
    BadReply,
    EdnsRefused,
    Question,
    RecordType,
    ReplySuspect,
    encode_query,
    read_reply,
)
from .resolver_settings import ResolverSettings
from .special_names import NameClass, classify_name

__all__ = ["Asked", "Resolver"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question that servers were asked, and what came of it."""

    question: Question
    answer: Answer | None
    """None: there is none that can be used."""
    reason: LookupReason | None
    """Why there is none."""
    detail: str
    duration_s: float
    ttl_s: float
    """How long it is remembered."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a question has no answer."""

    reason: LookupReason
    detail: str


_Outcome = Answer | _Failure


@dataclass(slots=True)
class _Shared:
    """One question on its way, and how many lookups wait for it."""

    task: asyncio.Task[_Outcome]
    waiting: int = 0


@dataclass(slots=True)
class _Found:
    """What the answers to one host's questions say together."""

    addresses: dict[IpAddress, None] = field(default_factory=dict[IpAddress, None])
    aliases: dict[CanonicalHost, None] = field(default_factory=dict[CanonicalHost, None])
    expires_at_s: float | None = None
    failures: list[_Failure] = field(default_factory=list[_Failure])


class Resolver:
    """Looks hosts up for one worker; lives as long as it, on its loop.

    ``classifier`` may be replaced at any time, when the gate's own addresses change.
    """

    def __init__(
        self,
        settings: ResolverSettings,
        clock: Clock,
        limits: Limits,
        *,
        classifier: AddressClassifier | None = None,
        exchange: Exchange | None = None,
        randbits: Callable[[int], int] = secrets.randbits,
        on_asked: Callable[[Asked], None] | None = None,
    ) -> None:
        """Begin, with nothing remembered.

        Args:
            settings: Whom to ask, and how.
            clock: Tells when answers end.
            limits: Bounds of lookups.
            classifier: Knows the gate's own addresses.
            exchange: How servers are reached.
            randbits: Draws identifiers.
            on_asked: Told of each question that servers were asked, when it is over.
        """
        self.settings = settings
        self.classifier = classifier or AddressClassifier()
        self._clock = clock
        self._limits = limits
        self._exchange = exchange or AsyncioExchange()
        self._randbits = randbits
        self._on_asked = on_asked
        self._cache: AnswerCache[_Outcome] = AnswerCache(limits.dns_cache_entries_max)
        self._shared: dict[Question, _Shared] = {}
        self._tasks: set[asyncio.Task[_Outcome]] = set()
        self._is_closed = False
        self._counts: collections.Counter[str] = collections.Counter()

    async def resolve(
        self, host: CanonicalHost, port: int, judge: DestinationJudge
    ) -> Destination | Unresolved:
        """Judge a host, look it up, judge what was found.

        Args:
            host: What a client named.
            port: Where it wants to go there.
            judge: The policy, asked before any query and about everything that comes back.
        """
        self._counts["lookups"] += 1
        outcome = await self._resolve(host, port, judge)
        if isinstance(outcome, Unresolved):
            self._counts[outcome.reason] += 1
        return outcome

    def resolve_now(
        self, host: CanonicalHost, port: int, judge: DestinationJudge
    ) -> Destination | Unresolved | None:
        """As ``resolve``, of an address or what is kept; None when something must be asked first.

        Nothing is awaited, so whoever has many callers needs a task only for the rest.
        """
        denial = judge.judge_name(host, port)
        if denial is not None:
            outcome: Destination | Unresolved = Unresolved(
                host, port, LookupReason.NAME_DENIED, denial.reason
            )
        elif host.address is not None:
            outcome = self._judge_found(host, port, judge, _Found({host.address: None}))
        else:
            now = self._clock.monotonic()
            kept = [
                self._cache.find(Question(host.text, record_type), now)
                for record_type in self.settings.record_types
            ]
            answers = [one for one in kept if one is not None]
            if len(answers) < len(kept) or self._special_class(host) is not None:
                return None
            self._counts["answers_from_cache"] += len(answers)
            outcome = self._judge_found(host, port, judge, _found_in(host, answers))
        self._counts["lookups"] += 1
        if isinstance(outcome, Unresolved):
            self._counts[outcome.reason] += 1
        return outcome

    def may_ask_about(self, address: IpAddress) -> bool:
        """Tell whether DNS servers may learn that somebody is interested in an address."""
        return deny_unless_public(self.classifier.classify(address)) is None

    async def resolve_address(self, address: IpAddress) -> tuple[CanonicalHost, ...] | Unresolved:
        """Look up which names an address has; empty when it has none.

        Only public addresses are asked about: of others, DNS servers elsewhere shall not learn. The
        names prove nothing, because whoever has the address writes them.
        """
        self._counts["lookups"] += 1
        host = CanonicalHost.from_address(address)
        denial = deny_unless_public(self.classifier.classify(address))
        if denial is not None:
            self._counts[LookupReason.ADDRESS_DENIED] += 1
            return Unresolved(host, 0, LookupReason.ADDRESS_DENIED, denial.reason)
        _, outcome = await self._answer(Question(address.reverse_pointer, RecordType.PTR))
        if isinstance(outcome, _Failure):
            self._counts[outcome.reason] += 1
            return Unresolved(host, 0, outcome.reason, outcome.detail)
        return tuple(name for name in outcome.names if self._special_class(name) is None)

    def judge_given(
        self,
        host: CanonicalHost,
        port: int,
        judge: DestinationJudge,
        addresses: Iterable[IpAddress],
    ) -> Destination | Unresolved:
        """Judge addresses that somebody else found for a host, as if they had been looked up.

        They are not kept, and never expire: whoever gave them was asked for this destination.
        """
        denial = judge.judge_name(host, port)
        if denial is not None:
            return Unresolved(host, port, LookupReason.NAME_DENIED, denial.reason)
        name_class = self._special_class(host)
        if name_class is not None:
            return Unresolved(host, port, LookupReason.SPECIAL_NAME, f"{host} is a {name_class}")
        return self._judge_found(host, port, judge, _Found(dict.fromkeys(addresses)))

    def judge_again(
        self, destination: Destination, judge: DestinationJudge, address: JudgedAddress
    ) -> Deny | None:
        """Judge an address of a destination as things stand now; for right before each dial.

        What is the gate's own may have changed since the lookup, and so may the policy.
        """
        judgement = self.classifier.classify(address.judgement.address)
        return judge.judge_address(destination.host, judgement, destination.port)

    async def close(self) -> None:
        """Give up what is on its way; those who wait for it are refused."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """Drop what is kept (the network or the servers changed)."""
        self._cache.clear()

    def statistics(self) -> dict[str, int]:
        """Return counts since the start: lookups, queries by transport, refusals by reason."""
        return {**self._counts, "kept": len(self._cache), "asking": len(self._shared)}

    async def _resolve(
        self, host: CanonicalHost, port: int, judge: DestinationJudge
    ) -> Destination | Unresolved:
        denial = judge.judge_name(host, port)
        if denial is not None:
            return Unresolved(host, port, LookupReason.NAME_DENIED, denial.reason)
        if host.address is not None:
            return self._judge_found(host, port, judge, _Found({host.address: None}))
        name_class = self._special_class(host)
        if name_class is not None:
            return Unresolved(host, port, LookupReason.SPECIAL_NAME, f"{host} is a {name_class}")
        return self._judge_found(host, port, judge, await self._look_up(host))

    def _special_class(self, host: CanonicalHost) -> NameClass | None:
        name_class = classify_name(host)
        is_taken = name_class is NameClass.ORDINARY or name_class in self.settings.permitted_names
        return None if is_taken else name_class

    def _judge_found(
        self, host: CanonicalHost, port: int, judge: DestinationJudge, found: _Found
    ) -> Destination | Unresolved:
        """Judge everything that was found, as one: a part that was not asked for is no excuse."""
        aliases = tuple(found.aliases)
        for alias in aliases:
            special = self._special_class(alias)
            denial = judge.judge_alias(host, alias, port)
            if special is not None or denial is not None:
                why = denial.reason if denial is not None else f"a {special}"
                detail = f"{host} is an alias of {alias}: {why}"
                return Unresolved(host, port, LookupReason.ALIAS_DENIED, detail, (), aliases)
        judgements = [self.classifier.classify(address) for address in found.addresses]
        addresses = tuple(
            JudgedAddress(judgement, judge.judge_address(host, judgement, port))
            for judgement in judgements
        )
        denials = [one.denial.reason for one in addresses if one.denial is not None]
        if not addresses:
            failure = _worst(found.failures)
            return Unresolved(host, port, failure.reason, failure.detail, (), aliases)
        if len(denials) == len(addresses):
            reason = LookupReason.ADDRESS_DENIED
        elif denials and not self.settings.use_mixed_answers:
            reason = LookupReason.ADDRESSES_MIXED
        else:
            return Destination(host, port, addresses, aliases, found.expires_at_s)
        return Unresolved(host, port, reason, "; ".join(denials), addresses, aliases)

    async def _look_up(self, host: CanonicalHost) -> _Found:
        """Ask everything about a name; an answer of one kind is of use without the other."""
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._answer(Question(host.text, record_type)))
                for record_type in self.settings.record_types
            ]
        return _found_in(host, [task.result() for task in asked])

    async def _answer(self, question: Question) -> tuple[float, _Outcome]:
        """Answer from what is kept, from what is on its way, or by asking; with its end."""
        now = self._clock.monotonic()
        kept = self._cache.find(question, now)
        if kept is not None:
            self._counts["answers_from_cache"] += 1
            return kept
        shared = self._shared.get(question)
        if shared is None:
            failure = self._obstacle()
            if failure is not None:
                return now, failure
            shared = self._start(question)
        shared.waiting += 1
        try:
            outcome = await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.task.done():
                # Everybody who wanted it has gone. Who comes now asks anew.
                self._shared.pop(question, None)
                shared.task.cancel()
        return self._clock.monotonic() + self._ttl_s(outcome), outcome

    def _obstacle(self) -> _Failure | None:
        if self._is_closed:
            return _Failure(LookupReason.CLOSED, "the gate is ending")
        if not self.settings.servers:
            return _Failure(LookupReason.NO_SERVERS, "no DNS server is configured")
        bound = self._limits.dns_questions_max
        if len(self._tasks) >= bound:
            return _Failure(LookupReason.TOO_MANY_LOOKUPS, f"dns_questions_max reached ({bound})")
        return None

    def _start(self, question: Question) -> _Shared:
        # Not in a group: it belongs to all who wait for it, and close() joins it.
        task = asyncio.get_running_loop().create_task(self._ask(question))
        shared = self._shared[question] = _Shared(task)
        self._tasks.add(task)

        def end(_: asyncio.Task[_Outcome]) -> None:
            self._tasks.discard(task)
            if self._shared.get(question) is shared:
                del self._shared[question]

        task.add_done_callback(end)
        return shared

    async def _ask(self, question: Question) -> _Outcome:
        """Ask the servers and keep what they said."""
        began_s = self._clock.monotonic()
        try:
            outcome = await self._ask_servers(question)
        except asyncio.CancelledError:
            if not self._is_closed:
                raise
            return _Failure(LookupReason.CLOSED, "the gate is ending")
        now_s, ttl_s = self._clock.monotonic(), self._ttl_s(outcome)
        self._cache.keep(question, outcome, now_s + ttl_s)
        if self._on_asked is not None:
            took_s = now_s - began_s
            asked = (
                Asked(question, None, outcome.reason, outcome.detail, took_s, ttl_s)
                if isinstance(outcome, _Failure)
                else Asked(question, outcome, None, "", took_s, ttl_s)
            )
            self._on_asked(asked)
        return outcome

    async def _ask_servers(self, question: Question) -> _Outcome:
        """Ask one server after the other, those that were silent again, within the time of all."""
        failure = _Failure(LookupReason.SERVERS_SILENT, "no server answered in time")
        servers: Sequence[SocketAddress] = self.settings.servers
        try:
            async with asyncio.timeout(self._limits.dns_lookup_timeout_s):
                for _ in range(self._limits.dns_rounds_max):
                    silent: list[SocketAddress] = []
                    for server in servers:
                        outcome = await self._ask_server(server, question)
                        if isinstance(outcome, Answer) or outcome.reason in _FINAL:
                            return outcome
                        failure = outcome
                        if outcome.reason is LookupReason.SERVERS_SILENT:
                            silent.append(server)
                    servers = silent
        except TimeoutError:
            self._counts["lookups_out_of_time"] += 1
        return failure

    async def _ask_server(self, server: SocketAddress, question: Question) -> _Outcome:
        """Ask one server: over UDP, over TCP where that did not do, without EDNS where it must."""
        over_tcp, with_edns = False, True
        while True:
            mix_case = self.settings.mix_case and not over_tcp
            query = encode_query(question, self._randbits, mix_case=mix_case, with_edns=with_edns)
            self._counts["queries_tcp" if over_tcp else "queries_udp"] += 1
            ask = self._exchange.ask_tcp if over_tcp else self._exchange.ask_udp
            try:
                async with asyncio.timeout(self._limits.dns_attempt_timeout_s):
                    return read_reply(query, await ask(server, query))
            except ReplySuspect as suspect:
                if over_tcp:
                    return _Failure(suspect.reason, f"{server}: {suspect.hint}")
                self._counts["replies_suspect"] += 1
                over_tcp = True
            except EdnsRefused:
                with_edns = False  # the next refusal is a plain BadReply
            except BadReply as bad:
                return _Failure(bad.reason, f"{server}: {bad.hint}")
            except TimeoutError:
                return _Failure(LookupReason.SERVERS_SILENT, f"{server} did not answer in time")
            except OSError as error:
                return _Failure(LookupReason.SERVERS_UNREACHABLE, f"{server}: {error}")

    def _ttl_s(self, outcome: _Outcome) -> float:
        limits = self._limits
        if isinstance(outcome, _Failure):
            return limits.dns_failure_ttl_s
        is_found = outcome.addresses or outcome.names
        most = limits.dns_ttl_max_s if is_found else limits.dns_negative_ttl_max_s
        return max(limits.dns_ttl_min_s, min(outcome.ttl_s, most))


_FINAL: Final = frozenset(
    {LookupReason.ALIAS_LOOP, LookupReason.ALIAS_INVALID, LookupReason.TOO_MANY_RECORDS}
)
"""What a zone says and not a server: another server would say the same."""


def _found_in(host: CanonicalHost, answers: Iterable[tuple[float, _Outcome]]) -> _Found:
    """Put together what was answered about a name, each with its end."""
    found = _Found()
    for until_s, outcome in answers:
        if isinstance(outcome, _Failure):
            found.failures.append(outcome)
            continue
        found.aliases.update(dict.fromkeys(outcome.aliases))
        if outcome.addresses:
            found.addresses.update(dict.fromkeys(outcome.addresses))
            known = found.expires_at_s
            found.expires_at_s = until_s if known is None else min(known, until_s)
        elif outcome.exists:
            found.failures.append(_Failure(LookupReason.NO_ADDRESS, f"{host} has no address"))
        else:
            found.failures.append(_Failure(LookupReason.NO_SUCH_NAME, f"{host} is unknown"))
    return found


def _worst(failures: Iterable[_Failure]) -> _Failure:
    """Choose which failure explains that there is no address: a failed lookup before an absence."""
    absences = {LookupReason.NO_ADDRESS, LookupReason.NO_SUCH_NAME}
    return min(failures, key=lambda failure: failure.reason in absences)
