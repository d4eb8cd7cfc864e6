"""Tells people of an alert by mail: one message to a mail server (RFC 5321, 8314).

The standard library speaks SMTP and blocks, so it has a thread; the time is kept outside, by ending
its socket. The invariant: nothing of a client is in a header but through the library's own
encoding, of which a line end cannot be made; a password goes only over TLS whose certificate was
verified.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.message
import email.policy
import email.utils
import smtplib
import socket
import ssl
from typing import Final, TypeAlias

from sluicegate.audit.alerts.action import MailSettings

from .fault import ActionFailed
from .notice import Notice
from .secret import PASSWORD, read_secret_line

__all__ = ["make_message", "send_mail"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries mail, not traffic

_PERMANENT: Final = 500
_SUBJECT_CHARACTERS_MAX: Final = 200


def make_message(settings: MailSettings, notice: Notice, now: float) -> email.message.EmailMessage:
    """Return the message, with an identifier of its own, the same for another attempt."""
    message = email.message.EmailMessage(email.policy.SMTP)
    domain = settings.sender.rpartition("@")[2]
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message["Subject"] = notice.subject[:_SUBJECT_CHARACTERS_MAX]
    message["Date"] = email.utils.formatdate(now)
    message["Message-ID"] = f"<{notice.identifier}.{_of_host(notice.gate)}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody answers it by a machine
    message["X-Sluicegate-Alert"] = notice.alert
    message["X-Sluicegate-Severity"] = notice.severity
    message.set_content(notice.to_text())
    return message


async def send_mail(settings: MailSettings, notice: Notice, now: float) -> None:
    """Hand a message to the mail server.

    Raises:
        ActionFailed: It did not take it, for nobody, or not for all.
    """
    password = ""
    if settings.password_file:
        password = read_secret_line(settings.password_file, PASSWORD)
    message = make_message(settings, notice, now)
    dialogue = _Dialogue(settings)
    sending = asyncio.get_running_loop().run_in_executor(None, dialogue.send, message, password)
    try:
        async with asyncio.timeout(settings.timeout_s):
            await asyncio.shield(sending)
    except TimeoutError:
        dialogue.end()
        with contextlib.suppress(OSError, smtplib.SMTPException, ActionFailed):
            await sending
        raise ActionFailed(f"not sent within {settings.timeout_s:g} s") from None


class _Dialogue:
    """One dialogue with a mail server, in a thread."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        self._socket: _Socket | None = None
        self._is_over = False

    def send(self, message: email.message.EmailMessage, password: str) -> None:
        """Connect, and hand the message over.

        Raises:
            ActionFailed: It was not taken.
        """
        try:
            self._send(message, password)
        except smtplib.SMTPRecipientsRefused as error:
            answers = [f"{code} {_words(text)}" for code, text in error.recipients.values()]
            codes = [code for code, _ in error.recipients.values()]
            is_final = all(code >= _PERMANENT for code in codes)
            raise ActionFailed(
                f"it takes no mail for anybody: {answers[0]}", is_final=is_final
            ) from None
        except smtplib.SMTPResponseException as error:
            # A login that is refused today may be put right: it is tried again.
            is_final = error.smtp_code >= _PERMANENT and not isinstance(
                error, smtplib.SMTPAuthenticationError
            )
            cause = f"it answers {error.smtp_code} {_words(error.smtp_error)}"
            raise ActionFailed(cause, is_final=is_final) from None
        except ssl.SSLCertVerificationError as error:
            cause = f"its certificate is not believed: {error.verify_message}"
            raise ActionFailed(cause) from None
        except (OSError, smtplib.SMTPException) as error:
            raise ActionFailed(f"{type(error).__name__}: {error}") from None

    def end(self) -> None:
        """End the connection, from another thread: whoever waits there is told."""
        self._is_over = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not that of ``ssl``: it drops TLS first, and the thread might go on without it.
                _Socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _send(self, message: email.message.EmailMessage, password: str) -> None:
        settings = self._settings
        smtp = smtplib.SMTP(local_hostname=_of_host(socket.gethostname()))
        try:
            self._connect(smtp)
            if settings.tls == "starttls":
                _expect(smtp.ehlo(), _DONE)
                if not smtp.has_extn("starttls"):
                    raise ActionFailed("it offers no STARTTLS")
                _expect(smtp.docmd("STARTTLS"), _READY)
                self._secure(smtp)
            if settings.user:
                smtp.login(settings.user, password)
            refused = smtp.send_message(message, settings.sender, list(settings.to))
            if refused:
                raise ActionFailed(f"it takes no mail for {', '.join(refused)}", is_final=True)
            with contextlib.suppress(OSError, smtplib.SMTPException):
                smtp.quit()  # the message was taken already
        finally:
            smtp.close()

    def _connect(self, smtp: smtplib.SMTP) -> None:
        settings = self._settings
        place = settings.host, settings.port
        self._hold(smtp, socket.create_connection(place, settings.timeout_s))
        if settings.tls == "tls":
            self._secure(smtp)
        _expect(smtp.getreply(), _READY)

    def _hold(self, smtp: smtplib.SMTP, connected: _Socket) -> None:
        """Go on with a socket, which ``end`` ends from now on, unless it was there already."""
        self._socket = smtp.sock = connected
        if self._is_over:
            raise TimeoutError

    def _secure(self, smtp: smtplib.SMTP) -> None:
        """Go on in TLS; what came before it counts for nothing (RFC 3207 section 4.2)."""
        assert smtp.sock is not None, "it is connected"
        context = ssl.create_default_context(cafile=self._settings.ca or None)
        secured = context.wrap_socket(
            smtp.sock, server_hostname=self._settings.host, do_handshake_on_connect=False
        )
        self._hold(smtp, secured)
        secured.do_handshake()
        smtp.file = None
        smtp.helo_resp = smtp.ehlo_resp = None
        smtp.esmtp_features = {}
        smtp.does_esmtp = False


def _expect(answer: tuple[int, bytes], wanted: int) -> None:
    code, text = answer
    if code != wanted:
        raise smtplib.SMTPResponseException(code, text)


_READY: Final = 220
_DONE: Final = 250


def _words(text: bytes | str) -> str:
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join("".join(one if one.isprintable() else " " for one in shown).split())[:200]


def _of_host(name: str) -> str:
    return "".join(one if one.isalnum() and one.isascii() else "-" for one in name)[:64]
