"""What a rule wants of the ClientHello on its connections, and whether one has it.

``tls_tables`` makes a check of what an operator writes; the gate asks ``judge_hello`` when a hello
is there, and again when another policy is. The invariant: a name in a hello is read by the one
canonicaliser of hosts, and a hello passes only if the name that policy judged is the name that the
server will see, unless the rule says otherwise.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

from sluicegate.names import CanonicalHost, HostPattern, HostRefused, canonical_host
from sluicegate.protocols.tls_hello import ClientHello, EchKind, SniFault, TlsFault

from .tls_opening import NOT_OPENED, OPENING_MEANINGS, TlsMode, TlsOpening

__all__ = [
    "HELLO_CUT_OFF",
    "HELLO_LATE",
    "SERVER_FIRST",
    "SNI_ELSEWHERE",
    "SNI_NOT_ALLOWED",
    "TLS_MEANINGS",
    "TLS_PORTS",
    "TLS_VERSIONS",
    "EchAnswer",
    "HelloFacts",
    "HelloVerdict",
    "OddAnswer",
    "SniCheck",
    "TlsCheck",
    "judge_hello",
    "judge_not_tls",
]


class SniCheck(enum.StrEnum):
    """What the name in a hello has to be."""

    MATCH = "match"
    """The name that the client asked the gate for; of an address, one that leads there."""
    ANY = "any"
    """Whatever it is."""


class OddAnswer(enum.StrEnum):
    """What becomes of a hello, or of what is none, whose name cannot be judged."""

    REFUSE = "refuse"
    ALLOW = "allow"


class EchAnswer(enum.StrEnum):
    """What becomes of a hello that hides, or may hide, another one."""

    REFUSE = "refuse"
    OUTER = "outer"
    """The name outside is taken for the name."""


@dataclass(frozen=True, slots=True)
class TlsCheck:
    """What one rule wants."""

    ports: tuple[int, ...] = ()
    """Where clients of its connections speak TLS; none: on whatever port."""
    sni: SniCheck = SniCheck.MATCH
    without_sni: OddAnswer = OddAnswer.REFUSE
    address_as_sni: OddAnswer = OddAnswer.REFUSE
    ech: EchAnswer = EchAnswer.REFUSE
    not_tls: OddAnswer = OddAnswer.REFUSE
    version_min: int = 0
    """As the protocol writes it; the highest version that a client offers is held against it."""
    names: tuple[HostPattern, ...] = ()
    """Of a publication: what its server is called."""
    opening: TlsOpening = NOT_OPENED
    """What is done with what passes."""

    def covers(self, port: int) -> bool:
        """Tell whether connections to a port are held to it."""
        return not self.ports or port in self.ports

    def mode_for(self, host: CanonicalHost, port: int) -> TlsMode:
        """Return what becomes of TLS with a host on a port."""
        is_covered = not self.ports or port in self.ports  # asked for each connection
        return self.opening.mode_for(host) if is_covered else TlsMode.SPLICE

    def canonical(self) -> list[object]:
        """Return it for the hash of a policy."""
        return [
            sorted(self.ports),
            self.sni,
            self.without_sni,
            self.address_as_sni,
            self.ech,
            self.not_tls,
            self.version_min,
            sorted(map(str, self.names)),
            *([] if self.opening == NOT_OPENED else [self.opening.canonical()]),
        ]


class HelloFacts(NamedTuple):
    """What of a hello is judged; kept while its connection is open, to be judged again."""

    is_tls: bool = False
    server_name: str | None = None
    """As the client wrote it."""
    ech: EchKind | None = None
    version: int = 0
    """The highest that is offered."""

    @classmethod
    def of(cls, hello: ClientHello) -> HelloFacts:
        """Return those of a hello."""
        return cls(True, hello.server_name, hello.ech, max(hello.versions))


NO_TLS: Final = HelloFacts()
"""Of what is no TLS at all."""


class HelloVerdict(NamedTuple):
    """What a check says of a hello."""

    reason: str = ""
    """Why it is refused, a code and what it is about; empty: it is not."""
    leads_here: CanonicalHost | None = None
    """A name that has to be looked up first: it must lead to the address that the client named."""

    @property
    def is_refusal(self) -> bool:
        """Whether it is refused."""
        return bool(self.reason)


def judge_hello(check: TlsCheck, facts: HelloFacts, host: CanonicalHost | None) -> HelloVerdict:
    """Judge a hello.

    Args:
        check: What the rule wants.
        facts: What the client said.
        host: What the client named to the gate; None: it was published.
    """
    if not facts.is_tls:
        return judge_not_tls(check)
    if facts.ech is not None and not (check.ech is EchAnswer.OUTER and facts.ech is EchKind.OUTER):
        return HelloVerdict(f"{TLS_ECH}: {facts.ech.value}")
    if facts.version < check.version_min:
        return HelloVerdict(f"{TLS_VERSION}: {_VERSION_NAMES.get(facts.version, 'unknown')}")
    if facts.server_name is None:
        is_refused = check.without_sni is OddAnswer.REFUSE
        return HelloVerdict(SNI_MISSING) if is_refused else PASSED
    try:
        # RFC 6066 section 3: without a final dot.
        name = canonical_host(facts.server_name, allow_underscore=True)
    except HostRefused as refused:
        return HelloVerdict(f"{TlsFault.SNI_FORM.code}: {refused.reason}")
    if name.address is not None:
        return _judge_address(check, name, host)
    if facts.server_name.endswith("."):
        return HelloVerdict(f"{TlsFault.SNI_FORM.code}: final dot")
    return PASSED if check.sni is SniCheck.ANY else _judge_name(check, name, host)


def judge_not_tls(check: TlsCheck) -> HelloVerdict:
    """Judge a client that does not speak TLS."""
    is_refused = check.not_tls is OddAnswer.REFUSE
    return HelloVerdict(TlsFault.NOT_TLS.code) if is_refused else PASSED


def _judge_address(
    check: TlsCheck, name: CanonicalHost, host: CanonicalHost | None
) -> HelloVerdict:
    if check.address_as_sni is OddAnswer.REFUSE:
        return HelloVerdict(f"{SNI_ADDRESS}: {name.text}")
    if check.sni is SniCheck.ANY or (host is not None and name.text == host.text):
        return PASSED
    return HelloVerdict(f"{SNI_MISMATCH}: {name.text}")


def _judge_name(check: TlsCheck, name: CanonicalHost, host: CanonicalHost | None) -> HelloVerdict:
    if host is None:
        is_meant = any(pattern.matches(name) for pattern in check.names)
    elif host.address is not None:
        return HelloVerdict("", name)
    else:
        is_meant = name.text == host.text
    return PASSED if is_meant else HelloVerdict(f"{SNI_MISMATCH}: {name.text}")


PASSED: Final = HelloVerdict()

TLS_PORTS: Final = (443,)
"""Where a rule holds clients to TLS that says nothing of ports."""

TLS_VERSIONS: Final = {"1.0": 0x0301, "1.1": 0x0302, "1.2": 0x0303, "1.3": 0x0304}
_VERSION_NAMES: Final = {number: name for name, number in TLS_VERSIONS.items()}

TLS_ECH: Final = "tls-ech"
TLS_VERSION: Final = "tls-version"
SNI_MISSING: Final = SniFault.MISSING.code
SNI_ADDRESS: Final = SniFault.ADDRESS.code
SNI_MISMATCH: Final = "tls-sni-mismatch"
SNI_NOT_ALLOWED: Final = "tls-sni-not-allowed"
SNI_ELSEWHERE: Final = "tls-sni-elsewhere"
SERVER_FIRST: Final = "tls-server-first"
HELLO_CUT_OFF: Final = "tls-hello-cut-off"
HELLO_LATE: Final = "tls-hello-late"

TLS_MEANINGS: Final = {
    **{fault.code: fault.hint for fault in (*TlsFault, *SniFault)},
    TLS_ECH: "the ClientHello hides another one, or may: what is inside cannot be judged",
    TLS_VERSION: "the client offers no version of TLS that the rule takes",
    SNI_MISMATCH: "the ClientHello names another server than the client asked the gate for",
    SNI_NOT_ALLOWED: "the client named an address, and no rule allows the name in its ClientHello",
    SNI_ELSEWHERE: "the client named an address to which the name in its ClientHello does not lead",
    SERVER_FIRST: "the server speaks before the client, which no server of TLS does",
    HELLO_CUT_OFF: "the client ended its stream in the midst of its ClientHello",
    HELLO_LATE: "the client did not send its ClientHello in time (hello_timeout_s)",
    **OPENING_MEANINGS,
}
"""Every reason code of this check, in words."""
