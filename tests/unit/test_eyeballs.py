"""The order of a race: families take turns, and each keeps its own order."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st

from sluicegate.names import classify
from sluicegate.names.destination import JudgedAddress
from sluicegate.names.eyeballs import interleave


@hypothesis.given(st.lists(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), max_size=12))
def test_families_take_turns_and_keep_their_order(addresses: list[Any]) -> None:
    ones = [JudgedAddress(classify(address)) for address in addresses]
    ordered = interleave(ones)
    versions = [one.judgement.address.version for one in ordered]
    for version in (4, 6):
        own = [one for one in ones if one.judgement.address.version == version]
        assert [one for one in ordered if one.judgement.address.version == version] == own
    pairs = 2 * min(versions.count(4), versions.count(6))
    assert versions[:pairs] == [6, 4] * (pairs // 2)
    assert len(set(versions[pairs:])) <= 1
