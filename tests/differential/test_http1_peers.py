"""Whatever request we accept, and whatever we make of it, real servers read as we do (H16).

Each stream ends with a request of which nothing may be swallowed. A server may refuse what we
accept; it may not read it otherwise: everything that it read, we read, in the same order.
"""

from __future__ import annotations

import collections
import pathlib
import posixpath
import tempfile
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

import pytest

from sluicegate.errors import ProtocolError
from sluicegate.protocols.http1 import (
    Body,
    EndOfMessage,
    Http1Client,
    Http1Server,
    Request,
    Response,
    Target,
    TargetForm,
    to_server,
)
from sluicegate.protocols.http1.fields import Fields
from tests.differential.http1_corpus import Sample, corpus
from tests.differential.http1_peers import SENTINEL, Peer, Reading, grouped, peers

pytestmark = pytest.mark.real

SEED = 20_240_617
STREAMS = 900
CORPUS = corpus(SEED, STREAMS)

#: What Apache, which stands before Node, adds or answers itself.
OF_APACHE = {
    b"connection", b"content-length", b"transfer-encoding", b"expect", b"x-forwarded-for",
    b"x-forwarded-host", b"x-forwarded-server", b"upgrade", b"te", b"keep-alive", b"max-forwards",
    b"proxy-connection", b"trailer",
}  # fmt: skip


class Whole:
    """A request that we read to its end."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.body = b""
        self.trailers = Fields()

    @property
    def fields(self) -> dict[bytes, list[bytes]]:
        return grouped([*self.request.fields.items(), *self.request.hop_fields])


def accepted(data: bytes) -> list[Whole] | None:
    """Read a stream; None if anything of it is refused, or its end is missing."""
    server = Http1Server()
    server.receive_data(data)
    found: list[Whole] = []
    is_whole = False
    try:
        while (event := server.next_event()) is not None:
            match event:
                case Request():
                    found.append(Whole(event))
                    is_whole = False
                case Body(piece):
                    found[-1].body += bytes(piece)
                case EndOfMessage(trailers):
                    found[-1].trailers = trailers
                    is_whole = True
                    server.send(Response(204))
                    server.send(EndOfMessage())
                    if server.must_close:
                        return found
    except ProtocolError:
        return None
    return found if is_whole else None


def emitted(whole: Whole) -> bytes:
    """What a server gets to see of a request."""
    client = Http1Client()
    passed = to_server(whole.request, b"gate")
    pieces = [*client.send(passed)]
    for at in range(0, len(whole.body), 40):
        pieces += client.send(Body(whole.body[at : at + 40]))
    pieces += client.send(EndOfMessage(whole.trailers))
    return b"".join(pieces)


def differences(peer: Peer, ours: list[Whole], theirs: list[Reading]) -> str | None:
    """Say what a server read that we did not; None if there is nothing."""
    rest = list(ours)
    for reading in theirs:
        while rest and not is_alike(peer.name, rest[0], reading):
            rest.pop(0)
        if not rest:
            return f"{peer.name} reads {reading}"
        rest.pop(0)
    return None


def is_alike(name: str, whole: Whole, reading: Reading) -> bool:
    request = whole.request
    if (request.method, whole.body) != (reading.method, reading.body):
        return False
    target = Target.parse(reading.target, method=request.method)
    if name == "apache":
        return has_path_of(request, reading) and has_fields_for_apache(whole, reading)
    # nginx leaves a tab behind a value; what we emit has none.
    blanks = b" \t" if name == "nginx" else b""
    theirs = {f: sorted(value.strip(blanks) for value in v) for f, v in reading.fields.items()}
    mine = {field: sorted(values) for field, values in whole.fields.items()}
    if not request.expects_continue:  # then it is no field of ours
        theirs.pop(b"expect", None)
    return target == request.target and mine == theirs


def has_path_of(request: Request, reading: Reading) -> bool:
    """Compare paths; Apache folds the slashes that one begins with."""
    path = bytes(request.target.as_origin())
    if request.target.form is TargetForm.ABSOLUTE:
        return resolved(path) == resolved(reading.target)
    return path.lstrip(b"/") == reading.target.lstrip(b"/")


def resolved(path: bytes) -> tuple[str, bytes]:
    """Return a path as Apache passes on that of an absolute target: escapes and dots resolved."""
    path, _, query = path.partition(b"?")
    return posixpath.normpath(unquote_to_bytes(path).decode("latin-1").lstrip("/")), query


def has_fields_for_apache(whole: Whole, reading: Reading) -> bool:
    """Compare what goes from end to end; Apache joins values, and names itself without a Host."""
    mine = grouped(whole.request.fields.items())
    theirs = dict(reading.fields)
    if whole.request.target.form is TargetForm.ABSOLUTE and b"host" in mine:
        mine[b"host"] = [value.lower() for value in mine[b"host"]]  # so Apache writes it
    ignored = OF_APACHE if b"host" in mine else OF_APACHE | {b"host"}
    joined = {n: b", ".join(v).strip() for n, v in mine.items() if n not in ignored}
    return joined == {n: b", ".join(v).strip() for n, v in theirs.items() if n not in ignored}


def is_nodes_own(whole: Whole) -> bool:
    """Tell what Node reads in its own way, and never gets to see from us.

    It reads nothing behind a request with an offer to upgrade, not even that request's body (we
    send no offer beside a body, and nothing behind an offer), and takes ``Proxy-Connection``, which
    we do not send, for ``Connection``.
    """
    fields = whole.fields
    options = b",".join(fields.get(b"connection", [])).lower()
    has_offer = b"upgrade" in options and b"upgrade" in fields
    return has_offer or (b"proxy-connection" in fields and not whole.request.is_http_1_1)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Peer]]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = pathlib.Path(folder)
        path.chmod(0o777)  # Apache's children are another user
        with peers(path) as started:
            yield started


def compare(
    servers: list[Peer], streams: list[bytes]
) -> tuple[list[str], collections.Counter[str], int]:
    """Return what differs, how many requests each server read, and how many we did."""
    found: list[str] = []
    counts: collections.Counter[str] = collections.Counter()
    total = 0
    for data in streams:
        ours = accepted(data)
        assert ours is not None, data
        total += len(ours)
        for peer in servers:
            if peer.name == "node" and any(is_nodes_own(whole) for whole in ours):
                continue
            theirs = peer.read(data)
            counts[peer.name] += len(theirs)
            difference = differences(peer, ours, theirs)
            if difference is not None:
                found.append(f"{difference}\n  of {data!r}")
    return found, counts, total


def test_servers_read_what_we_accept_as_we_do(servers: list[Peer]) -> None:
    streams = [sample.data + SENTINEL for sample in CORPUS if accepted(sample.data + SENTINEL)]

    found, counts, total = compare(servers, streams)

    assert not found, "\n".join(found[:10])
    # The comparison is not empty: a refusal counts as alike.
    assert total > 900
    assert {name for name, count in counts.items() if count > 0.8 * total} == {
        "h11", "node", "nginx", "apache",
    }, (counts, total)  # fmt: skip


def test_servers_read_what_we_emit_as_we_do(servers: list[Peer]) -> None:
    streams = []
    for sample in CORPUS:
        ours = accepted(sample.data)
        # HTTP/1.0 without Host goes nowhere.
        if ours and all(whole.request.authority for whole in ours):
            streams.append(b"".join(emitted(whole) for whole in ours) + SENTINEL)

    found, counts, total = compare(servers, streams)

    assert not found, "\n".join(found[:10])
    assert total > 900
    assert {name for name, count in counts.items() if count > 0.85 * total} == {
        "h11", "node", "nginx", "apache",
    }, (counts, total)  # fmt: skip


@pytest.mark.parametrize("sample", CORPUS[::9], ids=range(len(CORPUS[::9])))
def test_what_we_emit_is_what_we_read(sample: Sample) -> None:
    for whole in accepted(sample.data) or []:
        if whole.request.authority is None:
            continue
        passed = to_server(whole.request, b"gate")
        [again] = accepted(emitted(whole)) or []

        assert again.request.method == whole.request.method
        assert again.request.target == whole.request.target.as_origin()
        assert again.request.fields == passed.fields
        assert again.body == whole.body
        assert again.trailers == whole.trailers


def test_corpus_has_both_kinds_in_numbers() -> None:
    plain = [sample for sample in CORPUS if not sample.is_hostile]
    hostile = [sample for sample in CORPUS if sample.is_hostile]

    refused = [sample for sample in hostile if accepted(sample.data) is None]

    assert all(accepted(sample.data) for sample in plain)
    assert len(refused) > 200
    assert len(hostile) - len(refused) > 50
    assert [s.data for s in corpus(SEED, 20)] == [s.data for s in CORPUS[:20]]
