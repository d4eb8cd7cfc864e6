"""The corpora of hosts and addresses that products which name destinations should agree on.

Our own tests run them against ``sluicegate.names``; authors of filters and of other gates run them
against theirs. They are JSON, explained in ``tests/corpora/README.md``. The invariant: a case says
what is right and why, it is never written from what some code answers.
"""

from __future__ import annotations

import importlib.resources
from typing import Generic, Literal, TypeVar

import msgspec

__all__ = [
    "AddressCase",
    "AddressExpectation",
    "HostCase",
    "HostExpectation",
    "address_corpus",
    "host_corpus",
]

CaseT = TypeVar("CaseT")


class HostExpectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is right: ``refused`` with its reason, or what was read."""

    refused: str = ""
    """The reason's code, empty when the text is taken."""

    host: str = ""
    """The canonical host."""

    is_address: bool | None = None
    """Whether the host is an address; None where the case does not ask."""

    port: int | None = None
    matches: bool | None = None
    """Whether a pattern matches the case's host."""


class HostCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One text in one place."""

    id: str
    group: str
    """The attack it belongs to, as in ``tests/hostile/README.md``."""

    kind: Literal["host", "host-bytes", "authority", "port", "pattern"]
    """Where the text stands; ``host-bytes`` is written in hexadecimal."""

    input: str
    expect: HostExpectation
    reason: str
    host: str = ""
    """What a pattern is asked about, as a client would write it."""

    allow_underscore: bool = False
    default_port: int | None = None


class AddressExpectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is right for one address."""

    is_public: bool
    address_class: str = msgspec.field(name="class")
    embedded: tuple[tuple[str, str], ...] | None = None
    """Kind and IPv4 address of everything inside, in order; None where the case does not ask."""


class AddressCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One address as one gate sees it."""

    id: str
    group: str
    input: str
    expect: AddressExpectation
    reason: str
    own: tuple[str, ...] = ()
    """The gate's own addresses."""

    nat64_prefixes: tuple[str, ...] = ()
    """Prefixes of the network's translators."""


class _Corpus(msgspec.Struct, Generic[CaseT], frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    about: str
    cases: tuple[CaseT, ...]


def host_corpus() -> tuple[HostCase, ...]:
    """Return the cases of host texts, authorities, ports and patterns."""
    return msgspec.json.decode(_content("hosts"), type=_Corpus[HostCase]).cases


def address_corpus() -> tuple[AddressCase, ...]:
    """Return the cases of addresses."""
    return msgspec.json.decode(_content("addresses"), type=_Corpus[AddressCase]).cases


def _content(name: str) -> bytes:
    return (
        importlib.resources.files("sluicegate.testing") / "corpora" / f"{name}.json"
    ).read_bytes()
