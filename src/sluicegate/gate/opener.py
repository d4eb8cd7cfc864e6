"""Opener: brings one tunnel's TLS up: hello judged, server verified, leaf minted, client met.

``opening_connection`` has one between the answer to its client and what follows. The invariant: the
client is shown a certificate only after its server was dialled at the judged address and has shown
who it is; and not a byte of what is inside goes anywhere before both handshakes are done.

Its way, each step told by a callback::

    HelloReading    the hello is whole, judged, and says which host it is about
    SERVER          TLS with the server -> who it is, or why not
    LEAF            a certificate for the client -> the client's handshake, from the held bytes
    CLIENT          ALPN, or the first bytes, say what is inside -> web, or a tunnel

Wherever it ends, the client is told by an alert, if its own TLS has not begun yet.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import functools
import math
from typing import TYPE_CHECKING, Final

from sluicegate.audit import StepName
from sluicegate.errors import Side, errno_name
from sluicegate.filterapi import Outcome
from sluicegate.policy.tls_check import HELLO_LATE
from sluicegate.policy.tls_opening import (
    ClientCertificateWish,
    OpeningReason,
    TlsMode,
    Unverified,
)
from sluicegate.tls import HTTP2, ServerFailure, ServerFault, ServerIdentity
from sluicegate.tls.leaf_fault import LeafFailure

from .hello_reading import HelloReading
from .inside_detection import InsideDetection
from .opened_tls import OpenedTls
from .read_connection import ACCESS_DENIED
from .server_tls import NO_AUTHORITIES

if TYPE_CHECKING:
    from sluicegate.names import CanonicalHost
    from sluicegate.policy.tls_opening import TlsOpening
    from sluicegate.tls import ServerStream, TlsStream
    from sluicegate.tls.leaf_source import LeafAnswer, LeafContext

    from .known_validations import ValidationKey
    from .opening_connection import OpeningConnection
    from .server_tls import ServerHandshake

__all__ = ["Opener"]

_INTERNAL_ERROR: Final = 80
_NO_APPLICATION_PROTOCOL: Final = 120
"""Of TLS's alerts (RFC 8446 section 6.2)."""

_HTTP1: Final = "http/1.1"

_OFFERS_KNOWN_MAX: Final = 64
"""What clients offer, that is remembered: programs have a list each, of two or three."""


class _State(enum.Enum):
    HELLO = enum.auto()
    SERVER = enum.auto()
    LEAF = enum.auto()
    CLIENT = enum.auto()
    OVER = enum.auto()


class Opener:
    """Of one connection, until it is open."""

    __slots__ = (
        "_connection",
        "_handshake",
        "_hello",
        "_is_translated",
        "_leaf",
        "_server",
        "_service",
        "_since",
        "_state",
        "_stream",
        "due",
    )

    def __init__(self, connection: OpeningConnection) -> None:
        self.due = math.inf
        #: When it has to be further, on the port's clock.
        self._connection = connection
        self._service = connection.firewall
        self._state = _State.HELLO
        self._hello = HelloReading(connection)
        self._handshake: ServerHandshake | None = None
        self._is_translated = False
        #: Whether the server speaks nothing but HTTP/2, and the client nothing but HTTP/1.
        self._server: ServerStream | None = None
        self._leaf: LeafContext | None = None
        self._stream: TlsStream | None = None
        #: With the client.
        self._since = 0.0
        #: When the step began that it is at.

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._connection.on_internal_error(error)

    def begin(self) -> None:
        """Read the client's hello."""
        connection = self._connection
        self.due = connection.port.now + self._service.limits.hello_timeout_s
        self._service.wheel.add(connection, self.due)
        self._hello.begin()

    def _wait_for(self, seconds: float) -> None:
        connection = self._connection
        self.due = connection.port.now + seconds
        self._service.wheel.hasten(connection, self.due)

    @property
    def opened(self) -> OpenedTls:
        """What is known so far, once the hello has passed."""
        opened = self._connection.opened
        assert opened is not None, "the hello has passed"
        return opened

    @property
    def is_shown_unverified(self) -> bool:
        """Whether clients are let on to servers that are not who they should be."""
        return self._opening.unverified is Unverified.SHOW

    @property
    def _opening(self) -> TlsOpening:
        """What the rule in force wants."""
        check = self._connection.plan.tls
        assert check is not None, "it is opened by a rule that wants it"
        return check.opening

    # -- the hello -------------------------------------------------------------------------------

    def on_hello(self, host: CanonicalHost) -> None:
        """Take that the hello has passed, by the policy in force, and which host it is about."""
        connection = self._connection
        mode = connection.find_mode(host)
        connection.opened = OpenedTls(host, mode, sni=self._hello.server_name)
        if mode is TlsMode.SPLICE and connection.has_server:
            self.pass_on()
            return
        if mode is TlsMode.VALIDATE and self._is_known():
            self.pass_on()
            return
        self._state = _State.SERVER
        self._wait_for(self._service.limits.opening_timeout_s)
        proof = None
        if mode is TlsMode.INSPECT:
            now, known = connection.port.now, self._service.server_tls.protocols
            self._is_translated = self._may_translate and known.is_http2_alone(
                self._server_key, now
            )
            proof = connection.find_proof(host, self._protocols())
        if proof is not None and proof.identity.alpn in _OF_THE_WEB:
            connection.opened.take_identity(proof.identity)
            self._on_identity(proof.identity)
        elif connection.has_server:
            self._begin_server()
        else:
            # There was a server for it, which has gone meanwhile, or is offered something else.
            connection.dial_at_last(self._on_dialled)

    @property
    def _server_key(self) -> ValidationKey:
        connection, epoch = self._connection, self._service.server_tls.epoch
        return self.opened.host.text, connection.named_port, connection.server_address, epoch

    def _is_known(self) -> bool:
        """Tell whether its server, which was dialled, was verified a moment ago."""
        connection = self._connection
        port, known = connection.port, self._service.server_tls.validations
        identity = known.find(self._server_key, port.now, port.wall)
        if identity is None or not connection.has_server:
            return False
        self.opened.take_identity(identity)
        return True

    def _on_dialled(self) -> None:
        """Take that there is a connection to the server now."""
        if not self._goes_on():
            return
        if self.opened.mode is TlsMode.SPLICE:
            self.pass_on()
        else:
            self._begin_server()

    def _begin_server(self) -> None:
        """Let the server, which was dialled, say who it is."""
        connection, opened = self._connection, self.opened
        host, mode = opened.host, opened.mode
        unverified, protocols = self._opening.unverified, self._protocols()
        raw = connection.take_server()
        self._since = connection.port.now
        handshake = self._service.server_tls.begin(
            raw,
            host,
            connection.named_port,
            self._on_server,
            protocols=protocols,
            accepts_unverified=mode is TlsMode.INSPECT and unverified is not Unverified.REFUSE,
        )
        if handshake is None:
            self._fail(NO_AUTHORITIES)
        else:
            self._handshake = handshake

    def _protocols(self) -> tuple[str, ...]:
        """Return what the server is offered: what the client offers, as far as it is served here.

        A client that speaks something else than HTTP has its own protocols mirrored. A server that
        speaks no HTTP/1 is asked for HTTP/2 when it has said so.
        """
        if self._is_translated:
            return (HTTP2,)
        hello = self._hello.hello
        assert hello is not None, "it was judged"
        return _protocols_for(hello.alpn, self._served)

    def _goes_on(self) -> bool:
        """Tell whether it may: neither over, nor refused by another policy; False ends it."""
        return not self._connection.is_closing and self._connection.is_still_opened()

    def pass_on(self) -> None:
        """Let the connection go on as it is, from the first byte of the hello."""
        self._state = _State.OVER
        self.due = math.inf
        self._connection.pass_on(self._hello.held)

    def on_not_tls(self) -> None:
        """Take that the client speaks no TLS, and may by its rule."""
        self._state = _State.OVER
        self.due = math.inf
        self._connection.go_on_without_tls(self._hello.held)

    # -- the server ------------------------------------------------------------------------------

    def _on_server(
        self, stream: ServerStream | None, outcome: ServerIdentity | ServerFailure
    ) -> None:
        self._handshake = None
        connection, self._server = self._connection, stream
        if stream is not None:
            connection.take_server_stream(stream)  # before anything that may fail: it is nobody's
        self._note_step("tls-server", outcome.reason if isinstance(outcome, ServerFailure) else "")
        if stream is None:
            assert isinstance(outcome, ServerFailure), "who the server is comes with its stream"
            self._on_server_failed(outcome)
            return
        assert isinstance(outcome, ServerIdentity), "a stream comes with who the server is"
        self.opened.take_identity(outcome)
        if self._goes_on():
            self._on_identity(outcome)

    def _on_identity(self, outcome: ServerIdentity) -> None:
        """Take who the server is, of a connection that goes on."""
        connection, opened = self._connection, self.opened
        wish = self._opening.client_certificates
        if opened.mode is TlsMode.VALIDATE:
            proof = None if self._server is None else self._server.proof
            if proof is not None:
                known = self._service.server_tls.validations
                known.keep(self._server_key, proof, connection.port.now)
            self._dial_anew()
        elif outcome.wants_certificate and wish is not ClientCertificateWish.IGNORE:
            self._on_certificate_wanted("")
        elif outcome.fault is not None and self._opening.unverified is Unverified.REFUSE:
            # Another policy has come meanwhile.
            self._refuse(f"{outcome.fault.code}: {outcome.fault_detail}".removesuffix(": "))
        else:
            self._state = _State.LEAF
            self._since = connection.port.now
            if self._is_translated and outcome.alpn == HTTP2:
                if outcome.is_verified:
                    self._service.server_tls.protocols.keep(self._server_key, self._since)
                outcome = dataclasses.replace(outcome, alpn=_HTTP1)
            self._service.leaves.leaf_for(outcome, self._on_leaf)

    def _on_server_failed(self, failure: ServerFailure) -> None:
        opened = self.opened
        opened.verification, opened.identity = failure.fault.code, failure.identity
        if failure.fault is ServerFault.WANTS_CERTIFICATE and opened.mode is TlsMode.INSPECT:
            self._on_certificate_wanted(failure.detail)
        elif failure.fault is ServerFault.NO_PROTOCOL:
            self._on_no_protocol(failure.reason)
        elif failure.fault.is_verdict:
            self._refuse(failure.reason)
        else:
            self._fail(failure.reason)

    def _on_no_protocol(self, reason: str) -> None:
        """Take that the server has none of the client's protocols: HTTP/1 can be said in HTTP/2.

        Clients ask for a WebSocket in HTTP/1 alone, also of servers that have it in HTTP/2 only.
        """
        is_known = self._is_translated and self._service.server_tls.protocols.forget(
            self._server_key
        )
        if is_known or self._may_translate:
            self._is_translated = not is_known  # a server that had said so may have changed
            self._connection.dial_anew(self._on_dialled)
        else:
            self._fail(reason, _NO_APPLICATION_PROTOCOL)

    @property
    def _may_translate(self) -> bool:
        """Whether a client that speaks nothing but HTTP/1 may be served by HTTP/2."""
        is_inspected = self.opened.mode is TlsMode.INSPECT
        return is_inspected and self._protocols() == (_HTTP1,) and HTTP2 in self._served

    @property
    def _served(self) -> tuple[str, ...]:
        return self._service.web.protocols_inside

    def _on_certificate_wanted(self, detail: str) -> None:
        """Take that the server asks for a certificate that only the client has."""
        if self._opening.client_certificates is ClientCertificateWish.SPLICE:
            self._dial_anew()
            return
        code = ServerFault.WANTS_CERTIFICATE.code
        self.opened.suggest_splice()
        self._refuse(f"{code}: {detail}" if detail else code)

    def _dial_anew(self) -> None:
        """Dial the same address once more, for the client's own handshake."""
        self._state = _State.SERVER
        self._server = None
        self._connection.dial_anew(self.pass_on)

    # -- the client ------------------------------------------------------------------------------

    def _on_leaf(self, answer: LeafAnswer) -> None:
        connection = self._connection
        if self._state is not _State.LEAF or not self._goes_on():
            return
        self._note_step("leaf", answer.reason if isinstance(answer, LeafFailure) else "")
        if isinstance(answer, LeafFailure):
            self._fail(answer.reason)
            return
        self._leaf = answer
        self.opened.leaf = answer.leaf
        self._state = _State.CLIENT
        self._since = connection.port.now
        self._stream = connection.meet_client(answer, self._hello.held, self._on_client_failed)
        self._stream.on_established = self._on_client

    def _on_client(self) -> None:
        """Take that the client's handshake is done; nothing of what is inside was delivered."""
        connection, stream = self._connection, self._stream
        assert stream is not None, "it has met the client"
        self.opened.take_client(stream.engine)
        self._note_step("tls-client", "")
        if not self._goes_on():
            return
        alpn = stream.engine.alpn
        if connection.has_server:
            self._wait_for(self._service.limits.web_idle_timeout_s)
            InsideDetection(connection, self, alpn).begin()
        elif alpn in _OF_THE_WEB:
            self.on_open()
            web = self._service.web
            web.admit_opened(connection, self.opened, alpn, b"", is_server_usable=False)
        else:
            self.refuse_inside(OpeningReason.NOT_HTTP)

    def _on_client_failed(self, error: int) -> None:
        """Take that the client does not go on with the handshake, or has gone before it."""
        connection, stream = self._connection, self._stream
        assert stream is not None, "it has met the client"
        words = stream.alert or stream.failure or (errno_name(error) if error else "cut off")
        # Many a client says nothing, and just leaves.
        has_left = not stream.alert and (error != errno.EPROTO or stream.is_cut_off)
        if has_left or stream.alert in _ABOUT_CERTIFICATES:
            self.opened.suggest_splice()
            reason = f"{OpeningReason.CLIENT_REFUSES}: {words}"
        else:
            reason = f"{OpeningReason.CLIENT_FAILED}: {words}"
        self._state = _State.OVER
        self._note_step("tls-client", reason)
        connection.fail(reason, error, Side.CLIENT)

    def on_open(self) -> None:
        """Take that somebody else goes on with what is inside."""
        self._state = _State.OVER
        self.due = math.inf

    def _note_step(self, step: StepName, reason: str) -> None:
        """Record what it spent time on, if its connection is traced."""
        steps = self._service.records.steps
        if steps.ratio:
            connection = self._connection
            seconds = connection.port.now - self._since
            steps.write(connection.id, step, seconds, reason=reason)

    # -- the end ---------------------------------------------------------------------------------

    def refuse_hello(self, reason: str) -> None:
        """Refuse what the client said first."""
        self._refuse(reason)

    def refuse_inside(self, reason: str) -> None:
        """Refuse what is inside."""
        self._state = _State.OVER
        self._connection.refuse(reason)

    def _refuse(self, reason: str) -> None:
        self._state = _State.OVER
        self._connection.end_by_alert(Outcome.REFUSED, reason, ACCESS_DENIED)

    def _fail(self, reason: str, description: int = _INTERNAL_ERROR) -> None:
        self._state = _State.OVER
        self._connection.end_by_alert(Outcome.FAILED, reason, description)

    def on_expired(self) -> None:
        """Take that a step has taken too long."""
        if self._state is _State.HELLO:
            self._state = _State.OVER
            self._connection.refuse(HELLO_LATE)
        else:
            self._fail(OpeningReason.LATE)

    def stop(self) -> None:
        """Give up: the connection is closing."""
        self._state = _State.OVER
        self._hello.stop()
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.stop()
        if self._stream is not None:
            self._stream.on_established = None


@functools.lru_cache(_OFFERS_KNOWN_MAX)
def _protocols_for(alpn: tuple[bytes, ...], served: tuple[str, ...]) -> tuple[str, ...]:
    offered = tuple(one.decode("ascii", "replace") for one in alpn)
    known = tuple(one for one in served if one in offered)
    return known or tuple(one for one in offered if one.isascii() and one != "h2")


_OF_THE_WEB: Final = frozenset({_HTTP1, HTTP2})
_ABOUT_CERTIFICATES: Final = frozenset(
    {
        "bad certificate",
        "unsupported certificate",
        "certificate revoked",
        "certificate expired",
        "certificate unknown",
        "unknown ca",
        "access denied",
    }
)
"""Alerts of a client that does not take the certificate that it is shown."""
