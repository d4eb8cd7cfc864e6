"""Redacts secrets (cloud keys, tokens, private keys) from plain-text streams, in both directions.

A `StreamFilter`, made for each connection of its rules; `Redactor` knows no gate, only bytes. The
invariant: no byte passes while it may belong to a secret, so no part of one ever does, however the
stream is cut into chunks; and the cuts change nothing in what comes out.
"""

import collections
import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict
from typing_extensions import override

from sluicegate.filterapi import (
    Connection,
    Cut,
    Rewrite,
    Side,
    StreamFilter,
    StreamVerdict,
    Window,
)

Kind = Literal["aws-key-id", "github-token", "slack-token", "private-key"]


class SecretRedactorSettings(BaseModel):
    """`[filter.settings]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[Kind, ...] = get_args(Kind)
    """What counts as a secret."""
    keep_length: bool = True
    """Put a `*` for each byte, so that lengths which a protocol announced stay true; else a secret
    becomes `[redacted]`."""
    sides: tuple[Literal["client", "server"], ...] = ("client", "server")
    """Whose bytes are looked at."""


# -- what a secret looks like ----------------------------------------------------------------------


@dataclass(frozen=True)
class Secret:
    """Begins with `prefix`, is certain when `rest` follows, and goes on to where `end` matches."""

    kind: Kind
    prefix: bytes
    rest: re.Pattern[bytes]
    """What makes it a secret."""
    unfinished: re.Pattern[bytes]
    """What a beginning of `rest` looks like; bounded, for it is held."""
    end: re.Pattern[bytes]
    """The end of what is redacted; matches the first byte behind it, if `end` is a byte's class."""


def _token(kind: Kind, prefix: bytes, characters: bytes, count: int) -> Secret:
    """Describe a prefix with at least `count` characters of a class behind it."""
    return Secret(
        kind,
        prefix,
        re.compile(b"[%s]{%d}" % (characters, count)),
        re.compile(b"[%s]{0,%d}" % (characters, count - 1)),
        re.compile(b"(?=[^%s])" % characters),
    )


_SECRETS: Final = (
    _token("aws-key-id", b"AKIA", b"A-Z0-9", 16),
    _token("aws-key-id", b"ASIA", b"A-Z0-9", 16),
    *(_token("github-token", b"gh%c_" % letter, b"A-Za-z0-9", 36) for letter in b"opsur"),
    _token("github-token", b"github_pat_", b"A-Za-z0-9_", 22),
    *(_token("slack-token", b"xox%c-" % letter, b"A-Za-z0-9-", 10) for letter in b"abprs"),
    # PEM (RFC 7468) and OpenPGP (RFC 9580) call theirs alike.
    Secret(
        "private-key",
        b"-----BEGIN ",
        re.compile(rb"[A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----"),
        re.compile(rb"[A-Z0-9 ]{0,57}-{0,4}"),
        re.compile(rb"-----END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----"),
    ),
)
_LONGEST_END: Final = 80
"""Bytes of the longest thing that an `end` matches, and some."""
_SECRET_BYTES_MAX: Final = 64 << 10
"""The longest secret; one that goes on is a stream that means to hide something."""


class EndlessSecretError(Exception):
    """A secret began and did not end."""


# -- bytes in, bytes out ---------------------------------------------------------------------------


class Redactor:
    """One direction of one connection."""

    def __init__(self, kinds: tuple[Kind, ...], *, keep_length: bool) -> None:
        self.found: collections.Counter[str] = collections.Counter()
        #: Secrets by kind.
        self._secrets = [one for one in _SECRETS if one.kind in kinds]
        prefixes = [one.prefix for one in self._secrets]
        self._any_prefix = re.compile(b"|".join(map(re.escape, prefixes)) or b"(?!)")
        self._beginnings = {one[:size] for one in prefixes for size in range(1, len(one))}
        self._longest_prefix = max(map(len, prefixes), default=0)
        self._keep_length = keep_length
        self._held = b""
        self._inside: Secret | None = None
        self._inside_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Take what was sent; return what may pass of it and of what was held.

        Raises:
            EndlessSecretError: A secret is longer than any secret is.
        """
        data, self._held = self._held + data, b""
        passed = bytearray()
        position = 0
        while position < len(data) and not self._held:
            if self._inside is not None:
                position = self._go_through(self._inside, data, position, passed)
            else:
                position = self._look_for_one(data, position, passed)
        return bytes(passed)

    def finish(self) -> bytes:
        """Return what may pass at the end of the stream: half a secret may not."""
        held, self._held = self._held, b""
        is_half_a_secret = self._inside is not None or self._any_prefix.match(held)
        return self._redacted(held) if is_half_a_secret else held

    def _look_for_one(self, data: bytes, position: int, passed: bytearray) -> int:
        """Pass everything up to the next secret, or to what may become one, which is held."""
        start = position
        while found := self._any_prefix.search(data, start):
            secret = next(one for one in self._secrets if one.prefix == found[0])
            if sure := secret.rest.match(data, found.end()):
                passed += data[position : found.start()]
                self._inside, self._inside_bytes = secret, 0
                self.found[secret.kind] += 1
                if not self._keep_length:
                    passed += b"[redacted]"
                self._redact(data[found.start() : sure.end()], passed)
                return sure.end()
            if secret.unfinished.fullmatch(data, found.end()):
                return self._hold(data, position, found.start(), passed)
            start = found.start() + 1
        longest = min(self._longest_prefix - 1, len(data) - start)
        for size in range(longest, 0, -1):
            if data[-size:] in self._beginnings:
                return self._hold(data, position, len(data) - size, passed)
        passed += data[position:]
        return len(data)

    def _hold(self, data: bytes, position: int, start: int, passed: bytearray) -> int:
        passed += data[position:start]
        self._held = data[start:]
        return len(data)

    def _go_through(self, secret: Secret, data: bytes, position: int, passed: bytearray) -> int:
        """Redact up to the end of a secret; what may be the beginning of that end is held."""
        if found := secret.end.search(data, position):
            self._redact(data[position : found.end()], passed)
            self._inside = None
            return found.end()
        is_block = secret.kind == "private-key"
        sure = max(position, len(data) - _LONGEST_END) if is_block else len(data)
        self._redact(data[position:sure], passed)
        self._held = data[sure:]
        return len(data)

    def _redact(self, secret: bytes, passed: bytearray) -> None:
        self._inside_bytes += len(secret)
        if self._inside_bytes > _SECRET_BYTES_MAX:
            raise EndlessSecretError(f"a secret is longer than {_SECRET_BYTES_MAX} bytes")
        passed += self._redacted(secret)

    def _redacted(self, secret: bytes) -> bytes:
        return b"*" * len(secret) if self._keep_length else b""


# -- the filter ------------------------------------------------------------------------------------


class SecretRedactor(StreamFilter):
    """One connection."""

    name = "secret_redactor"
    Settings = SecretRedactorSettings

    def __init__(self, settings: SecretRedactorSettings) -> None:
        self._redactors: Final = {
            side: Redactor(
                settings.kinds if side.value in settings.sides else (),
                keep_length=settings.keep_length,
            )
            for side in (Side.CLIENT, Side.SERVER)
        }
        self._connection: Connection

    @override
    def on_start(self, connection: Connection) -> None:
        self._connection = connection

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        # The redactor keeps what it holds itself: `Rewrite` stands for all the bytes shown.
        try:
            return Rewrite(self._redactors[side].feed(bytes(window)))
        except EndlessSecretError as error:
            return Cut(str(error))

    @override
    def on_end(self, side: Side, held: Window) -> StreamVerdict:
        return Rewrite(self._redactors[side].finish())

    @override
    def detach(self) -> None:
        for side, redactor in self._redactors.items():
            if redactor.found:
                facts = {"sent_by": side.value, **redactor.found}
                self._connection.note(self, "secrets redacted", facts)
