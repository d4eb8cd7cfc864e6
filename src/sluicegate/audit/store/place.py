"""Where a store of records is: a folder of SQLite files, or a PostgreSQL server.

``app.log_config`` makes one of what the operator wrote, and it is sent to the processes that write
and read the store. The invariant: a password is never shown, by whatever prints a place.
"""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Literal, TypeAlias

import msgspec
from typing_extensions import override

from sluicegate.errors import ConfigError

__all__ = [
    "PostgresPlace",
    "SqlitePlace",
    "StorePlace",
    "TlsMode",
    "load_driver",
    "require_psycopg",
]

TlsMode: TypeAlias = Literal["off", "require", "verify-ca", "verify-full"]
"""``require`` encrypts and believes whoever answers; the other two check its certificate."""


class SqlitePlace(msgspec.Struct, frozen=True, tag="sqlite"):
    """A folder with one file for each partition."""

    folder: str

    @property
    def path(self) -> pathlib.Path:
        """The folder, with the key of the chain in it."""
        return pathlib.Path(self.folder)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.folder


class PostgresPlace(msgspec.Struct, frozen=True, tag="postgresql", kw_only=True):
    """A database of a PostgreSQL server; the key of the chain stays in a folder of this machine."""

    folder: str
    host: str
    """A name, an address, or the absolute path of a folder with a Unix socket."""
    port: int = 5432
    user: str
    database: str
    schema: str = "sluicegate"
    """What the tables are kept in: two gates with one database have two."""
    password: str = ""
    """Empty: the server asks for none, or for a certificate."""
    tls: TlsMode = "verify-full"
    ca: str = ""
    """A file of certificates that the server is verified with; empty: the system's."""
    certificate: str = ""
    """A file with a certificate for this client; empty: it has none."""
    key: str = ""
    fault: str = ""
    """Why it cannot be reached at all: a password that whoever asks cannot read."""

    @property
    def path(self) -> pathlib.Path:
        """The folder, with the key of the chain in it."""
        return pathlib.Path(self.folder)

    @property
    def name(self) -> str:
        """What people call it: without the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.is_local:
            return f"postgresql://{self.user}@/{self.database}?host={host}&port={self.port}"
        return f"postgresql://{self.user}@{host}:{self.port}/{self.database}"

    @property
    def is_local(self) -> bool:
        """Whether it is reached by a Unix socket."""
        return self.host.startswith("/")

    @override
    def __repr__(self) -> str:
        return f"PostgresPlace({self.name!r}, schema={self.schema!r}, tls={self.tls!r})"


StorePlace: TypeAlias = SqlitePlace | PostgresPlace


def load_driver(place: StorePlace) -> None:
    """Load what speaks to the server of a store: a process that works loads nothing later.

    What is missing is said when the store is opened.
    """
    if isinstance(place, PostgresPlace) and importlib.util.find_spec("psycopg") is not None:
        for name in ("postgres_partition", "postgres_reading"):
            importlib.import_module(f"sluicegate.audit.store.{name}")


def require_psycopg(where: str) -> None:
    """Find out whether PostgreSQL can be spoken to, before anything is imported that does.

    Args:
        where: What needs it.

    Raises:
        ConfigError: The extra is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError(where, "psycopg is missing", "pip install 'sluicegate[postgresql]'")
