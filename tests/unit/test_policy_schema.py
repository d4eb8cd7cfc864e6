"""JSON Schemas: what the check takes fits them, and what has a wrong shape does not."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import json
import tomllib

import jsonschema
import pytest
from click.testing import CliRunner

from sluicegate.app.config import configuration_schema
from sluicegate.cli.main import cli
from sluicegate.policy import policy_schema
from tests.unit.policy_kit import errors, rule
from tests.unit.test_policy_objects import LISTS, OBJECTS

EVERYTHING = (
    'include = { before = ["a.d"], after = ["b.toml"] }\n'
    + OBJECTS
    + rule(
        listener='["a", "b"]', clients='["@office", "10.1.0.0/16"]', clients_except='["10.1.1.1"]',
        users='["ann"]', to='["@packages", "https://a.example.org/*"]', to_except='["x.example.org"]',
        protocols='["@https"]', protocols_except='["tcp:1"]', schedule='"work-hours"',
        methods='["GET"]', paths='["/a/*", { pattern = "/b" }]', content_types='[".pdf"]',
        filters='["f"]', **{"settings.f": "{ x = 1 }"}, owner='"o"', comment='"c"',
        limits='{ connections_max = 1, bytes_max = "1 GiB", duration_s = 1.5, idle_timeout_s = 60, url_bytes_max = 1, head_bytes_max = "1 KiB", request_bytes_max = 1, response_bytes_max = 1, response_timeout_s = 0.5 }',
        expires="2027-01-31T00:00:00Z", enabled="true",
        tls='{ check = true, ports = [443], sni = "match", without_sni = "refuse", address_as_sni = "refuse", ech = "outer", not_tls = "refuse", version_min = "1.2" }',
    )
    + """
[[publish]]
name = "p"
listener = "ftp"
server = "192.0.2.10:21"
clients = ["@office"]
protocol = "@published"
send_proxy_protocol = "v2"
limits = { bytes_max = 1000 }
tls = { names = ["www.example.org"] }
[tls]
ports = [443, 8443]
[[network_rule]]
name = "n"
from = ["@office"]
to = ["0.0.0.0/0"]
relation = "nat"
address = "192.0.2.5"
[[learn]]
name = "l"
clients = ["@office"]
until = 2026-12-05T18:00:00Z
listener = "proxy"
[names]
underscores = true
[system]
dns = { enabled = true, to = ["192.0.2.53/32"] }
[flood]
connections_max = 100
[[flood.exception]]
clients = ["@office"]
connections_max = 400
"""
)  # fmt: skip


def tree(text: str) -> object:
    """As TOML tools for editors see a file: dates are texts."""
    return json.loads(json.dumps(tomllib.loads(text), default=str))


def faults(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(policy_schema())
    return [error.message for error in validator.iter_errors(tree(text))]


def test_schemas_are_schemas() -> None:
    for schema in (policy_schema(), configuration_schema()):
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("text", ["", rule(), EVERYTHING, OBJECTS])
def test_what_the_check_takes_fits(text: str) -> None:
    assert errors(text, lists=LISTS) == []
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "rules = 1",
        rule(name=""),
        rule(action='"drop"'),
        rule(clients="[]"),
        rule(clients='"10.0.0.0/8"'),
        rule(to="[1]"),
        rule(port="1"),
        rule(expires="1"),
        rule(enabled='"yes"'),
        rule(limits="{ connections_max = 0 }"),
        rule(limits="{ connections = 1 }"),
        rule(name='"a b"'),
        rule(paths="[{ glob = 1 }]"),
        '[objects.networks]\na = "x"',
        '[objects.networks]\na = { fil = "x" }',
        "[objects.zones]\n",
        '[objects.schedules.a]\nweekly = ["mon 09:00-10:00"]',
        "[system]\nftp = {}",
        "[flood]\nconnections_max = 0",
        '[[learn]]\nname = "a"\nclients = ["::/0"]',
        '[[network_rule]]\nname = "a"\nfrom = ["::/0"]\nto = ["::/0"]\nrelation = "bridge"',
    ],
)
def test_wrong_shape_does_not_fit(text: str) -> None:
    assert errors(text)
    assert faults(text)


def test_every_key_is_described() -> None:
    schema = policy_schema()
    tables = {"": schema, **schema["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, table in tables.items()
        for key, of_key in table.get("properties", {}).items()
        if not of_key.get("description")
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("name", "title"), [("policy", "policy.toml"), ("config", "sluicegate.toml")]
)
def test_command_prints_them(name: str, title: str) -> None:
    result = CliRunner().invoke(cli, ["schema", name])
    assert result.exit_code == 0
    assert json.loads(result.output)["title"] == title
