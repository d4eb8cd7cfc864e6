"""Rules of YARA-X, compiled once, and what they find in bytes.

``server`` compiles, ``walk`` asks. The invariant: rules are all there or they are refused: one that
cannot be compiled is never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import yara_x

__all__ = ["RulesWrong", "YaraRules"]


class RulesWrong(Exception):
    """Rules cannot be compiled; ``causes`` names file, line and what is wrong."""

    def __init__(self, causes: list[str]) -> None:
        super().__init__("; ".join(causes))
        self.causes = causes


class YaraRules:
    """One compiled set."""

    def __init__(self, sources: Sequence[tuple[str, bytes]]) -> None:
        """Compile rules; each file is a namespace of its own.

        Raises:
            RulesWrong: Something in them is wrong.
        """
        compiler = yara_x.Compiler(includes_enabled=False)
        causes: list[str] = []
        for name, text in sources:
            compiler.new_namespace(name)
            try:
                compiler.add_source(text.decode(), origin=name)
            except UnicodeDecodeError as error:
                causes.append(f"{name}: it is no UTF-8 ({error.reason} at byte {error.start})")
            except yara_x.CompileError:
                pass  # the compiler keeps all that is wrong, not only the first
        causes += [_placed(one) for one in compiler.errors()]
        if causes:
            raise RulesWrong(causes)
        self.warnings = [_placed(one) for one in compiler.warnings()]
        rules = compiler.build()
        self.count = len(list(cast("Iterable[object]", rules)))
        self._scanner = yara_x.Scanner(rules)
        # The first match decides; others would only take time and memory.
        self._scanner.max_matches_per_pattern(_MATCHES_MAX)

    def find(self, data: bytes) -> str:
        """Return the name of the first public rule that matches; empty if none does.

        Raises:
            yara_x.ScanError: It could not be looked at to its end.
        """
        for rule in self._scanner.scan(data).matching_rules:
            return str(rule.identifier)
        return ""


def _placed(told: dict[str, Any]) -> str:
    """Make one line of what the compiler tells: the file, the line, what is wrong."""
    labels: list[dict[str, Any]] = told.get("labels") or [{}]
    origin: str = labels[0].get("code_origin") or "rules"
    text: str = labels[0].get("text") or ""
    return f"{origin}:{told.get('line')}: {told.get('title')}" + (f" ({text})" if text else "")


_MATCHES_MAX: Final = 1000
