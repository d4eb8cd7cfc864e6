"""Writes the pages that must never lag behind the code: commands, filters, limits, records, API.

Called by ``conf.py`` before Sphinx reads; ``tests/repo`` asks the same functions whether every
limit and every record is explained. What these pages say stands in the docstrings, nowhere else.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import json
import pathlib
import re
import tomllib
import typing
from collections.abc import Iterator

import click
import pydantic

import sluicegate
from sluicegate import (
    access_limits,
    alert_limits,
    limits,
    log_limits,
    policy_limits,
    process_limits,
    protocol_limits,
    scan_limits,
    web_limits,
)
from sluicegate.app.config import configuration_schema
from sluicegate.cli.main import cli
from sluicegate.filterapi import WebFilter
from sluicegate.metrics import CATALOGUE
from sluicegate.policy import policy_schema

DOCS = pathlib.Path(__file__).resolve().parent
PACKAGE = pathlib.Path(inspect.getfile(sluicegate)).parent
GENERATED = DOCS / "reference" / "generated"

#: Packages whose modules are for others to use, in the order a reader meets them.
PUBLIC = (
    ("Filters", ("filterapi",)),
    (
        "Values",
        (
            "address",
            "buffer",
            "clock",
            "errors",
            "identifiers",
            "limits",
            "scan_outcome",
            "verdict",
            "web_limits",
        ),
    ),
    ("Names and addresses", ("names",)),
    ("The completion port", ("port",)),
    ("Test kit", ("testing",)),
    ("Records", ("audit",)),
    ("Metrics", ("metrics",)),
)


def write_generated_pages() -> None:
    """Write every generated page, touching only files whose text changed."""
    pages = {
        "commands.md": describe_commands(),
        "filters.md": describe_filters(),
        "limits.md": describe_limits(),
        "metrics.md": describe_metrics(),
        "records.md": describe_records(),
        "policy.schema.json": describe_schema(policy_schema()),
        "sluicegate.schema.json": describe_schema(configuration_schema()),
    }
    for module in public_modules():
        pages[f"{module}.md"] = describe_module(module)
    pages["index.md"] = describe_api()
    GENERATED.mkdir(parents=True, exist_ok=True)
    for stale in GENERATED.glob("*.md"):
        if stale.name not in pages:
            stale.unlink()
    for name, text in pages.items():
        path = GENERATED / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def describe_schema(schema: dict[str, object]) -> str:
    """Make the JSON Schema of a file, as ``sluicegate schema`` prints it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def public_modules() -> list[str]:
    """List the modules of the public packages that define something."""
    return [module for _, packages in PUBLIC for name in packages for module in modules_of(name)]


def modules_of(package: str) -> list[str]:
    """List the dotted names of one package's (or module's) files that define something."""
    single = PACKAGE / f"{package}.py"
    paths = [single] if single.exists() else sorted((PACKAGE / package).rglob("*.py"))
    found = []
    for path in paths:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if path.name == "__init__.py" or path.name.startswith("_"):
            continue  # re-exports: documented where they are defined
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in tree.body):
            found.append(".".join(parts))
    return found


def describe_module(module: str) -> str:
    """Make the page of one module: what it defines, not what it passes on."""
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    passed_on = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    return (
        f"# `{module}`\n\n```{{eval-rst}}\n.. automodule:: {module}\n"
        f"   :exclude-members: {', '.join(passed_on)}\n```\n"
    )


def describe_api() -> str:
    """Make the page that leads to all modules."""
    parts = ["# Python API\n\nWhat each module exports, from its docstrings.\n"]
    for title, packages in PUBLIC:
        modules = [module for name in packages for module in modules_of(name)]
        if modules:
            parts.append(f"\n## {title}\n\n```{{toctree}}\n:maxdepth: 1\n\n")
            parts.extend(f"{module}\n" for module in modules)
            parts.append("```\n")
    return "".join(parts)


def documented_names(body: list[ast.stmt]) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and the docstring that follows, for each annotated assignment."""
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            explained = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                explained = inspect.cleandoc(str(after.value.value))
            value = ast.unparse(node.value) if node.value else ""
            yield node.target.id, value, explained


def describe_limits() -> str:
    """Make the page of every limit, from ``limits.py`` and its neighbors.

    Raises:
        ValueError: A limit has no reason under it.
    """
    tree = ast.parse(inspect.getsource(limits))
    parsers = ast.parse(inspect.getsource(protocol_limits))
    scanners = ast.parse(inspect.getsource(scan_limits))
    processes = ast.parse(inspect.getsource(process_limits))
    policies = ast.parse(inspect.getsource(policy_limits))
    access = ast.parse(inspect.getsource(access_limits))
    web = ast.parse(inspect.getsource(web_limits))
    logs = ast.parse(inspect.getsource(log_limits))
    alerts = ast.parse(inspect.getsource(alert_limits))
    bodies = [
        body
        for module, name in ((tree, "Limits"), (web, "WebLimits"))
        for body in (n.body for n in module.body if isinstance(n, ast.ClassDef) and n.name == name)
    ]
    parts = [
        (
            "# Limits\n\nThe first table is what `[limits]` in `sluicegate.toml` may set. "
            "Reaching a limit is a refusal with its name in the record, never truncation.\n"
        ),
        table_of_limits(itertools.chain.from_iterable(map(documented_names, bodies))),
        "\n## Fixed by a protocol, the kernel or the design\n",
        table_of_limits(documented_names(tree.body)),
        "\n## Directories, keys and TLS\n",
        table_of_limits(documented_names(access.body)),
        "\n## The web proxy\n",
        table_of_limits(documented_names(web.body)),
        "\n## Processes, cells and commands\n",
        table_of_limits(documented_names(processes.body)),
        "\n## What parsers take\n",
        table_of_limits(documented_names(parsers.body)),
        "\n## What a policy takes\n",
        table_of_limits(documented_names(policies.body)),
        "\n## The log\n",
        table_of_limits(documented_names(logs.body)),
        "\n## Alerts\n",
        table_of_limits(documented_names(alerts.body)),
        "\n## What scanners take\n",
        table_of_limits(documented_names(scanners.body)),
    ]
    return "\n".join(parts)


def describe_metrics() -> str:
    """Make the page of every metric, from the catalogue."""
    rows = [
        f"| `{one.name}{'_total' if one.kind == 'counter' else ''}` | {one.kind} | "
        f"{', '.join(f'`{label}`' for label in one.labels)} | {one.meaning} |"
        for one in CATALOGUE.values()
    ]
    return "\n".join(
        [
            "# Metrics\n",
            "What `/metrics` says: [how to watch a gate](../../howto/watch-metrics.md).",
            "No label has a value that a client chooses. Behind `METRIC_SERIES_MAX` series of one",
            "metric in one process, further ones are counted together, with labels of `other`.\n",
            "| name | type | labels | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def table_of_limits(rows: Iterator[tuple[str, str, str]]) -> str:
    """Make one table; the value is computed, so that ``8 << 20`` reads as a number of bytes."""
    lines = ["| limit | default | why |", "|---|---|---|"]
    for name, source, explained in rows:
        if not explained:
            raise ValueError(f"limits.py: {name} has no reason under it; write one")
        sources = (
            limits,
            access_limits,
            alert_limits,
            log_limits,
            policy_limits,
            process_limits,
            protocol_limits,
            scan_limits,
            web_limits,
            limits.Limits(),
        )
        value = next(getattr(one, name) for one in sources if hasattr(one, name))
        lines.append(f"| `{name}` | {shown(value, source)} | {' '.join(explained.split())} |")
    return "\n".join(lines) + "\n"


def shown(value: object, source: str) -> str:
    """Format a value for people: whole numbers grouped, sizes as they are written in the source."""
    number = (
        f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if isinstance(value, int) else value
    )
    return f"{number} (`{source}`)" if "<<" in source else str(number)


def describe_records() -> str:
    """Make the page of every record, from the classes of ``audit/records.py``.

    Raises:
        ValueError: A record or a field of one is not explained.
    """
    tree = ast.parse((PACKAGE / "audit" / "records.py").read_text(encoding="utf-8"))
    parts = [f"# Records\n\n{after_first_paragraph(ast.get_docstring(tree) or '')}\n"]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            parts.append(f"\n## {node.name}\n\n{kind_of(node)}{explained(node)}\n\n")
            rows = list(documented_names(node.body))
            parts.append("| field | type | meaning |\n|---|---|---|\n" if rows else "")
            for name, _, why in rows:
                if not why:
                    raise ValueError(f"records.py: {node.name}.{name} is not explained")
                parts.append(f"| `{name}` | {type_of(node, name)} | {' '.join(why.split())} |\n")
    return "".join(parts)


def after_first_paragraph(text: str) -> str:
    """Leave out the summary line, which the page's title says."""
    return text.partition("\n\n")[2]


def explained(node: ast.ClassDef) -> str:
    """Return a class's docstring.

    Raises:
        ValueError: It has none.
    """
    text = ast.get_docstring(node)
    if not text:
        raise ValueError(f"{node.name} is not explained")
    return text


def kind_of(node: ast.ClassDef) -> str:
    """Say which ``kind`` marks a record's lines in the log."""
    tags = [ast.literal_eval(k.value) for k in node.keywords if k.arg == "tag"]
    return f'`"kind": "{tags[0]}"`. ' if tags else ""


def type_of(node: ast.ClassDef, name: str) -> str:
    """Return a field's type as the source writes it, fit for a cell of a table."""
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == name:
            return f"`{ast.unparse(part.annotation)}`".replace("|", "\\|")
    return ""


def describe_commands() -> str:
    """Make the page of every command, from what ``--help`` says."""
    context = click.Context(cli, info_name="sluicegate", max_content_width=96)
    parts = [f"# Commands\n\n```text\n{cli.get_help(context)}\n```\n"]
    parts += describe_group(cli, context, "")
    return "".join(parts)


def describe_group(group: click.Group, context: click.Context, before: str) -> Iterator[str]:
    """Yield the section of each command of a group, those of groups inside it included."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{name} is listed and not there"
        inner = click.Context(command, info_name=name, parent=context, max_content_width=96)
        yield f"\n## {before}{name}\n\n```text\n{command.get_help(inner)}\n```\n"
        if isinstance(command, click.Group):
            yield from describe_group(command, inner, f"{before}{name} ")


def describe_filters() -> str:
    """Make the page of the filters that come with the gate, from their settings' models.

    Raises:
        ValueError: A setting is not explained.
    """
    parts = [
        "# Bundled filters\n\n`use` may be left out in `[[filter]]` when `name` is one of these.\n"
    ]
    for name, place in sorted(entry_points().items()):
        module_name, _, class_name = place.partition(":")
        module = importlib.import_module(module_name)
        filter_class = getattr(module, class_name)
        parts.append(f"\n## `{name}`\n\n{inspect.cleandoc(filter_class.__doc__ or '')}\n")
        kind = "rule" if issubclass(filter_class, WebFilter) else "publish"
        of_rules = f"{kind}.settings.{name}"
        settings = getattr(filter_class, "Settings", None)
        rule_settings = getattr(filter_class, "RuleSettings", None)
        where = "`[filter.settings]`"
        if settings is not None and settings is rule_settings:
            where += f", and for one rule `[{of_rules}]`"
        if settings is not None:
            parts.append(f"\n{where}:\n\n{table_of_settings(settings)}")
            parts.extend(tables_of_entries(settings))
        if rule_settings is not None and rule_settings is not settings:
            parts.append(f"\n`[{of_rules}]`:\n\n{table_of_settings(rule_settings)}")
    return "".join(parts)


def tables_of_entries(model: type[pydantic.BaseModel]) -> Iterator[str]:
    """Make a table of each list of tables that a model has."""
    for name, field in model.model_fields.items():
        for entry in typing.get_args(field.annotation):
            if isinstance(entry, type) and issubclass(entry, pydantic.BaseModel):
                yield f"\nEach of `{name}`:\n\n{table_of_settings(entry)}"


def entry_points() -> dict[str, str]:
    """Return the project's own filters, from ``pyproject.toml``."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(project["project"]["entry-points"]["sluicegate.filters"])


def table_of_settings(model: type) -> str:
    """Make the table of one settings model, explained by the strings below its fields.

    Raises:
        ValueError: A setting is not explained.
    """
    tree = ast.parse(inspect.getsource(inspect.getmodule(model) or model))
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == model.__name__]
    lines = ["| key | default | means |", "|---|---|---|"]
    for name, source, explained_by in documented_names(classes[0].body):
        if not explained_by:
            raise ValueError(f"{model.__name__}.{name} has no string under it; write one")
        default = re.sub(
            r"^(?:pydantic\.)?Field\((?:default=)?(.*?)(?:, \w+=.*)?\)$", r"\1", source
        )
        shown_default = default.replace("|", "\\|") or "required"
        lines.append(f"| `{name}` | `{shown_default}` | {' '.join(explained_by.split())} |")
    return "\n".join(lines) + "\n"
