"""The SMTP keyword filter between smtplib or swaks and aiosmtpd or OpenSMTPD."""

from __future__ import annotations

import email.message
import pathlib
import smtplib
import subprocess
from collections.abc import Iterator

import pytest

from tests.flows.ftp_kit import Conversation
from tests.real.sample_parts import (
    MAIL_SERVERS,
    MailServer,
    OpenGate,
    SampleGate,
    sample_gates,
    tool,
)

pytestmark = pytest.mark.either_driver

SETTINGS = 'keywords = ["lottery", "wire transfer"]\nmessage_bytes_max = 100_000'


@pytest.fixture(params=sorted(MAIL_SERVERS))
def server(request: pytest.FixtureRequest, base: pathlib.Path) -> Iterator[MailServer]:
    with MAIL_SERVERS[request.param](base) as running:
        yield running


@pytest.fixture
def gate(server: MailServer, base: pathlib.Path) -> Iterator[SampleGate]:
    (base / "gate").mkdir()
    open_gate: OpenGate
    with sample_gates(base / "gate") as open_gate:
        yield open_gate("smtp_subject.py:SmtpSubject", server.port, SETTINGS)


def mail_of(subject: str, text: str) -> email.message.EmailMessage:
    mail = email.message.EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = subject, "a@example.org", "nobody@localhost"
    mail.set_content(text)
    return mail


def subjects(mails: list[bytes]) -> list[str]:
    return sorted(str(email.message_from_bytes(mail)["Subject"]) for mail in mails)


def test_smtplib_sends_two_mails_and_the_guilty_one_is_marked(gate, server):
    with smtplib.SMTP("127.0.0.1", gate.port, timeout=60) as client:
        client.ehlo()
        assert not client.has_extn("starttls")
        assert int(client.esmtp_features.get("size", "100000")) == 100_000
        client.send_message(mail_of("lunch", "at noon\n.\n..and dots\n"))
        client.send_message(mail_of("hello", "You won the LOTTERY\n"))
    mails = server.mails(2)
    assert subjects(mails) == ["[suspicious] hello", "lunch"]
    lunch = next(mail for mail in mails if b"noon" in mail).replace(b"\r\n", b"\n")
    assert b"at noon\n.\n..and dots\n" in lunch
    (connection,), (note,) = gate.ended()
    assert connection["outcome"] == "released"
    assert note["facts"]["keyword"] == "lottery"


def test_smtplib_that_wants_tls_or_sends_too_much_is_refused_and_goes_on(gate, server):
    with smtplib.SMTP("127.0.0.1", gate.port, timeout=60) as client:
        client.ehlo()
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.starttls()
        assert client.docmd("STARTTLS")[0] == 502
        if client.has_extn("size"):
            with pytest.raises(smtplib.SMTPSenderRefused) as refused:
                client.send_message(mail_of("large", "x\n" * 100_000))
            assert refused.value.smtp_code == 552
        client.send_message(mail_of("small", "x"))
    assert subjects(server.mails(1)) == ["small"]


@pytest.mark.parametrize("is_pipelined", [False, True])
def test_swaks_sends_a_mail_that_is_marked(gate, server, is_pipelined):
    ended = subprocess.run(
        [
            *(tool("swaks"), "--server", f"127.0.0.1:{gate.port}", "--timeout", "30"),
            *("--from", "a@example.org", "--to", "nobody@localhost"),
            *("--header", "Subject: urgent wire transfer", "--body", "now"),
            *(("--pipeline",) if is_pipelined else ()),
        ],
        capture_output=True,
        timeout=60,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    assert "STARTTLS" not in ended.stdout
    assert subjects(server.mails(1)) == ["[suspicious] urgent wire transfer"]


@pytest.mark.parametrize("end", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r\n"])
def test_smuggled_mail_reaches_no_server(gate, server, end):
    client = Conversation.connect(gate.port)
    assert client.reply().startswith("220")
    for command in ("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<nobody@localhost>"):
        assert client.ask(command).startswith("250")
    assert client.ask("DATA").startswith("354")
    client.socket.sendall(
        b"Subject: a\r\n\r\nx" + end + b"MAIL FROM:<admin@example.org>\r\n"
        b"RCPT TO:<nobody@localhost>\r\nDATA\r\nSubject: forged\r\n\r\nx\r\n.\r\n"
    )
    assert client.reply() == "554 5.5.0 Closing: a lone CR, a lone LF or a NUL"
    assert client.line() == ""
    client.socket.close()
    with smtplib.SMTP("127.0.0.1", gate.port, timeout=60) as after:
        after.send_message(mail_of("the only one", "x"))
    assert subjects(server.mails(1)) == ["the only one"]
    connections, _ = gate.ended()
    assert [one["outcome"] for one in connections] == ["refused", "released"]
