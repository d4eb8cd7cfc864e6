"""A DNS server in memory, for playbooks whose clients name hosts.

``playbook_gate`` gives it to the gate's own resolver in the place of the network. The invariant: it
answers from its table and nothing else, and notes every question that reached it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence

import dns.message
import dns.rcode
import dns.reversename
import dns.rrset

from sluicegate.address import SocketAddress
from sluicegate.names.packets import Query

__all__ = ["SimulatedNames"]

_TTL_S = 60


class SimulatedNames:
    """Answers for names and addresses (``names.exchange.Exchange``)."""

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        self.asked: Counter[str] = Counter()
        #: How often each name was asked for, whatever the type.
        self._rows: dict[str, list[dns.rrset.RRset]] = {}
        self._addresses: dict[str, list[str]] = {}
        for name, answers in table.items():
            self._add(name, answers)

    def addresses_of(self, name: str) -> list[str]:
        """Return the addresses that a name has here."""
        return self._addresses.get(name.lower(), [])

    async def ask_udp(self, server: SocketAddress, query: Query) -> bytes:
        """As ``names.exchange.Exchange.ask_udp``."""
        del server
        question = dns.message.from_wire(query.wire)
        wanted = question.question[0]
        name = wanted.name.to_text(omit_final_dot=True).lower()
        self.asked[name] += 1
        reply = dns.message.make_response(question, recursion_available=True)
        rows = self._rows.get(name)
        if rows is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        for row in rows or ():
            if row.rdtype == wanted.rdtype:
                reply.answer.append(row)
        return reply.to_wire(max_size=65535)

    async def ask_tcp(self, server: SocketAddress, query: Query) -> bytes:
        """As ``names.exchange.Exchange.ask_tcp``."""
        return await self.ask_udp(server, query)

    def _add(self, name: str, answers: Sequence[str]) -> None:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            self._addresses[name.lower()] = list(answers)
            for answer in answers:
                kind = "A" if ipaddress.ip_address(answer).version == 4 else "AAAA"  # noqa: PLR2004 - of IP
                self._put(name, kind, answer)
            return
        pointer = dns.reversename.from_address(name).to_text(omit_final_dot=True)
        for answer in answers:
            self._put(pointer, "PTR", f"{answer}.")

    def _put(self, name: str, kind: str, answer: str) -> None:
        rows = self._rows.setdefault(name.lower(), [])
        rows.append(dns.rrset.from_text(f"{name}.", _TTL_S, "IN", kind, answer))
