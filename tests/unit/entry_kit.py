"""Drives the parsers of entry protocols: any cut of the input, answers as of a gate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st

from sluicegate.errors import ProtocolError
from sluicegate.protocols.entry import Credentials
from sluicegate.protocols.socks5 import Socks5Parser, SocksGreeting, SocksMethod

EARLY_MAX = 40
CUTS = st.lists(st.integers(0, 400), max_size=8)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(borders)]


def run(parser: Any, data: bytes, cuts: Iterable[int] = ()) -> list[object]:
    """Feed ``data`` in pieces; return events, then what came early, or the hint and refusal."""
    found: list[object] = []
    try:
        for piece in pieces(data, cuts):
            parser.receive_data(piece)
            while (event := parser.next_event()) is not None:
                found.append(event)
                found += answer(parser, event)
    except ProtocolError as error:
        return [*found, error.hint, getattr(parser, "refusal", b"")]
    if not parser.needs_data and not isinstance(parser, Socks5Parser):
        found.append(parser.take_early_data())
    return found


def run_socks5(data: bytes, cuts: Iterable[int] = (), **options: Any) -> list[object]:
    parser = Socks5Parser(**options)
    found = run(parser, data, cuts)
    if found and type(found[-1]).__name__ == "SocksRequest":
        found.append(parser.take_early_data())
    return found


def answer(parser: Any, event: object) -> list[bytes]:
    """Accept the best method, and one password."""
    if isinstance(event, SocksGreeting):
        return [parser.choose_method(best_method(event))]
    if isinstance(event, Credentials) and isinstance(parser, Socks5Parser):
        return [parser.answer_credentials(is_accepted=event.password == b"open sesame")]
    return []


def best_method(greeting: SocksGreeting) -> SocksMethod:
    for method in (SocksMethod.USER_PASSWORD, SocksMethod.NO_AUTHENTICATION):
        if greeting.has_method(method):
            return method
    return SocksMethod.NONE_ACCEPTABLE


def fragments(*parts: bytes) -> st.SearchStrategy[bytes]:
    """Streams of a protocol's own words, and of anything."""
    return st.one_of(
        st.lists(st.sampled_from(parts), max_size=16).map(b"".join), st.binary(max_size=300)
    )


def hint_of(make: Callable[[], Any], data: bytes) -> str:
    """The hint of the error that must come, before which no event may."""
    [hint, _] = run(make(), data)
    assert isinstance(hint, str)
    return hint
