"""What is told of an alert: text of clients is in no header, no argument, no line of its own."""

from __future__ import annotations

import asyncio
import json
from email.parser import BytesParser
from email.policy import default

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.app.alerts import Notice
from sluicegate.app.alerts.command import run_command
from sluicegate.app.alerts.fault import ActionFailed
from sluicegate.app.alerts.mail import make_message
from sluicegate.app.alerts.webhook import call_webhook, sign
from sluicegate.audit.alerts import Raising
from sluicegate.audit.alerts.action import CommandSettings, MailSettings, WebhookSettings

MAIL = MailSettings(
    host="mail.example.org", port=25, sender="gate@example.org", to=("ops@example.org",)
)
RAISING = Raising(
    raising="a-1-1",
    alert="malware-found",
    state="open",
    severity="error",
    message="malware was found",
    about="10.0.0.1",
    first=1764365000.0,
    last=1764365001.0,
    query="(kind:transfer) client:10.0.0.1",
    facts={"name": "a.zip", "reason": "malware: EICAR"},
)


def notice_of(**more: object) -> Notice:
    return Notice.of(msgspec.structs.replace(RAISING, **more), "raised")


def test_text_says_what_happened_and_what_to_type() -> None:
    text = notice_of().to_text()
    assert "malware was found" in text
    assert "reason:      malware: EICAR" in text
    assert "sluicegate alerts ack a-1-1" in text
    assert "sluicegate log '(kind:transfer) client:10.0.0.1'" in text


def test_query_with_an_apostrophe_is_not_offered_to_a_shell() -> None:
    assert "sluicegate log '" not in notice_of(query='host:"a\'b"').to_text()


@given(text=st.text(max_size=300))
def test_no_text_of_a_client_makes_a_header_or_a_line(text: str) -> None:
    notice = notice_of(about=text, message=text, facts={"name": text})
    raw = make_message(MAIL, notice, 1764365001.0).as_bytes()
    found = BytesParser(policy=default).parsebytes(raw)
    assert sorted(found.keys()) == sorted(HEADERS)
    assert found["To"] == "ops@example.org"
    lines = notice.to_text().splitlines()
    assert lines[-1] == "sluicegate alerts ack a-1-1"
    assert all(one.isprintable() for line in lines for one in line)
    assert json.loads(notice.to_json())["about"] == text
    assert all(
        "\n" not in value and "\0" not in value for value in notice.to_environment().values()
    )


HEADERS = (
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Sluicegate-Alert",
    "X-Sluicegate-Severity", "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
)  # fmt: skip


def test_another_attempt_has_the_same_identifier_and_another_raising_has_not() -> None:
    first, again = notice_of(), notice_of()
    assert (
        make_message(MAIL, first, 1.0)["Message-ID"] == make_message(MAIL, again, 9.0)["Message-ID"]
    )
    later = make_message(MAIL, notice_of(times=2), 1.0)["Message-ID"]
    assert later != make_message(MAIL, first, 1.0)["Message-ID"]


def test_signature_is_an_hmac_over_time_and_body() -> None:
    # printf '1.{}' | openssl dgst -sha256 -hmac key
    expected = "1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224"
    assert sign("key", 1, b"{}") == f"t=1,v1={expected}"
    assert sign("key", 1, b"{}") != sign("key", 2, b"{}") != sign("other", 2, b"{}")


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("exit 3", "ended with status 3"),
        ("echo 'no modem' >&2; exit 1", "ended with status 1: no modem"),
        ("printf '\\033[31mred' >&2; exit 1", "ended with status 1: ?[31mred"),
        ("kill -9 $$", "ended with signal 9"),
    ],
)
def test_program_that_fails_says_why(script: str, cause: str) -> None:
    settings = CommandSettings(run=("/bin/sh", "-c", script))
    with pytest.raises(ActionFailed) as failed:
        asyncio.run(run_command(settings, notice_of()))
    assert cause in failed.value.cause


def test_program_that_is_not_there_says_so() -> None:
    with pytest.raises(ActionFailed, match="cannot be started: No such file"):
        asyncio.run(run_command(CommandSettings(run=("/nonexistent/page",)), notice_of()))


def test_program_need_not_read_what_it_is_told() -> None:
    big = notice_of(facts={"name": "x" * 500_000})
    assert len(big.to_json()) > 500_000
    asyncio.run(run_command(CommandSettings(run=("/bin/true",)), big))


def test_webhook_with_a_key_that_others_may_read_is_not_called(tmp_path: object) -> None:
    settings = WebhookSettings(url="https://127.0.0.1:9/", key_file=f"{tmp_path}/none")
    with pytest.raises(ActionFailed, match="cannot be read"):
        asyncio.run(call_webhook(settings, notice_of(), 1.0))
