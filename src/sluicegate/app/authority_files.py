"""What ``[ca]`` leads to, opened: two certificates, and descriptors of two keys.

``run`` and ``supervise`` open it before they give up what it may take to read the keys; ``check``
tries it. The invariant: a key that others can read or change is refused, and a key's bytes are read
by the signer process alone: what is here are open files.
"""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from sluicegate.access_limits import AUTHORITY_EXPIRY_WARNING_DAYS, SECRET_FILE_BYTES_MAX
from sluicegate.clock import Clock
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError
from sluicegate.identity import read_private_file

from .authority_config import AuthoritySettings
from .config import Configuration, read_configuration
from .secret_files import SecretFiles
from .service_config import read_text

__all__ = [
    "OpenAuthority",
    "lacks_distance",
    "open_authority",
    "open_authority_of",
    "reopen_authority",
    "warn_of_expiry",
]


@dataclass(slots=True)
class OpenAuthority:
    """The files of one version of the authorities; whoever has it closes it."""

    chain: str
    """The trusted authority's certificate and what is sent with leaves, as PEM."""
    untrusted: str
    """The untrusted one's."""
    key: int
    """Descriptor; -1 where a token has the key."""
    untrusted_key: int
    settings: AuthoritySettings
    pin: str = ""
    """Of the token."""

    @property
    def mark(self) -> tuple[object, ...]:
        """What differs when another version was opened."""
        return self.chain, self.untrusted, self.settings, self.pin

    @property
    def descriptors(self) -> list[int]:
        """Those that are open, the trusted authority's first."""
        return [one for one in (self.key, self.untrusted_key) if one >= 0]

    def close(self) -> None:
        """Close the keys."""
        for one in self.descriptors:
            os.close(one)
        self.key = self.untrusted_key = -1


def open_authority_of(path: pathlib.Path) -> OpenAuthority | None:
    """Open what a configuration names; None where it has no ``[ca]``, or cannot be read.

    A configuration that cannot be read is left for ``load`` to tell of.

    Raises:
        ConfigRefused: Something about the authorities is wrong.
    """
    findings = Findings()
    text = read_text(path, findings, "choose the file with --config")
    secrets = SecretFiles(path.absolute().parent)
    configuration = None if text is None else read_configuration(path, text, findings, secrets)
    if configuration is None:
        return None
    findings = Findings()
    opened = open_authority(configuration, findings)
    if findings.errors:
        raise ConfigRefused(tuple(findings.errors))
    return opened


def open_authority(configuration: Configuration, findings: Findings) -> OpenAuthority | None:
    """Open the files; None without ``[ca]``, or, with findings, when something is wrong."""
    settings = configuration.authority
    if settings is None:
        return None
    before = len(findings.errors)
    document, at = configuration.document, ("ca",)
    opened: list[int] = []
    texts: list[str] = []
    try:
        texts = [
            _read_certificate(path)
            for path in (settings.certificate_path, settings.untrusted_certificate_path)
        ]
        if settings.token is None:
            opened.append(_open_key(settings.key_path))
        opened.append(_open_key(settings.untrusted_key_path))
    except ConfigError as error:
        findings.refuse(document.where(at), f"{error.where}: {error.cause}", error.cure)
    pin: str | None = ""
    if settings.token is not None and settings.token.pin is not None:
        # Not with the other secrets: workers are given those.
        secrets = SecretFiles(configuration.path.absolute().parent)
        pin = secrets.read_secret(settings.token.pin, document, ("ca", "token", "pin"), findings)
    if len(findings.errors) > before or pin is None:
        for one in opened:
            os.close(one)
        return None
    key = -1 if settings.token is not None else opened[0]
    return OpenAuthority(texts[0], texts[1], key, opened[-1], settings, pin)


def reopen_authority(
    configuration: Configuration, before: OpenAuthority | None, findings: Findings
) -> OpenAuthority | None:
    """Open the files again at a reload; return what is open where nothing has changed.

    What was opened with the rights of the one who started the gate stays: it cannot be looked at
    any more, and another version is taken over at the next start.
    """
    settings = configuration.authority
    if before is not None and settings is not None:
        keys = [settings.untrusted_key_path] + ([] if settings.token else [settings.key_path])
        if not all(os.access(one, os.R_OK) for one in keys):
            return before
    opened = open_authority(configuration, findings)
    if opened is None or before is None or opened.mark != before.mark:
        return opened
    opened.close()
    return before


def warn_of_expiry(opened: OpenAuthority, clock: Clock) -> list[str]:
    """Return a warning for an authority that ends soon, or has not begun."""
    certificate = x509.load_pem_x509_certificates(opened.chain.encode())[0]
    ends = certificate.not_valid_after_utc
    left_s = ends.timestamp() - clock.wall()
    if left_s <= 0:
        return [f"the CA has expired on {ends:%Y-%m-%d}: TLS is not opened (sluicegate ca rotate)"]
    if left_s < AUTHORITY_EXPIRY_WARNING_DAYS * 86400:
        return [f"the CA expires on {ends:%Y-%m-%d}: sluicegate ca rotate --prepare"]
    return []


def lacks_distance(settings: AuthoritySettings | None) -> list[str]:
    """Return why this process must not meet clients: it could read a key. It tries."""
    if settings is None:
        return []
    causes: list[str] = []
    for path in (settings.key_path, settings.untrusted_key_path):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError:
            continue
        causes.append(
            f"{path} is within reach of workers: let root own it and start the gate as root, "
            "or let the kernel keep them from it (Landlock, and sandbox = true)"
        )
    return causes


def _read_certificate(path: pathlib.Path) -> str:
    text = read_private_file(
        path,
        bytes_max=SECRET_FILE_BYTES_MAX,
        holds="",
        danger="could put another in its place",
        cure=_INIT_CURE,
        is_public=True,
    ).text
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise ConfigError(os.fspath(path), "has no certificate that can be read") from error
    return text


def _open_key(path: pathlib.Path) -> int:
    """Open a key that is its owner's alone.

    Raises:
        ConfigError: It cannot be opened, or others could read or change it.
    """
    where = os.fspath(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        cure = _INIT_CURE if error.errno == errno.ENOENT else f"ls -l {where}"
        raise ConfigError(where, f"cannot be read: {error.strerror}", cure) from error
    status = os.fstat(descriptor)
    cause, cure = "", f"chmod 0600 {where}"
    if not stat.S_ISREG(status.st_mode):
        cause, cure = "is not a file", ""
    elif status.st_uid not in {0, os.geteuid()}:
        cause, cure = f"belongs to the user {status.st_uid}", f"chown root {where}"
    elif status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        cause = "others than its owner may read or change it"
    if cause:
        os.close(descriptor)
        raise ConfigError(where, cause, cure)
    return descriptor


_INIT_CURE: Final = "sluicegate ca init makes what is missing"
