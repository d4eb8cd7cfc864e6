"""`python -m tests.hostile.cases`: how many hostile cases the suite has, by group.

Reads the list beside it (README.md), where each row names groups and the tests that show them, and
asks pytest how many cases each of these tests is. A case counts once in each group that a row with
its test names, so a sum over groups is more than there are cases. The invariant: what is not in the
list is not counted, and a test that the list names and that is not there is an error.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from collections import Counter, defaultdict

import click

HERE = pathlib.Path(__file__).parent
TESTS = HERE.parent

_ROW = re.compile(r"^\| (?P<case>[^|]+) \|.*\| (?P<tests>[^|]+) \|$")
_TEST = re.compile(r"`(?P<file>(?:[a-z0-9_]+/)+test_\w+\.py)?(?:::(?P<name>test_\w+))?`")
_NAMED = re.compile(
    r"(?P<letter>[A-S])(?P<first>\d*)(?: to (?P<until>[A-S])?(?P<last>\d*))?(?=\W|$)"
)
_NEXT = re.compile(r",? and(?: the text of)? |, ")
_WAYS = {
    "SOCKS 4": re.compile(r"socks4(?!a)|socks4a"),
    "SOCKS 5": re.compile(r"socks5"),
    "CONNECT": re.compile(r"http-connect|connect"),
    "URLs": re.compile(r"test_(?:hostile_)?web_?\w*\.py"),
    "published": re.compile(r"publish"),
    "TLS": re.compile(r"\btls\b"),
    "datagrams": re.compile(r"associate|udp|datagram"),
    "BIND": re.compile(r"\bbind\b"),
}
"""How a case's identifier says in which way its client comes."""


def groups_in(case: str) -> set[str]:
    """Return the groups that a heading or the first column of a row begins with.

    They stand in front of it, and of what follows a semicolon: ``A to C, D2, E4 to E6: …; F1: …``.
    """
    found: set[str] = set()
    for part in case.split("; "):
        place = 0
        while named := _NAMED.match(part, place):
            if not (named["first"] or named["until"] or _is_named(part[named.end() :])):
                break
            found |= _between(named)
            place = named.end()
            comma = _NEXT.match(part, place)
            if comma is None:
                break
            place = comma.end()
    return found


def _is_named(rest: str) -> bool:
    """Tell whether what follows a letter alone shows that a group is meant, and no word."""
    return not rest or rest.startswith((":", ", ", " over "))


def _between(named: re.Match[str]) -> set[str]:
    letter, first, last = named["letter"], named["first"], named["last"]
    if first:
        return {f"{letter}{one}" for one in range(int(first), int(last or first) + 1)}
    until = named["until"] or letter
    return {chr(one) for one in range(ord(letter), ord(until) + 1)}


def tests_in(cell: str) -> list[str]:
    """Return the node identifiers, without cases, that the last column of a row names."""
    found: list[str] = []
    file = ""
    for match in _TEST.finditer(cell):
        file = match["file"] or file
        found.append(file + (f"::{match['name']}" if match["name"] else ""))
    return found


def listed() -> dict[str, set[str]]:
    """Return the tests of each group."""
    groups: dict[str, set[str]] = defaultdict(set)
    of_section: set[str] = set()
    for line in (HERE / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## Not yet"):
            break
        if line.startswith("## "):
            of_section = groups_in(line[3:])
            continue
        row = _ROW.match(line)
        if row is None:
            continue
        for group in groups_in(row["case"]) or of_section:
            groups[group].update(tests_in(row["tests"]))
    return {group: tests for group, tests in groups.items() if tests}


def collected(tests: set[str]) -> dict[str, list[str]]:
    """Ask pytest for the cases of each test."""
    files = sorted({f"tests/{one.partition('::')[0]}" for one in tests})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
        check=False,
    )
    if done.returncode:
        raise click.ClickException(f"pytest cannot collect them:\n{done.stdout[-2000:]}")
    cases: dict[str, list[str]] = defaultdict(list)
    for line in done.stdout.splitlines():
        if not line.startswith("tests/") or "::" not in line:
            continue
        node = line.removeprefix("tests/")
        name = node.partition("[")[0]
        for one in (name, name.partition("::")[0]):
            cases[one].append(node)
    return cases


def order_of(group: str) -> tuple[str, int]:
    """Sort A before A1, and A2 before A10."""
    return group[0], int(group[1:] or 0)


@click.command()
@click.option("--letters", is_flag=True, help="One line for each letter only.")
def main(*, letters: bool) -> None:
    """Count the cases."""
    groups = listed()
    cases = collected({one for tests in groups.values() for one in tests})
    missing = sorted(
        {one for tests in groups.values() for one in tests if one and not cases.get(one)}
    )
    if missing:
        raise click.ClickException(f"tests that the list names have no case: {missing}")
    if letters:
        merged: dict[str, set[str]] = defaultdict(set)
        for group, tests in groups.items():
            merged[group[0]] |= tests
        groups = merged
    print(f"{'group':<6} {'tests':>6} {'cases':>7}   " + " ".join(f"{way:>9}" for way in _WAYS))
    everything: set[str] = set()
    for group in sorted(groups, key=order_of):
        found = {node for one in groups[group] for node in cases[one]}
        everything |= found
        ways = Counter(
            way for node in found for way, says in _WAYS.items() if says.search(node.lower())
        )
        tests = {node.partition("[")[0] for node in found}
        row = " ".join(f"{ways[way] or '-':>9}" for way in _WAYS)
        print(f"{group:<6} {len(tests):>6} {len(found):>7,}   {row}")
    print(f"\n{len(everything):,} cases in all; one that stands for several groups counts in each")


if __name__ == "__main__":
    main()
