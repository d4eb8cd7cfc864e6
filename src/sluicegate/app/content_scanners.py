"""Scanners with processes of their own, from an operator's table to one that can be started.

``scanners`` calls it while a configuration is loaded. The invariant: rules are compiled once, in a
confined process, before anything is put in force; what is wrong with them is found there.
"""

from __future__ import annotations

import os
import pathlib
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from sluicegate.documents import Findings
from sluicegate.filterapi import Scanner
from sluicegate.sandbox.launch import Surroundings, describe_end, launcher, spawn
from sluicegate.sandbox.message import MESSAGE_BYTES_MAX, encode
from sluicegate.sandbox.wire import WireSocket, wire_sockets
from sluicegate.scan import ContentScannerSettings, ProcessContentScanner
from sluicegate.scan.messages import (
    ArchiveBounds,
    Begin,
    FromProcess,
    Load,
    Loaded,
    LoadFailed,
    Unable,
    decode_from_process,
)
from sluicegate.scan.rule_files import RuleFilesError, RuleSet, fingerprint, read_rules
from sluicegate.scan_limits import SCAN_START_TIMEOUT_S

if TYPE_CHECKING:
    from .scanners import ScannerTable

__all__ = ["make_content_scanner"]

_ENTRY: Final = "sluicegate.app.scanner_process"


def make_content_scanner(
    table: ScannerTable,
    folder: pathlib.Path,
    secret: Sequence[pathlib.Path],
    known: Scanner | None,
    members_to: tuple[Scanner, ...],
    told: tuple[str, Findings],
) -> ProcessContentScanner | None:
    """Make a scanner, or return the one in force if nothing has changed; None if it cannot be.

    It blocks for as long as rules that are new take to compile. Rules that are wrong refuse a
    scanner that is new or changes. One in force goes on by those that it has, with a warning: it
    follows its files itself, and another policy does not wait for them.

    Args:
        table: The operator's.
        folder: What paths are relative to.
        secret: What its processes must not be able to read.
        known: The scanner of that name that is in force.
        members_to: Who else is shown what is inside objects.
        told: Where the table stands, and where errors and the compiler's warnings go.
    """
    place, findings = told
    settings = _settings(table, folder, members_to)
    in_force = (
        known if isinstance(known, ProcessContentScanner) and known.settings == settings else None
    )
    surroundings = Surroundings(_ENTRY, (), tuple(map(str, secret)), settings.memory_bytes_max)
    try:
        seen = fingerprint(settings.rules_folder)
        rules = read_rules(settings.rules_folder, with_shipped=settings.has_shipped_rules)
    except RuleFilesError as error:
        wrong = [(f"rules: {error}", error.cure)]
    else:
        if in_force is not None and in_force.is_using(rules):
            return in_force
        wrong = _objections(surroundings, settings, rules, told)
        if not wrong and in_force is None:
            launch = launcher(surroundings, decode_from_process)
            return ProcessContentScanner(table.name, settings, launch, rules, seen)
    for cause, cure in wrong:
        if in_force is None:
            findings.refuse(place, cause, cure)
        else:
            findings.warn(place, f"the rules in use stay in use, these are wrong: {cause}", cure)
    return in_force


def _settings(
    table: ScannerTable, folder: pathlib.Path, members_to: tuple[Scanner, ...]
) -> ContentScannerSettings:
    archives = table.archives
    return ContentScannerSettings(
        rules_folder=folder / table.rules if table.rules else None,
        has_shipped_rules=table.shipped_rules,
        processes=table.processes,
        timeout_s=table.timeout_s,
        cpu_s=table.cpu_s,
        object_bytes_max=table.object_bytes_max,
        memory_bytes_max=table.memory_bytes_max,
        bounds=ArchiveBounds(
            archives.depth_max,
            archives.entries_max,
            archives.bytes_max,
            archives.member_bytes_max,
            archives.ratio_max,
            archives.forwarded_bytes_max,
        ),
        passes_closed=archives.passes_closed,
        members_to=members_to,
    )


def _objections(
    surroundings: Surroundings,
    settings: ContentScannerSettings,
    rules: RuleSet,
    told: tuple[str, Findings],
) -> list[tuple[str, str]]:
    """Have a process compile rules and end; return why they cannot be used, each with its cure."""
    place, findings = told
    ours, theirs = wire_sockets()
    with ours, theirs:
        try:
            process = spawn(surroundings, theirs)
        except OSError as error:
            return [(f"no scanner process can be started: {error}", "")]
        theirs.close()
        try:
            answer = _compile(ours, settings, rules)
        finally:
            process.kill()
            status = process.wait()
    match answer:
        case Loaded():
            for warning in answer.warnings:
                findings.warn(place, f"rules: {warning}", "the rules are used as they are")
            return []
        case LoadFailed():
            cure = "no rule is left out: mend or remove it"
            return [(f"rules: {cause}", cure) for cause in answer.causes]
        case Unable(cause):
            return [(f"scanner processes cannot be confined here: {cause}", "")]
        case _:
            how = answer if isinstance(answer, str) else describe_end(status)
            return [(f"its process could not compile the rules: {how}", _CURE)]


def _compile(
    ours: WireSocket, settings: ContentScannerSettings, rules: RuleSet
) -> FromProcess | str | None:
    """Return what a process says of rules, or how it failed to; None: it ended."""
    ours.settimeout(SCAN_START_TIMEOUT_S)
    begin = Begin(settings.bounds, settings.cpu_s, list(settings.passes_closed))
    descriptor, size = rules.lend()
    try:
        ours.send(encode(begin))
        answer = decode_from_process(ours.recv(MESSAGE_BYTES_MAX))
        if isinstance(answer, Unable):
            return answer
        socket.send_fds(ours, [encode(Load(rules.version, size))], [descriptor])
        return decode_from_process(ours.recv(MESSAGE_BYTES_MAX))
    except TimeoutError:
        return f"no answer within SCAN_START_TIMEOUT_S ({SCAN_START_TIMEOUT_S:g} s)"
    except (OSError, msgspec.MsgspecError):
        return None
    finally:
        os.close(descriptor)


_CURE: Final = "is memory_bytes_max enough for them?"
