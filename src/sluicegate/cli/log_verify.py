"""``sluicegate log verify``: is the store of records what was stored?"""

from __future__ import annotations

import pathlib
from typing import Final

import click

from sluicegate.app.log_config import open_place
from sluicegate.audit.store import SqlitePlace, StorePlace, verify_store
from sluicegate.errors import ConfigError

from .display import format_time, printable, show_json
from .log_query import find_paths
from .options import config_option, json_option

__all__ = ["verify"]

_FAULTY: Final = 1
_LINK_DIGITS: Final = 64


@click.command()
@config_option
@click.option(
    "--store",
    "folder",
    type=click.Path(path_type=pathlib.Path, exists=True, file_okay=False),
    help="The folder of an SQLite store, in place of the one that the configuration names.",
)
@click.option(
    "--key",
    "key",
    type=click.Path(path_type=pathlib.Path, exists=True, dir_okay=False),
    help="The public key of its checkpoints, kept elsewhere  [default: chain.pub in store_dir]",
)
@click.option("--expect", metavar="LINK", help="The link that an earlier verification printed.")
@json_option
def verify(
    config: pathlib.Path | None,
    folder: pathlib.Path | None,
    key: pathlib.Path | None,
    expect: str | None,
    *,
    as_json: bool,
) -> None:
    """Read every stored record, and check the chain and the signatures over them.

    A record that was changed, removed, added or moved is found. The last link is printed: keep it
    elsewhere, with chain.pub, and the next verification also finds a log that was cut off, or made
    anew by somebody who has the key. The exit code is 1 when something is wrong.

    \b
    Examples:
        sluicegate log verify
        sluicegate log verify --key /media/usb/chain.pub --expect 5b1f…
    """
    place = SqlitePlace(folder=str(folder)) if folder is not None else _store_of(config)
    public = _read_key(key or place.path / "chain.pub")
    wanted = _link_of(expect)
    found = verify_store(place, public, expected=wanted)
    if as_json:
        show_json(
            {
                "first": found.first,
                "last": found.last,
                "link": found.link.hex(),
                "checkpoints": found.checkpoints,
                "signed_last": found.signed_last,
                "signed_time": found.signed_time,
                "faults": found.faults,
            }
        )
    else:
        for fault in found.faults:
            click.echo(f"{click.style('wrong:', fg='red')} {printable(fault)}")
        records = f"records {found.first} to {found.last}" if found.first else "no record"
        click.echo(f"{records}, {found.checkpoints} good signatures")
        if found.checkpoints:
            click.echo(f"signed to {found.signed_last}, {format_time(found.signed_time)}")
        click.echo(f"last link: {found.link.hex()}")
    click.get_current_context().exit(_FAULTY if found.faults else 0)


def _store_of(config: pathlib.Path | None) -> StorePlace:
    store = find_paths(config).store
    if store is None:
        raise ConfigError("[log]", "there is no store of records", 'store = "sqlite"')
    folder = store.place.path
    if not folder.is_dir():
        raise ConfigError(str(folder), "there is no such folder", "did the gate ever run?")
    return open_place(store)


def _read_key(path: pathlib.Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", "--key FILE") from error
    except ValueError as error:
        raise ConfigError(str(path), "holds no public key", "64 hexadecimal digits") from error


def _link_of(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        link = bytes.fromhex(text)
    except ValueError:
        link = b""
    if len(text) != _LINK_DIGITS or not link:
        raise click.BadParameter("must be 64 hexadecimal digits", param_hint="--expect")
    return link
