"""The tables that say what rules want of TLS: ``[tls]``, and ``tls`` of a rule.

``tables`` has them among its keys, ``parse_rules`` makes checks of them. The invariant: what a rule
leaves out is as ``[tls]`` says; what that leaves out is refused when it is odd, and is not opened.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, cast

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema
from typing_extensions import override

from sluicegate.documents import Model, Wrong, either
from sluicegate.documents.places import KeyPath
from sluicegate.names import CanonicalHost, HostPattern, HostRefused, canonical_host

from .place import Place
from .protocols import ProtocolPattern
from .tls_check import (
    TLS_PORTS,
    TLS_VERSIONS,
    EchAnswer,
    OddAnswer,
    SniCheck,
    TlsCheck,
)
from .tls_opening import (
    NOT_OPENED,
    ClientCertificateWish,
    InsideAnswer,
    TlsMode,
    TlsOpening,
    Unverified,
)

__all__ = [
    "PublishTlsTable",
    "RuleTlsTable",
    "TlsTable",
    "publication_check",
    "published_name",
    "rule_check",
]

_AS_IT_IS: Final = (None, TlsMode.SPLICE)
_Port = Annotated[int, Field(ge=1, le=65535)]
_OFF: Final = "off"


class _HelloKeys(Model, use_attribute_docstrings=True):
    """What all of them have in common; None: left out."""

    check: bool | None = None
    """Whether ClientHellos are judged at all; ``tls = "off"`` is short for ``check = false``."""
    sni: SniCheck | None = None
    """``match``: the name has to be the one that the client asked for; ``any``: whatever it is."""
    without_sni: OddAnswer | None = None
    """A hello that names no server."""
    address_as_sni: OddAnswer | None = None
    """A hello with an address where a name belongs."""
    ech: EchAnswer | None = None
    """A hello that hides another one, or may; ``outer`` takes the name outside for the name."""
    not_tls: OddAnswer | None = None
    """Whatever is no TLS."""
    version_min: Literal["1.0", "1.1", "1.2", "1.3"] | None = None
    """The client has to offer this version of TLS, or a higher one."""

    @override
    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say that a text will do."""
        form = {"type": "string", "const": _OFF}
        return either(form, handler.resolve_ref_schema(handler(core)))

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value != _OFF:
            raise Wrong(
                f"is {value!r}, must be a table, or {_OFF!r}", 'for example { ech = "outer" }'
            )
        return {"check": False}


class _PortKeys(_HelloKeys):
    """Of rules, whose connections go to many ports."""

    ports: list[_Port] | None = Field(default=None, min_length=1, examples=[[443]])
    """Where clients speak TLS."""
    mode: TlsMode | None = None
    """``splice``: TLS passes as it is; ``validate``: its server is verified before; ``inspect``: it
    is opened."""
    splice: list[str] | None = Field(default=None, examples=[["*.bank.example"]])
    """Hosts, and ``*.name``, that pass as they are all the same."""
    verify_only: list[str] | None = Field(default=None, examples=[["*.clinic.example"]])
    """Hosts, and ``*.name``, that are verified and not opened all the same."""
    unverified: Unverified | None = None
    """A server that is not who it should be: ``refuse`` by an alert, refuse by a ``page``, or
    ``show``; the last two under a certificate that no client trusts."""
    client_certificates: ClientCertificateWish | None = None
    """A server that asks for a client's certificate: ``refuse``, ``splice``, or ``ignore``."""
    not_http: InsideAnswer | None = None
    """What is not HTTP inside TLS that is opened."""


class TlsTable(_PortKeys):
    """``[tls]``: what rules want of TLS that do not say it themselves."""

    @model_validator(mode="after")
    def _is_looked_at(self) -> TlsTable:
        if self.check is False and self.mode not in _AS_IT_IS:
            raise Wrong(
                f"mode is {self.mode!r}, and hellos are not looked at", 'remove "check = false"'
            )
        return self


class RuleTlsTable(_PortKeys):
    """``tls`` of a rule: what it wants of ClientHellos."""


class PublishTlsTable(_HelloKeys):
    """``tls`` of a publication: what it wants of ClientHellos."""

    names: list[str] = Field(default_factory=list, examples=[["www.example.org"]])
    """What the server is called: hosts, and ``*.name``."""


def rule_check(
    table: RuleTlsTable | None,
    general: TlsTable,
    protocols: tuple[ProtocolPattern, ...],
    place: Place,
    *,
    allow_underscore: bool,
) -> TlsCheck | None:
    """Return what a rule that allows wants of TLS on its connections; None: nothing.

    Args:
        table: What it says itself, if it does.
        general: ``[tls]``.
        protocols: What it allows.
        place: Of the rule.
        allow_underscore: Whether names may have underscores.
    """
    if not _is_wanted(table, general):
        if table is not None and table.mode not in _AS_IT_IS:
            cause = f"is {table.mode.value!r}, and hellos are not looked at"
            place.refuse(("tls", "mode"), cause, 'remove "check = false"')
        return None
    written = None if table is None else table.ports
    ports = tuple(dict.fromkeys(written or general.ports or TLS_PORTS))
    reached = tuple(port for port in ports if any(one.matches("tcp", port) for one in protocols))
    if table is not None and not reached:
        place.refuse(
            ("tls",),
            f"is about connections to {', '.join(map(str, ports))}, and the rule allows none there",
            'write the ports: tls = { ports = [8443] }, or tls = "off"',
        )
    if not reached:
        return None
    opening = _opening(table, general, place, allow_underscore=allow_underscore)
    return _check(table, general, ports=reached, opening=opening)


def publication_check(
    table: PublishTlsTable | None,
    general: TlsTable,
    place: Place,
    *,
    is_http: bool,
    has_server_tls: bool,
    allow_underscore: bool,
) -> TlsCheck | None:
    """Return what a publication wants of hellos; None: nothing, as where it does not say it.

    Args:
        table: What it says.
        general: ``[tls]``.
        place: Of the publication.
        is_http: The gate reads its requests, so nobody sends its server a hello.
        has_server_tls: It is the gate that sends its server a hello.
        allow_underscore: Whether names may have underscores.
    """
    if table is None or table.check is False:
        return None
    if is_http:
        cause = "is about TLS that passes as it is, and requests are read here"
        place.refuse(("tls",), cause, 'remove "tls"; certificates are the listener\'s')
    elif has_server_tls:
        cause = "is about TLS that passes as it is, and it is the gate that speaks it (server_tls)"
        place.refuse(("tls",), cause, "remove one of them")
    names: list[HostPattern] = []
    for index, text in enumerate(table.names):
        try:
            names.append(HostPattern.parse(text, allow_underscore=allow_underscore))
        except HostRefused as refused:
            place.refuse(("tls", "names", index), refused.hint)
        else:
            if names[-1].host.is_address:
                place.refuse(("tls", "names", index), f"{text!r} is no name")
    check = _check(table, general, names=tuple(names))
    if check.sni is SniCheck.MATCH and not table.names:
        place.refuse(
            ("tls", "names"),
            "is missing: nobody asks for a published server by name before the hello does",
            'for example: names = ["www.example.org"]; or sni = "any"',
        )
    return check


def published_name(
    text: str | None, place: Place, *, allow_underscore: bool
) -> CanonicalHost | None:
    """Return who a published server has to be, inside TLS; None: it is spoken to in the open.

    Args:
        text: ``server_tls``, if it is written.
        place: Of the publication.
        allow_underscore: Whether names may have underscores.
    """
    if text is None:
        return None
    try:
        return canonical_host(text, allow_underscore=allow_underscore)
    except HostRefused as refused:
        place.refuse(("server_tls",), refused.hint, 'for example "wiki.example.org"')
        return None


def _is_wanted(table: RuleTlsTable | None, general: TlsTable) -> bool:
    if table is None:
        return general.check is not False
    # Whoever writes what is wanted wants it.
    return table.check is not False


def _check(
    table: _HelloKeys | None,
    general: _HelloKeys,
    *,
    ports: tuple[int, ...] = (),
    names: tuple[HostPattern, ...] = (),
    opening: TlsOpening = NOT_OPENED,
) -> TlsCheck:
    found: dict[str, Any] = {}
    for key in _KEYS:
        own = None if table is None else getattr(table, key)
        value = getattr(general, key) if own is None else own
        if value is not None:
            found[key] = value
    version = cast("str | None", found.pop("version_min", None))
    number = 0 if version is None else TLS_VERSIONS[version]
    return TlsCheck(ports=ports, names=names, version_min=number, opening=opening, **found)


def _opening(
    table: _PortKeys | None, general: _PortKeys, place: Place, *, allow_underscore: bool
) -> TlsOpening:
    """Return what is done with TLS; what is wrong with it goes into the findings."""
    found: dict[str, Any] = {}
    for key in _OPENING_KEYS:
        own = None if table is None else getattr(table, key)
        value = getattr(general, key) if own is None else own
        if value is None:
            continue
        if key in {"splice", "verify_only"}:
            at = ("tls", key) if own is not None else None
            value = _hosts(value, at, place, allow_underscore=allow_underscore)
        found[key] = value
    opening = TlsOpening(**found)
    if table is not None:
        _refuse_idle(table, opening, place)
    return NOT_OPENED if opening.mode is TlsMode.SPLICE else opening


def _hosts(
    texts: list[str], at: KeyPath | None, place: Place, *, allow_underscore: bool
) -> tuple[HostPattern, ...]:
    """Return what hosts are meant; None as ``at``: ``[tls]`` has them, where they are told once."""
    found: list[HostPattern] = []
    for index, text in enumerate(texts):
        try:
            found.append(HostPattern.parse(text, allow_underscore=allow_underscore))
        except HostRefused as refused:
            place.refuse(("tls",) if at is None else (*at, index), refused.hint)
    return tuple(found)


def _refuse_idle(table: _PortKeys, opening: TlsOpening, place: Place) -> None:
    """Refuse keys of a rule that have no effect in its mode."""
    if opening.mode is TlsMode.INSPECT:
        return
    idle = _OF_INSPECTION if opening.mode is TlsMode.VALIDATE else _OPENING_KEYS[1:]
    for key in idle:
        if getattr(table, key) is not None:
            cause = f"has no effect: the mode is {opening.mode.value!r}"
            place.refuse(("tls", key), cause, 'mode = "inspect", or remove it')


_OF_INSPECTION: Final = ("verify_only", "unverified", "client_certificates", "not_http")
_OPENING_KEYS: Final = ("mode", "splice", *_OF_INSPECTION)

_KEYS: Final = ("sni", "without_sni", "address_as_sni", "ech", "not_tls", "version_min")
