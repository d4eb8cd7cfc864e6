"""LdapLink: one connection to a directory server, over TLS, for a thread that may block.

``ldap_lookup`` asks through it, ``ldap_pool`` keeps it between two questions. ``ldap3`` speaks the
protocol; what it leaves to its user is done here: whom to dial and to trust, deadlines for whole
operations and not only for each read, bounds for answers, no referral followed. The invariant:
nothing but StartTLS is said before the server has proved its name, and every failure is a
``DirectoryFailed``.

(``bonsai``, which stands on the C library, was the other choice: it cannot be given the address to
dial apart from the name to verify, so the system's resolver would choose whom the gate talks to.)
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import override

from sluicegate.access_limits import LDAP_ANSWER_BYTES_MAX
from sluicegate.address import SocketAddress
from sluicegate.clock import Clock
from sluicegate.errors import DirectoryFailed

from .ldap_settings import DirectoryServer, DirectorySettings
from .ldap_text import DistinguishedName, LdapTextError

with warnings.catch_warnings():
    # Its imports of pyasn1 use names that pyasn1 is about to drop; both have ranges.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3
    from ldap3.core.connection import Connection
    from ldap3.core.exceptions import LDAPCommunicationError, LDAPException
    from ldap3.core.results import (
        RESULT_INAPPROPRIATE_AUTHENTICATION,
        RESULT_INVALID_CREDENTIALS,
        RESULT_NO_SUCH_OBJECT,
        RESULT_SUCCESS,
    )
    from ldap3.core.server import Server
    from ldap3.core.tls import Tls
    from ldap3.operation import search as search_operation

__all__ = ["Bounds", "LdapEntry", "LdapLink", "check_filter", "make_context"]


@dataclass(frozen=True, slots=True)
class LdapEntry:
    """One entry that a search found."""

    name: DistinguishedName
    attributes: dict[str, tuple[bytes, ...]]
    """By their names in lower case."""

    def texts(self, attribute: str) -> list[str]:
        """Return an attribute's values as text.

        Raises:
            DirectoryFailed: One of them is not UTF-8.
        """
        values = self.attributes.get(attribute.lower(), ())
        try:
            return [value.decode("utf-8") for value in values]
        except UnicodeDecodeError as error:
            raise DirectoryFailed(f"{self.name.text}: {attribute} is not UTF-8") from error


class Bounds:
    """What is left of an operation's time and of its answer's bytes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadline = 0.0
        self._bytes = 0

    def begin(self, deadline: float) -> None:
        """Begin an operation that ends by ``deadline``, on the monotonic clock."""
        self._deadline = deadline
        self._bytes = LDAP_ANSWER_BYTES_MAX

    @property
    def left_s(self) -> float:
        """How long the operation may still take.

        Raises:
            TimeoutError: No longer.
        """
        left = self._deadline - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long")
        return left

    def take(self, count: int) -> None:
        """Count what came of the answer.

        Raises:
            OSError: It is too long.
        """
        self._bytes -= count
        if self._bytes < 0:
            raise OSError(f"the answer is longer than {LDAP_ANSWER_BYTES_MAX} bytes")


class _PlainSocket(socket.socket):  # noqa: TID251 - blocking, on a thread of its own; the port has no part in it
    """A TCP socket within bounds; only StartTLS is spoken on it."""

    bounds: Bounds

    @override
    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        self.settimeout(self.bounds.left_s)
        data = super().recv(bufsize, flags)
        self.bounds.take(len(data))
        return data


class _TlsSocket(ssl.SSLSocket):
    """A TLS socket within bounds."""

    bounds: Bounds

    @override
    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        self.settimeout(self.bounds.left_s)
        data = super().recv(buflen, flags)
        self.bounds.take(len(data))
        return data

    @override
    def send(self, data: Any, flags: int = 0) -> int:
        self.settimeout(self.bounds.left_s)
        return super().send(data, flags)


class _GivenAddress(Server):
    """A server that is dialled by its link, not by ``ldap3``."""

    @override
    def candidate_addresses(self) -> list[list[object]]:
        return [[None] * 7]

    @override
    def update_availability(self, address: object, available: object) -> None:
        del address, available


class _LinkTls(Tls):
    """Begins TLS as the link does it, with the name verified by OpenSSL."""

    def __init__(self, wrap: Callable[[Any], ssl.SSLSocket]) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]  # its stubs know no types
        self._wrap = wrap

    @override
    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        del do_handshake
        connection.socket = self._wrap(connection.socket)


def make_context(settings: DirectorySettings) -> ssl.SSLContext:
    """Return who is trusted: the given authorities and no other, or the system's.

    Raises:
        ssl.SSLError: There is no certificate in what was given.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.ca_pem:
        context.load_verify_locations(cadata=settings.ca_pem)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def check_filter(text: str) -> str:
    """Return what is wrong with a search filter; empty if nothing is."""
    parse: Any = vars(search_operation)["parse_filter"]  # its stubs know no types
    try:
        parse(text, None, auto_escape=False, auto_encode=False, validator=None, check_names=False)
    except Exception as error:  # noqa: BLE001 - the parser raises whatever it stumbles over
        return str(error) or type(error).__name__
    return ""


class LdapLink:
    """One connection; used by one thread at a time."""

    def __init__(
        self,
        settings: DirectorySettings,
        server: DirectoryServer,
        address: SocketAddress,
        context: ssl.SSLContext,
        clock: Clock,
    ) -> None:
        self.server = server
        self.bounds = Bounds(clock)
        self.idle_since = 0.0
        self._settings = settings
        self._address = address
        self._context = context
        self._clock = clock
        given = _GivenAddress("directory", get_info=ldap3.NONE, tls=_LinkTls(self._begin_tls))
        self._connection: Any = Connection(
            given,
            client_strategy=ldap3.SYNC,
            auto_bind=ldap3.AUTO_BIND_NONE,
            auto_referrals=False,
            auto_range=False,
            check_names=False,
            read_only=True,
            raise_exceptions=False,
            return_empty_attributes=False,
        )
        self._connection.strategy._open_socket = self._take_socket  # noqa: SLF001 - the one place where it opens sockets
        self._socket: socket.socket | None = None  # noqa: TID251 - as above

    # -- dialling ------------------------------------------------------------------------------

    def open(self, deadline: float) -> None:
        """Dial the server, and have it prove its name.

        Raises:
            DirectoryFailed: It cannot be reached, or is not who it should be.
        """
        self.bounds.begin(min(deadline, self._clock.monotonic() + self._settings.connect_timeout_s))
        with self._failures("connect"):
            plain = _PlainSocket(self._address.family, socket.SOCK_STREAM)
            plain.bounds = self.bounds
            self._socket = plain
            plain.settimeout(self.bounds.left_s)
            plain.connect(self._address.to_kernel())
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self.server.starts_tls:
                self._socket = self._begin_tls(plain)
            self._connection.open(read_server_info=False)
            if self.server.starts_tls and not self._connection.start_tls(read_server_info=False):
                raise DirectoryFailed(f"{self.server} does not begin TLS", is_server=True)

    def _take_socket(self, _address: object, _use_ssl: object, unix_socket: object) -> None:
        """Give ``ldap3`` the socket that is there already."""
        del unix_socket
        self._connection.socket = self._socket
        self._connection.closed = False

    def _begin_tls(self, plain: socket.socket) -> ssl.SSLSocket:  # noqa: TID251 - as above
        plain.settimeout(self.bounds.left_s)
        name = self._settings.tls_name or self.server.host
        self._socket = wrapped = self._context.wrap_socket(plain, server_hostname=name)
        assert isinstance(wrapped, _TlsSocket), "the context makes them"
        wrapped.bounds = self.bounds
        return wrapped

    # -- asking --------------------------------------------------------------------------------

    def bind(self, name: str, password: bytes, deadline: float) -> bool:
        """Tell whether the entry of this name has this password.

        Raises:
            DirectoryFailed: The server does not say.
        """
        assert name, "without a name, a bind succeeds and proves nothing"
        assert password, "without a password, a bind succeeds and proves nothing (RFC 4513, 5.1.2)"
        self.bounds.begin(deadline)
        connection = self._connection
        with self._failures("bind"):
            try:
                connection.rebind(name, password, ldap3.SIMPLE, read_server_info=False)
                result = connection.result
            finally:
                connection.password = connection.request = None
            code = result["result"]
            if result["type"] != "bindResponse":
                raise DirectoryFailed(f"{self.server} answers a bind with {result['type']}")
            if code == RESULT_SUCCESS:
                return True
            if code in _REFUSALS:
                return False
            raise DirectoryFailed(f"{self.server} answers a bind with {result['description']}")
        raise AssertionError("a failure is raised")

    def search(
        self,
        base: str,
        search_filter: str,
        attributes: Sequence[str],
        deadline: float,
        *,
        entries_max: int,
        is_base_only: bool = False,
    ) -> list[LdapEntry]:
        """Return the entries that a filter finds, at most one more than ``entries_max``.

        References to other servers are left out: nobody follows them.

        Raises:
            DirectoryFailed: The server does not answer, or not wholly.
        """
        self.bounds.begin(deadline)
        connection = self._connection
        with self._failures("search"):
            connection.search(
                base,
                search_filter,
                ldap3.BASE if is_base_only else ldap3.SUBTREE,
                ldap3.DEREF_NEVER,
                attributes=list(attributes) or [ldap3.NO_ATTRIBUTES],
                size_limit=entries_max + 1,
                time_limit=max(1, int(self.bounds.left_s)),
            )
            result, found = connection.result, connection.response
            code = result["result"]
            if code == RESULT_NO_SUCH_OBJECT and is_base_only:
                return []
            if code != RESULT_SUCCESS or result["type"] != "searchResDone":
                said = result["description"]
                raise DirectoryFailed(f"{self.server} answers a search below {base} with {said}")
            return [_entry(one) for one in found if one["type"] == "searchResEntry"]
        raise AssertionError("a failure is raised")

    def close(self) -> None:
        """Close the connection; it says goodbye, and waits for nothing."""
        opened, self._socket = self._socket, None
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    @contextlib.contextmanager
    def _failures(self, doing: str) -> Generator[None]:
        """Turn whatever goes wrong into one error, and end a connection that nobody can trust."""
        try:
            yield
        except DirectoryFailed:
            self.close()
            raise
        except (OSError, LDAPCommunicationError) as error:
            self.close()
            cause = f"{self.server}: {doing}: {_words(error)}"
            raise DirectoryFailed(cause, is_server=True) from error
        except Exception as error:
            # The library decodes what a server sent, and raises whatever comes of it.
            self.close()
            cause = f"{self.server}: {doing}: {type(error).__name__}"
            raise DirectoryFailed(cause, is_server=True) from error


def _entry(found: dict[str, Any]) -> LdapEntry:
    attributes: dict[str, tuple[bytes, ...]] = {}
    for key, values in found["raw_attributes"].items():
        if ";range=" in key.lower():
            raise DirectoryFailed(f"{found['dn']}: {key}: the server cuts long lists")
        attributes[key.lower()] = tuple(bytes(value) for value in values)
    try:
        return LdapEntry(DistinguishedName.parse(found["dn"]), attributes)
    except LdapTextError as error:
        raise DirectoryFailed(f"an entry's name cannot be read: {error}") from error


def _words(error: BaseException) -> str:
    while isinstance(error, LDAPException) and error.__context__ is not None:
        error = error.__context__  # the library dresses errors of sockets up as its own
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "the certificate cannot be verified"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


_REFUSALS: Final = frozenset({RESULT_INVALID_CREDENTIALS, RESULT_INAPPROPRIATE_AUTHENTICATION})
"""The password is wrong, or the entry has none."""
