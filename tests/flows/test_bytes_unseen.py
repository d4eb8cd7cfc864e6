"""Rules whose filters judge objects and HTTP messages let no tunnel pass that shows them none."""

from __future__ import annotations

import pytest

from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    EntryMode,
    Release,
    StreamFilter,
    Transfer,
    WebFilter,
)
from sluicegate.gate.registry import BYTES_UNSEEN
from tests.flows.chain_filters import Passing
from tests.flows.entry_kit import MODES, REFUSED, WEB, Ask, proxy_settings, visit
from tests.flows.gate_kit import installation
from tests.flows.model_kit import Telling

RULE = '[[rule]]\nname = "web"\nto = ["*"]\nprotocols = ["tcp"]\nfilters = [{filters}]\n'


class Judge(ContentFilter):
    """Judges objects."""

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        del transfer
        return Release()


class Messages(WebFilter):
    """Sees HTTP messages."""


class Chunks(StreamFilter):
    """Sees bytes, and can hold no object."""


# the filters of the rule, whether tunnels pass under it
CASES = [
    ((), True),
    (("judge",), False),
    (("messages",), False),
    (("judge", "chunks"), False),
    (("messages", "finder"), False),
    (("judge", "finder"), True),
    (("judge", "passing"), True),
    (("finder",), True),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("names", "passes"), CASES)
def test_a_tunnel_passes_only_where_every_filter_of_its_rule_can_see_it(
    mode: EntryMode, names: tuple[str, ...], passes: bool
) -> None:
    made = {
        "judge": installation(Judge(), "judge"),
        "messages": installation(Messages(), "messages"),
        "finder": installation(Telling(), "finder"),
        "chunks": installation(Chunks, "chunks"),
        "passing": installation(Passing, "passing"),
    }
    rule = RULE.format(filters=", ".join(f'"{name}"' for name in names))
    plan = proxy_settings(rule, filters=[made[name] for name in names])
    found = visit(Ask(mode, WEB.host), plan=plan)
    if passes:
        assert found.dialled == [WEB]
        return
    assert found.dialled == []
    assert found.reply.code == REFUSED[mode]
    assert found.reasons == [BYTES_UNSEEN]
