"""What was found wrong in operators' files, all of it at once.

Readers add to one ``Findings`` and go on; whoever needs a good configuration asks it at the end.
The invariant: a finding names file, line and key, its cause, and, where one is known, its cure.
"""

from __future__ import annotations

from sluicegate.errors import ConfigError, SluicegateError

__all__ = ["ConfigRefused", "Findings"]


class ConfigRefused(SluicegateError):
    """Files were refused: ``errors`` has every reason."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


class Findings:
    """Errors and warnings of one reading of all files, in the order of their discovery."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []
        self.warnings: list[ConfigError] = []

    def refuse(self, where: str, cause: str, cure: str = "") -> None:
        """Add an error."""
        self.errors.append(ConfigError(where, cause, cure))

    def warn(self, where: str, cause: str, cure: str = "") -> None:
        """Add something that works, and is probably not what was meant."""
        self.warnings.append(ConfigError(where, cause, cure))

    def raise_errors(self) -> None:
        """End here if anything is wrong.

        Raises:
            ConfigRefused: With every error.
        """
        if self.errors:
            raise ConfigRefused(tuple(self.errors))
