"""The signer's process: the only one that has the keys of the authorities.

The supervisor starts it, and another when it has ended; workers ask over sockets of their own. The
invariant: it is confined before a worker can say anything to it, it parses nothing that a client
sent but a canonical name, and it ends when the supervisor lets go of it.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sluicegate.access_limits import SECRET_FILE_BYTES_MAX
from sluicegate.app.confinement import confine_process
from sluicegate.app.early import load_early
from sluicegate.app.privileges import hide_memory
from sluicegate.clock import SystemClock
from sluicegate.process_limits import SIGNER_MEMORY_BYTES_MAX
from sluicegate.sandbox.confinement import CannotConfineError, confine
from sluicegate.sandbox.launch import code_folders
from sluicegate.tls.authority import Authority, AuthorityUnusable, SigningKey
from sluicegate.tls.pkcs11_key import KeyUnusable, open_token_key
from sluicegate.tls.pkcs11_uri import parse_pkcs11_uri
from sluicegate.tls.signer_server import SignerServer
from sluicegate.version import VERSION

from .channel import Channel, FrameReader, send_last
from .orders import PROTOCOL, AnyMessage, BeginSigner, Failed, Ready, Said, TakeWorker
from .start import arrive

__all__ = ["main"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders and questions, not traffic


def main(channel: int) -> None:
    """Be the signer.

    Args:
        channel: Descriptor of the socket to the supervisor.
    """
    hide_memory()
    load_early("cryptography.hazmat.backends.openssl.backend")  # else with the first signature
    # It ends by its channel, after the workers.
    arrived = arrive(channel, BeginSigner, "sluice-signer")
    if arrived is None:
        return
    supervisor, connected, begin, descriptors, reader = arrived
    try:
        trusted, untrusted = _authorities(begin, descriptors)
    except (AuthorityUnusable, KeyUnusable) as error:
        send_last(connected, Failed(causes=[str(error)]))
        return
    lacking = _confine(begin, supervisor)
    asyncio.run(_Signer(trusted, untrusted, lacking).live(connected, reader))


def _authorities(begin: BeginSigner, descriptors: list[int]) -> tuple[Authority, Authority]:
    """Put certificates and keys together; the descriptors are closed.

    Raises:
        AuthorityUnusable: Certificates or keys are wrong.
        KeyUnusable: The token is.
    """
    keys = [_read_key(one) for one in descriptors]
    if begin.token:
        keys.insert(0, open_token_key(parse_pkcs11_uri(begin.token), begin.module, begin.pin))
    authorities: list[Authority] = []
    for name, text, key in zip(_NAMES, (begin.chain, begin.untrusted), keys, strict=True):
        try:
            authorities.append(Authority(x509.load_pem_x509_certificates(text.encode()), key))
        except (AuthorityUnusable, ValueError) as error:
            raise AuthorityUnusable(f"{name}: {error}") from error
    return authorities[0], authorities[1]


_NAMES: Final = ("ca.pem", "untrusted.pem")
_EVERYWHERE: Final = (pathlib.Path("/"),)


def _read_key(descriptor: int) -> SigningKey:
    try:
        content = os.pread(descriptor, SECRET_FILE_BYTES_MAX, 0)
        key = serialization.load_pem_private_key(content, None)
    except TypeError as error:
        raise AuthorityUnusable("a key is encrypted: openssl pkey -in KEY -out PLAIN") from error
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityUnusable(f"a key cannot be read: {error}") from error
    finally:
        os.close(descriptor)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise AuthorityUnusable("a key is neither EC nor RSA: clients do not know it")
    return key


def _confine(begin: BeginSigner, supervisor: int) -> str:
    """Give up all that signing does not need; return what this kernel lacks.

    A token's library opens files and sockets of its own, whenever it likes: such a process keeps
    them, and has no key that could be taken.
    """
    if begin.token:
        return "; ".join(confine_process(_EVERYWHERE).lacking)
    try:
        confine(
            supervisor,
            readable=code_folders(),
            secret=[begin.folder],
            memory_bytes_max=SIGNER_MEMORY_BYTES_MAX,
        )
    except CannotConfineError as error:
        return "; ".join((str(error), *confine_process(()).lacking))
    return ""


class _Signer:
    """The process's life."""

    def __init__(self, trusted: Authority, untrusted: Authority, lacking: str) -> None:
        self._server = SignerServer(trusted, untrusted, SystemClock(), self._on_unusable)
        self._lacking = lacking
        self._over = asyncio.Event()

    async def live(self, connected: _Socket, reader: FrameReader) -> None:
        """Sign until nobody needs it any more."""
        self._channel = Channel(connected, self._on_message, self._on_left, reader)
        self._channel.send(Ready(protocol=PROTOCOL, version=VERSION))
        if self._lacking:
            self._channel.send(
                Said(line=f"the signer is not confined as it should: {self._lacking}")
            )
        self._channel.deliver()
        await self._over.wait()
        self._server.close()
        self._channel.close()

    def _on_message(self, message: AnyMessage, descriptors: list[int]) -> None:
        match message:
            case TakeWorker():
                self._server.add_worker(_Socket(fileno=descriptors[0]))
            case _:
                raise AssertionError(f"{message} is for another process")

    def _on_unusable(self, cause: str) -> None:
        self._channel.send(Said(line=f"the authority's key does not sign: {cause}"))
        self._over.set()

    def _on_left(self, _cause: str) -> None:
        self._over.set()
