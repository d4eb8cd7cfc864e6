"""``transport = "udp"``: what it may stand beside, and what rules on it may name."""

from __future__ import annotations

import pathlib
import textwrap

import pytest

from sluicegate.app.load import Loaded, load
from sluicegate.documents import Findings
from sluicegate.gate.settings import Place

MAIN = """
[[listener]]
name = "dns"
transport = "udp"
address = "127.0.0.1:5300"
{more}
[[filter]]
name = "stream"
use = "kinds.py:Stream"

[[filter]]
name = "datagram"
use = "kinds.py:Datagram"

[[filter]]
name = "content"
use = "kinds.py:Content"

[[filter]]
name = "data"
use = "kinds.py:Data"
"""

KINDS = """
from sluicegate.filterapi import *

class Stream(StreamFilter):
    pass

class Datagram(DatagramFilter):
    pass

class Content(ContentFilter):
    async def inspect(self, transfer):
        return Release()

class Data(DataFilter):
    async def run(self, client, server, connection):
        pass
"""

RULE = """
[[publish]]
name = "dns"
listener = "{listener}"
server = "192.0.2.53:53"
clients = ["10.0.0.0/8"]
filters = {filters}
{more}
"""


def read(folder: pathlib.Path, main: str = "", rule: str = "", **values) -> Loaded | list[str]:
    values = {"listener": "dns", "filters": "[]", **values}
    (folder / "kinds.py").write_text(KINDS)
    (folder / "sluicegate.toml").write_text(MAIN.format(more=textwrap.dedent(main)))
    (folder / "policy.toml").write_text(RULE.format(**values, more=rule))
    findings = Findings()
    loaded = load(folder / "sluicegate.toml", findings)
    return loaded if loaded is not None else [str(error) for error in findings.errors]


def test_a_udp_listener_is_one(tmp_path):
    loaded = read(tmp_path, filters='["datagram", "data"]')

    assert isinstance(loaded, Loaded), loaded
    assert [str(one.place) for one in loaded.settings.listeners] == ["udp:127.0.0.1:5300"]


def test_tcp_and_udp_may_share_an_address(tmp_path):
    tcp = '[[listener]]\nname = "dns-tcp"\naddress = "127.0.0.1:5300"\n'

    assert isinstance(read(tmp_path, tcp), Loaded)


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"filters": '["stream"]'}, "'stream' never sees datagrams"),
        ({"filters": '["data", "content"]'}, "'content' never sees datagrams"),
        (
            {
                "main": '[[listener]]\nname = "web"\naddress = "127.0.0.1:80"\n',
                "listener": "web",
                "filters": '["datagram"]',
            },
            "'datagram' never sees a stream",
        ),
        ({"rule": 'send_proxy_protocol = "v2"'}, "goes in front of a stream"),
        ({"rule": 'tls = { sni = "any" }'}, "a ClientHello comes in a stream"),
        (
            {"main": 'proxy_protocol = { from = ["10.0.0.1/32"] }\n'},
            "announces clients of streams",
        ),
        ({"main": 'entry = "proxy"\n'}, "in streams, not in datagrams"),
        (
            {"main": '[[listener]]\nname = "b"\ntransport = "udp"\naddress = "127.0.0.1:5300"\n'},
            "is taken by the listener 'dns'",
        ),
    ],
)
def test_what_contradicts_datagrams_is_refused(tmp_path, values, cause):
    errors = read(tmp_path, **values)

    assert isinstance(errors, list)
    assert any(cause in error for error in errors), errors


@pytest.mark.parametrize("text", ["127.0.0.1:53", "udp:127.0.0.1:53", "udp:[::1]:53", "[::]:1"])
def test_a_place_reads_as_it_is_written(text):
    assert str(Place.parse(text)) == text
    assert Place.parse(text).is_udp == text.startswith("udp:")
