"""``sluicegate schema``: the JSON Schemas of the files, for editors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

import click

from sluicegate.app.config import configuration_schema
from sluicegate.policy import policy_schema

__all__ = ["schema"]


@click.command()
@click.argument("file", type=click.Choice(["policy", "config"]))
def schema(file: str) -> None:
    """Print the JSON Schema of policy.toml (policy) or sluicegate.toml (config).

    Editors complete and check TOML files by it. It says which keys there are and which types they
    take; "sluicegate check" says the rest.

    \b
    Examples:
        sluicegate schema policy > policy.schema.json
        # and in the first line of policy.toml, for editors that use taplo:
        #:schema ./policy.schema.json
    """
    click.echo(json.dumps(_SCHEMAS[file](), indent=2, ensure_ascii=False))


_SCHEMAS: Final[Mapping[str, Callable[[], dict[str, object]]]] = {
    "policy": policy_schema,
    "config": configuration_schema,
}
