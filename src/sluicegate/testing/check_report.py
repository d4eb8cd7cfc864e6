"""What a battery of checks found: every broken promise at once, each with its cause.

``filter_checks`` and ``content_checks`` run their checks through ``run_checks``. The invariant: a
check that fails does not keep the others from being run, and none is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["CheckReport", "ChecksFailed", "SkipCheck", "run_checks"]

SubjectT = TypeVar("SubjectT")


class ChecksFailed(AssertionError):
    """A filter broke promises; ``failures`` has them by the name of the check."""

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        self.failures = dict(failures)
        parts = [f"{name}:\n{_indented(_message(error))}" for name, error in failures.items()]
        super().__init__(f"{len(failures)} checks failed\n\n" + "\n\n".join(parts))


class SkipCheck(Exception):
    """A check says nothing about this filter; the message says why."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a battery did."""

    passed: tuple[str, ...]
    skipped: Mapping[str, str]
    """Why, by the name of the check."""


def run_checks(checks: tuple[Callable[[SubjectT], None], ...], subject: SubjectT) -> CheckReport:
    """Run every check and return what they did.

    Raises:
        ChecksFailed: Some failed.
    """
    __tracebackhide__ = True
    passed: list[str] = []
    skipped: dict[str, str] = {}
    failures: dict[str, BaseException] = {}
    for check in checks:
        name = getattr(check, "__name__", "check").removeprefix("_").replace("_", " ")
        try:
            check(subject)
        except SkipCheck as reason:
            skipped[name] = str(reason)
        except Exception as error:  # noqa: BLE001 - third-party code; told together below
            failures[name] = error
        else:
            passed.append(name)
    if failures:
        first = next(iter(failures.values()))
        raise ChecksFailed(failures) from (first.__cause__ or first)
    return CheckReport(tuple(passed), skipped)


def _message(error: BaseException) -> str:
    if isinstance(error, AssertionError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
