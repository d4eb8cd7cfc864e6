"""Mails of alerts: over real sockets to a real server, and to servers that are none."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from sluicegate.app.alerts import Notice
from sluicegate.app.alerts.fault import ActionFailed
from sluicegate.app.alerts.mail import send_mail
from sluicegate.audit.alerts.action import MailSettings, MailTls
from tests.kernel.alert_kit import HOST, PASSWORD, Mailbox, server_context
from tests.ports import free_port

NOTICE = Notice(
    event="raised", gate="gate1", alert="visit", raising="a-1-1", severity="warning", category="",
    message="somebody was here", about="h\u00f4te.example", client="", count=1, times=1, first=0.0,
    raised=0.0, query="", facts={},
)  # fmt: skip


def settings_of(folder: pathlib.Path, port: int, tls: MailTls, **more: object) -> MailSettings:
    password = folder / "password"
    password.touch(0o600)
    password.write_text(str(more.pop("password", PASSWORD)))
    login = {} if tls == "none" else {"user": "gate", "password_file": str(password)}
    known = {"ca": str(folder / "ca.pem"), "timeout_s": 60.0, **login, **more}
    return MailSettings(
        host=HOST,
        port=port,
        sender="gate@example.org",
        to=("ops@example.org",),
        tls=tls,
        **known,  # type: ignore[arg-type]
    )


def send(settings: MailSettings) -> None:
    asyncio.run(send_mail(settings, NOTICE, 1764365000.0))


@pytest.mark.parametrize("tls", ["starttls", "tls", "none"])
def test_mail_is_taken_by_each_way_to_keep_it_secret(tmp_path: pathlib.Path, tls: MailTls) -> None:
    mailbox = Mailbox(tmp_path, tls=tls)
    send(settings_of(tmp_path, mailbox.port, tls))
    mail = mailbox.mails.get(timeout=60)
    mailbox.close()
    assert mail["Subject"] == "[gate1] warning: visit: h\u00f4te.example"
    assert mail["Message-ID"] == "<a-1-1.1.gate1@example.org>"
    assert "somebody was here" in mail.get_content()
    assert mailbox.logins == ([] if tls == "none" else [b"gate"])


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_server_that_nobody_vouches_for_gets_no_password(
    tmp_path: pathlib.Path, tls: MailTls
) -> None:
    mailbox = Mailbox(tmp_path, tls=tls)
    with pytest.raises(ActionFailed, match="its certificate is not believed"):
        send(settings_of(tmp_path, mailbox.port, tls, ca=""))
    mailbox.close()
    assert mailbox.logins == []


def test_server_without_starttls_gets_no_password(tmp_path: pathlib.Path) -> None:
    mailbox = Mailbox(tmp_path, tls="none")
    with pytest.raises(ActionFailed, match="offers no STARTTLS"):
        send(settings_of(tmp_path, mailbox.port, "starttls", ca=""))
    mailbox.close()
    assert mailbox.logins == []


def test_wrong_password_is_tried_again_and_is_not_quoted(tmp_path: pathlib.Path) -> None:
    mailbox = Mailbox(tmp_path)
    with pytest.raises(ActionFailed) as failed:
        send(settings_of(tmp_path, mailbox.port, "starttls", password="wrong-secret"))
    mailbox.close()
    assert "it answers 535" in failed.value.cause
    assert "wrong-secret" not in failed.value.cause
    assert not failed.value.is_final


def test_password_that_others_may_read_is_not_used(tmp_path: pathlib.Path) -> None:
    settings = settings_of(tmp_path, 9, "starttls")
    (tmp_path / "password").chmod(0o644)
    with pytest.raises(ActionFailed, match="password"):
        send(settings)


@pytest.fixture
def slow_server() -> Iterator[socket.socket]:
    """A server that sends a greeting without an end, a byte now and then."""
    listening = socket.create_server((HOST, 0))
    over = threading.Event()

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            while not over.wait(0.1):
                try:
                    client.sendall(b"2")
                except OSError:
                    return

    serving = threading.Thread(target=serve)
    serving.start()
    yield listening
    over.set()
    serving.join()
    listening.close()


def test_server_that_never_ends_its_greeting_is_left_in_time(
    tmp_path: pathlib.Path, slow_server: socket.socket
) -> None:
    port = slow_server.getsockname()[1]
    with pytest.raises(ActionFailed, match="not sent within 1 s"):
        send(settings_of(tmp_path, port, "none", timeout_s=1.0))


def lingering_server(folder: pathlib.Path, over: threading.Event) -> tuple[int, threading.Thread]:
    """Return the port of a server that takes long for its TLS, and never ends its next answer."""
    context = server_context(folder)
    listening = socket.create_server((HOST, 0))

    def serve() -> None:
        with listening:
            client, _ = listening.accept()
        with client, contextlib.suppress(OSError):  # a slow client has left before
            over.wait(0.6)
            client.sendall(b"220 slow\r\n")
            client.recv(4096)
            client.sendall(b"250-slow\r\n250 STARTTLS\r\n")
            client.recv(4096)
            client.sendall(b"220 go on\r\n")
            client.recv(1, socket.MSG_PEEK)
            over.wait(0.7)
            with context.wrap_socket(client, True) as secured:
                while not over.wait(0.1):
                    secured.sendall(b"2")

    serving = threading.Thread(target=serve)
    serving.start()
    return listening.getsockname()[1], serving


def test_server_that_is_left_during_its_handshake_cannot_go_on_afterwards(
    tmp_path: pathlib.Path,
) -> None:
    over = threading.Event()
    port, serving = lingering_server(tmp_path, over)
    a_while = threading.Timer(60.0, over.set)
    a_while.start()
    with pytest.raises(ActionFailed, match="not sent within 1 s"):
        send(settings_of(tmp_path, port, "starttls", timeout_s=1.0))
    serving.join()
    a_while.cancel()
    assert not over.is_set()


def test_dialogue_that_is_ended_from_outside_keeps_its_tls(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the thread that is in the middle of it could send its password without."""
    dropped: list[object] = []
    monkeypatch.setattr(ssl.SSLSocket, "shutdown", lambda one, _how: dropped.append(one))
    test_server_that_is_left_during_its_handshake_cannot_go_on_afterwards(tmp_path)
    assert not dropped


def test_server_that_is_not_there_is_said(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ActionFailed, match="ConnectionRefusedError"):
        send(settings_of(tmp_path, free_port(HOST), "none"))
