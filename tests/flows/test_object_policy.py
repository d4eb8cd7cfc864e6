"""Rules about content: each object is held against the policy, in its place among the rules."""

from __future__ import annotations

import dataclasses

import pytest
from typing_extensions import override

from sluicegate.audit import TransferRecord
from sluicegate.filterapi import (
    Connection,
    DataFilter,
    DataSocket,
    Direction,
    EntryMode,
    Outcome,
    TransferOffer,
)
from sluicegate.gate.objections import shown_by
from sluicegate.policy import Level, PolicySnapshot, TransferPart
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import MODES, WEB, Ask, Names, asks, proxy_settings
from tests.flows.gate_kit import Gate, echoes, installation, play


class Store(DataFilter):
    """A protocol of its own: the client names an object and its type; it is told what became."""

    shows = ("transfers",)

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        name, _, content_type = bytes(await client.receive()).decode().partition("|")
        offer = TransferOffer(name, Direction.UPLOAD, "store", content_type=content_type)
        with connection.open_transfer(offer) as transfer:
            if not transfer.is_wanted:
                transfer.pass_by()
                await client.send(b"released")
            else:
                await transfer.feed(b"content")
                outcome = await transfer.finish()
                assert outcome.outcome is Outcome.REFUSED
                await client.send(f"refused: {outcome.reason}".encode())
        client.shutdown()


def told(mode: EntryMode, policy: str, said: str, names: Names | None = None) -> tuple[str, Gate]:
    """Return what a client is told of the object that it names."""
    plan = proxy_settings(policy, filters=[installation(Store, "f")])
    plan = dataclasses.replace(
        plan, policy=PolicySnapshot(plan.policy.policy, {"f": Level.TRANSFER})
    )
    answers: list[str] = []

    async def says(stream: PeerStream) -> bytes:
        await stream.send_all(said.encode())
        answers.append((await stream.receive_all()).decode())
        return b""

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        await gate.ended(gate.call(asks(Ask(mode, "www.example"), says)))

    names = names or Names().put("www.example", str(WEB.ip))
    gate = play(scenario, plan, exchange=names)
    (answer,) = answers
    return answer, gate


ALLOWS_PDF = """
[[rule]]
name = "papers"
to = ["*"]
filters = ["f"]
content_types = ["application/pdf", ".pdf"]
"""

DENIES_PROGRAMS = """
[[rule]]
name = "no-programs"
action = "deny"
to = ["*"]
content_types = ["application/x-msdownload", ".exe"]

[[rule]]
name = "all"
to = ["*"]
filters = ["f"]
"""

NARROWS_LATER = """
[[rule]]
name = "papers"
to = ["*"]
filters = ["f"]
content_types = [".pdf"]

[[rule]]
name = "pictures"
to = ["*"]
filters = []
content_types = [".png"]
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("policy", "said", "expected"),
    [
        (ALLOWS_PDF, "a.pdf|application/pdf", "released"),
        (ALLOWS_PDF, "a.pdf|application/pdf; x=1", "released"),
        (ALLOWS_PDF, "a.PDF|", "released"),
        (ALLOWS_PDF, "a.pdf|text/html", "refused: no-rule"),
        (ALLOWS_PDF, "a.txt|", "refused: no-rule"),
        (ALLOWS_PDF, "pdf|", "refused: no-rule"),
        (ALLOWS_PDF, "a.pdf/b|", "refused: no-rule"),
        (DENIES_PROGRAMS, "a.txt|", "released"),
        (DENIES_PROGRAMS, "a.exe|", "refused: denied-by-rule (no-programs)"),
        (DENIES_PROGRAMS, "A.EXE|", "refused: denied-by-rule (no-programs)"),
        (DENIES_PROGRAMS, "a.exe. .|", "refused: denied-by-rule (no-programs)"),
        (DENIES_PROGRAMS, "a|Application/X-MSDownload", "refused: denied-by-rule (no-programs)"),
    ],
)
def test_an_object_is_decided_on_by_what_it_says_of_itself(
    mode: EntryMode, policy: str, said: str, expected: str
) -> None:
    answer, gate = told(mode, policy, said)
    assert answer == expected
    (record,) = [one for one in gate.recorder.records if isinstance(one, TransferRecord)]
    assert record.verdict == ("released" if expected == "released" else "refused")


def test_an_object_for_which_other_filters_are_wanted_is_refused() -> None:
    answer, _ = told(EntryMode.SOCKS5, NARROWS_LATER, "a.png|")
    assert answer.startswith("refused: ")


DENIES_BY_PLACE = """
[[rule]]
name = "no-programs-from-there"
action = "deny"
to = ["{}"]
content_types = [".exe"]

[[rule]]
name = "all"
to = ["www.example"]
filters = ["f"]
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", ["93.184.216.0/24", "cdn.example"], ids=["address", "alias"])
def test_a_refusal_of_objects_by_what_the_name_leads_to_holds_for_each_of_them(
    mode: EntryMode, place: str
) -> None:
    """The connection itself is let in by its name, as long as no such object shows itself."""
    names = Names().put("www.example", "www.example. 60 CNAME cdn.example.")
    names.records["www.example"].append(f"cdn.example. 60 A {WEB.ip}")
    for said, expected in (
        ("a.txt|", "released"),
        ("a.exe|", "refused: rule no-programs-from-there denies it"),
    ):
        answer, _ = told(mode, DENIES_BY_PLACE.format(place), said, names)
        assert answer == expected


@pytest.mark.parametrize(
    ("name", "content_type", "shown"),
    [
        ("a.Pdf", "", TransferPart("", ".pdf")),
        ("/x.y/a", "", TransferPart("", "")),
        ("x.y\\a", "", TransferPart("", "")),
        ("a.tar.gz", "", TransferPart("", ".gz")),
        (".exe", "", TransferPart("", ".exe")),
        ("a.exe...  ", "", TransferPart("", ".exe")),
        ("a.exe::$DATA", "", TransferPart("", ".exe")),
        ("a.exe. ::$DATA", "", TransferPart("", ".exe")),
        ("A.EXE;1", "", TransferPart("", ".exe")),
        ("C:\\x\\a.exe", "", TransferPart("", ".exe")),
        ("a.", "", TransferPart("", "")),
        ("a", "Text/HTML; charset=x", TransferPart("text/html", "")),
        ("", "", TransferPart("", "")),
    ],
)
def test_an_object_shows_its_type_and_its_extension(
    name: str, content_type: str, shown: TransferPart
) -> None:
    offer = TransferOffer(name, Direction.UPLOAD, "store", content_type=content_type)
    assert shown_by(offer) == shown
