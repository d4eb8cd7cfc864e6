"""``sluicegate new-filter``: a filter to begin with, and its tests, that pass."""

from __future__ import annotations

import importlib.resources
import keyword
import pathlib
import re
import string
from typing import Final

import click

from sluicegate.errors import ConfigError

from .display import printable

__all__ = ["new_filter"]

_TIERS: Final = {
    "stream": "every chunk, inline",
    "data": "both sockets, as a coroutine",
    "content": "whole objects, held until the verdict",
    "session": "who may connect to what",
    "web": "HTTP by its phases",
}
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*")


@click.command("new-filter")
@click.argument("name")
@click.option(
    "--tier",
    type=click.Choice(list(_TIERS)),
    default="stream",
    show_default=True,
    help="What it sees: " + "; ".join(f"{tier}: {what}" for tier, what in _TIERS.items()) + ".",
)
@click.option(
    "--folder",
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    default=pathlib.Path(),
    help="Where the two files go  [default: this folder]",
)
def new_filter(name: str, tier: str, folder: pathlib.Path) -> None:
    """Write the filter NAME and its tests, ready to run and to change.

    Two files: only_ssh.py and test_only_ssh.py for only-ssh. Nothing that exists is overwritten.

    \b
    Examples:
        sluicegate new-filter only-ssh
        sluicegate new-filter no-scripts --tier content --folder filters
        python -m pytest test_only_ssh.py
    """
    words = _words(name)
    module = "_".join(words)
    meant = {
        "module_name": module,
        "class_name": "".join(word.capitalize() for word in words),
        "filter_name": "-".join(words),
    }
    written = {
        folder / f"{module}.py": _filled(f"{tier}.txt", meant),
        folder / f"test_{module}.py": _filled(f"{tier}_test.txt", meant),
    }
    for path in written:
        if path.exists():
            raise ConfigError(str(path), "the file exists", "choose another name or --folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in written.items():
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ConfigError(str(path), f"cannot be written: {error.strerror}") from error
        click.echo(f"wrote {printable(str(path))}")
    filter_path, test_path = written
    click.echo("\nTest it (pip install pytest):")
    click.echo(f"    python -m pytest {printable(str(test_path))}")
    click.echo("Install it, in sluicegate.toml, and name it in a rule's filters:")
    click.echo(f'    [[filter]]\n    name = "{meant["filter_name"]}"')
    click.echo(f'    use = "{printable(str(filter_path))}:{meant["class_name"]}"')


def _words(name: str) -> list[str]:
    """Return the words of a name, in small letters.

    Raises:
        ConfigError: No module can be called so.
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    words = re.split(r"[-_]", spaced.lower())
    if not _NAME.fullmatch(name) or keyword.iskeyword("_".join(words)):
        raise ConfigError(
            "NAME", f"{printable(name)!r} cannot name a module", "letters, digits and hyphens"
        )
    return words


def _filled(template: str, meant: dict[str, str]) -> str:
    folder = importlib.resources.files("sluicegate.cli") / "templates"
    return string.Template((folder / template).read_text(encoding="utf-8")).substitute(meant)
