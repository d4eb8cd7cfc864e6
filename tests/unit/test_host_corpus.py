"""The corpus of hosts, run against our canonicaliser, authority parser and patterns."""

from __future__ import annotations

import collections
import json
import pathlib

import pytest

from sluicegate.names import (
    HostPattern,
    HostReason,
    HostRefused,
    canonical_host,
    parse_authority,
    parse_port,
)
from sluicegate.testing import HostCase, host_corpus
from sluicegate.testing.corpus import HostExpectation

CORPORA = pathlib.Path(__file__).resolve().parents[1] / "corpora"


def reading_of(case: HostCase) -> HostExpectation:
    allow = case.allow_underscore
    match case.kind:
        case "host" | "host-bytes":
            text = case.input if case.kind == "host" else bytes.fromhex(case.input)
            host = canonical_host(text, allow_underscore=allow)
            asked = case.expect.is_address
            return HostExpectation(
                host=host.text, is_address=None if asked is None else host.is_address
            )
        case "authority":
            found = parse_authority(
                case.input, default_port=case.default_port, allow_underscore=allow
            )
            return HostExpectation(host=found.host.text, port=found.port)
        case "port":
            return HostExpectation(port=parse_port(case.input))
        case "pattern":
            pattern = HostPattern.parse(case.input, allow_underscore=allow)
            return HostExpectation(matches=pattern.matches(canonical_host(case.host)))


@pytest.mark.parametrize("case", host_corpus(), ids=lambda case: case.id)
def test_case_is_read_or_refused_as_the_corpus_says(case: HostCase) -> None:
    try:
        found = reading_of(case)
    except HostRefused as refusal:
        found = HostExpectation(refused=refusal.reason)
    assert found == case.expect, case.reason


def test_names_in_the_corpus_that_are_no_addresses_say_so_by_saying_nothing() -> None:
    for case in host_corpus():
        if case.kind == "host" and case.expect.host and not case.allow_underscore:
            assert canonical_host(case.input).is_address == bool(case.expect.is_address), case.id


def test_every_reason_has_a_case() -> None:
    named = {case.expect.refused for case in host_corpus()} - {""}
    assert named == {str(reason) for reason in HostReason}


def test_every_case_has_its_own_id_and_groups_a_and_b_are_there() -> None:
    cases = host_corpus()
    assert max(collections.Counter(case.id for case in cases).values()) == 1
    assert {case.group for case in cases} >= {"A12", *(f"B{number}" for number in range(18))}


@pytest.mark.parametrize("name", ["hosts", "addresses"])
def test_files_for_other_products_are_those_that_the_package_ships(name: str) -> None:
    linked = CORPORA / f"{name}.json"
    assert linked.resolve().parent.name == "corpora"
    assert linked.resolve().parent.parent.name == "testing"
    assert json.loads(linked.read_text(encoding="ascii"))["format"] == 1
