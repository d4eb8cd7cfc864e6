"""permessage-deflate (RFC 7692): what two ends agree on, read from offers and answers.

``handshake`` puts what may be offered into requests and checks what servers choose. The invariant:
an agreement is one that some offer allows, whole and in the words of the RFC, or there is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .fault import WebSocketError, WebSocketFault

__all__ = ["Deflate", "DeflateOffer", "choose_offer", "read_offers"]

_Parameters = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Deflate:
    """What two ends agreed on, for both ways."""

    client_bits: int = 15
    """The window in which the client compresses, as a power of two."""
    server_bits: int = 15
    client_forgets: bool = False
    """Whether the client compresses every message by itself (no context takeover)."""
    server_forgets: bool = False


@dataclass(frozen=True, slots=True)
class DeflateOffer:
    """One offer of a client, or the answer of a server."""

    text: str
    """As it is sent on."""
    client_bits: int | None = None
    """None: nothing was said."""
    server_bits: int | None = None
    takes_client_bits: bool = False
    """Whether the client lets the server choose its window."""
    client_forgets: bool = False
    server_forgets: bool = False

    def allows(self, answer: DeflateOffer) -> bool:
        """Tell whether a server may answer so to this offer (RFC 7692 section 7.1)."""
        if self.server_forgets and not answer.server_forgets:
            return False
        if self.server_bits is not None and (
            answer.server_bits is None or answer.server_bits > self.server_bits
        ):
            return False
        if answer.client_bits is None:
            return True
        return self.takes_client_bits and answer.client_bits <= (self.client_bits or _BITS_MAX)


def read_offers(values: Sequence[bytes]) -> tuple[DeflateOffer, ...]:
    """Read what a client offers in ``Sec-WebSocket-Extensions``; other extensions are left out.

    An offer of permessage-deflate that is not as the RFC has it is left out, too: a server would
    decline it (section 7.1).

    Raises:
        WebSocketError: It is no list of extensions.
    """
    offers: list[DeflateOffer] = []
    for name, parameters in _extensions(values, WebSocketFault.HANDSHAKE):
        if name != _NAME or parameters is None:
            continue
        offer = _read(parameters, is_offer=True)
        if offer is not None:
            offers.append(offer)
    return tuple(offers)


def choose_offer(values: Sequence[bytes], offers: Sequence[DeflateOffer]) -> Deflate | None:
    """Read what a server has chosen; None: no compression.

    Raises:
        WebSocketError: It is none of what was offered.
    """
    chosen = list(_extensions(values, WebSocketFault.EXTENSION))
    if not chosen:
        return None
    (name, parameters), *more = chosen
    answer = _read(parameters, is_offer=False) if parameters is not None else None
    if name != _NAME or more or answer is None:
        raise WebSocketError(WebSocketFault.EXTENSION)
    if not any(one.allows(answer) for one in offers):
        raise WebSocketError(WebSocketFault.EXTENSION, "its parameters")
    return Deflate(
        client_bits=answer.client_bits or _BITS_MAX,
        server_bits=answer.server_bits or _BITS_MAX,
        client_forgets=answer.client_forgets,
        server_forgets=answer.server_forgets,
    )


def _extensions(
    values: Sequence[bytes], fault: WebSocketFault
) -> list[tuple[str, _Parameters | None]]:
    """Return each extension of a list with its parameters; None where one is said twice."""
    found: list[tuple[str, _Parameters | None]] = []
    for value in values:
        text = value.decode("latin-1").strip(" \t")
        if _LIST.fullmatch(text) is None:
            raise WebSocketError(fault, "Sec-WebSocket-Extensions")
        for extension in text.split(","):
            name, *parts = (one.strip(" \t") for one in extension.split(";"))
            parameters: _Parameters | None = {}
            for part in parts:
                key, is_given, given = part.partition("=")
                key = key.strip(" \t").lower()
                if parameters is not None and key not in parameters:
                    parameters[key] = given.strip(' \t"') if is_given else None
                else:
                    parameters = None
            found.append((name.lower(), parameters))
    return found


def _read(parameters: _Parameters, *, is_offer: bool) -> DeflateOffer | None:
    """Return an offer or an answer; None: it is not as the RFC has it."""
    words: list[str] = [_NAME]
    bits: dict[str, int | None] = {_CLIENT_BITS: None, _SERVER_BITS: None}
    for key, value in parameters.items():
        if key in (_CLIENT_FORGETS, _SERVER_FORGETS):
            if value is not None:
                return None
            words.append(key)
        elif key in bits:
            if value is None:
                # Only a client may leave its own window open.
                if not (is_offer and key == _CLIENT_BITS):
                    return None
                words.append(key)
            else:
                if value not in _BITS:
                    return None
                bits[key] = int(value)
                words.append(f"{key}={value}")
        else:
            return None
    return DeflateOffer(
        "; ".join(words),
        client_bits=bits[_CLIENT_BITS],
        server_bits=bits[_SERVER_BITS],
        takes_client_bits=_CLIENT_BITS in parameters,
        client_forgets=_CLIENT_FORGETS in parameters,
        server_forgets=_SERVER_FORGETS in parameters,
    )


_NAME: Final = "permessage-deflate"
_CLIENT_BITS: Final = "client_max_window_bits"
_SERVER_BITS: Final = "server_max_window_bits"
_CLIENT_FORGETS: Final = "client_no_context_takeover"
_SERVER_FORGETS: Final = "server_no_context_takeover"
_BITS_MAX: Final = 15
_BITS: Final = frozenset(str(one) for one in range(8, _BITS_MAX + 1))

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
#: A parameter's value, quoted or not, is a token (RFC 6455 section 9.1).
_PARAMETER: Final = rf'[ \t]*;[ \t]*{_WORD}(?:[ \t]*=[ \t]*(?:{_WORD}|"{_WORD}"))?'
_EXTENSION: Final = rf"{_WORD}(?:{_PARAMETER})*+"
_LIST: Final = re.compile(rf"{_EXTENSION}(?:[ \t]*,[ \t]*{_EXTENSION})*+")
