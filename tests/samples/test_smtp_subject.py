"""The SMTP keyword filter: mails, dialogues in pieces, smuggling, and whole connections."""

from __future__ import annotations

import base64
import email
import email.message
import email.policy
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.filters.smtp_subject import (
    SmtpSubject,
    SmtpSubjectSettings,
    SmtpTalk,
    find_keyword,
    mark_subject,
)
from sluicegate.errors import ProtocolError
from sluicegate.testing import FaultPlan
from tests.flows.gate_kit import Gate, play
from tests.samples.sample_kit import SEEDS, cut_up, notes, plan_with

KEYWORDS = ("lottery", "wire transfer", "Gewinnspielgebühr")

# -- a mail ----------------------------------------------------------------------------------------


def mail_of(subject: str = "hello", text: str = "nothing", **headers: str) -> bytes:
    mail = email.message.EmailMessage(policy=email.policy.SMTP)
    mail["Subject"] = subject
    mail["From"], mail["To"] = "a@example.org", "b@example.org"
    for name, value in headers.items():
        mail[name] = value
    mail.set_content(text)
    return mail.as_bytes()


def html_mail(text: str) -> bytes:
    mail = email.message_from_bytes(mail_of(), policy=email.policy.SMTP)
    mail.add_alternative(f"<p>{text}</p>", subtype="html", cte="base64")
    return mail.as_bytes()


@pytest.mark.parametrize(
    ("mail", "keyword"),
    [
        (mail_of(), None),
        (mail_of(subject="The LOTTERY"), "lottery"),
        (mail_of(text="do a wire\ntransfer now"), "wire transfer"),
        (mail_of(subject="Gewinnspielgebühr fällig"), "Gewinnspielgebühr"),
        (mail_of(text="gewinnspielgebühr " * 9), "Gewinnspielgebühr"),
        (html_mail("a lottery"), "lottery"),
        (mail_of(Reply_To="lottery@example.org"), "lottery"),
        (b"Subject: Gewinnspielgeb\xc3\xbchr, raw\r\n\r\n", "Gewinnspielgebühr"),
        ("Subject: grüße\r\n\r\nnichts\r\n".encode(), None),
        (b"no header at all: lottery\r\n", "lottery"),
        (b"", None),
    ],
)
def test_keyword_is_found_in_headers_and_text_however_coded(mail, keyword):
    assert find_keyword(mail, KEYWORDS) == keyword


@pytest.mark.parametrize(
    "mail",
    [
        b"Content-Type: text/plain; charset=nobody-knows\r\n\r\nx\r\n",
        b"Subject: =?utf-8?b?A?=\r\n\r\n",
        b"Content-Type: text/plain" + b";\r\n a=b" * 100_000 + b"\r\n\r\nx\r\n",
        b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
            for n in range(3000)
        ),
    ],
)
def test_mail_that_cannot_be_read_counts_as_found(mail):
    assert (find_keyword(mail, KEYWORDS) or "").startswith("unreadable: ")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"From: a\r\nSubject: hi\r\n\r\nx\r\n", b"From: a\r\nSubject: [!] hi\r\n\r\nx\r\n"),
        (b"sUbJeCt :hi\r\n\r\n", b"Subject: [!] hi\r\n\r\n"),
        (b"Subject: a\r\n b\r\nTo: c\r\n\r\n", b"Subject: [!] a\r\n b\r\nTo: c\r\n\r\n"),
        (b"Subject: a\r\nSubject: b\r\n\r\n", b"Subject: [!] a\r\nSubject: [!] b\r\n\r\n"),
        (b"From: a\r\n\r\nSubject: b\r\n", b"Subject: [!]\r\nFrom: a\r\n\r\nSubject: b\r\n"),
        (b"\r\nSubject: b\r\n", b"Subject: [!]\r\n\r\nSubject: b\r\n"),
        (b"just text\r\n", b"Subject: [!]\r\n\r\njust text\r\n"),
        (b"", b"Subject: [!]\r\n\r\n"),
        (b"Subject:\r\n\r\n", b"Subject: [!] \r\n\r\n"),
        (
            b"Subject: " + b"x" * 985 + b"\r\n\r\n",
            b"Subject: [!]\r\n " + b"x" * 985 + b"\r\n\r\n",
        ),
    ],
)
def test_subject_is_marked_and_nothing_else_is_touched(before, after):
    assert mark_subject(before, b"[!]") == after


@given(st.lists(st.sampled_from([b"Subject: a", b" ", b"To: b", b"..", b"x", b"", b":"])))
def test_marked_mail_has_a_marked_subject_and_the_same_body(lines):
    mail = b"".join(line + b"\r\n" for line in lines)
    marked = mark_subject(mail, b"[!]")
    assert email.message_from_bytes(marked)["Subject"].startswith("[!]")
    assert marked.endswith(mail.partition(b"\r\n\r\n")[2])


# -- the dialogue ----------------------------------------------------------------------------------


class Origin:
    """A server that answers every command, and keeps what it took for mails.

    ``is_lenient``: it takes a lone LF for the end of a line, as the victims of smuggling do.
    """

    EHLO = (
        b"250-mail.example\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-STARTTLS\r\n"
        b"250-CHUNKING\r\n250-XCLIENT NAME\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n"
    )
    ANSWERS: Mapping[bytes, bytes] = {
        b"EHLO": EHLO,
        b"DATA": b"354 go on\r\n",
        b"QUIT": b"221 bye\r\n",
        b"AUTH": b"334 VXNlcm5hbWU6\r\n",
        b"RCPT": b"250-2.1.5\r\n250 ok\r\n",
        b"VRFY": b"252 maybe\r\n",
    }

    def __init__(self, *, is_lenient: bool = False) -> None:
        self.mails: list[bytes] = []
        self.commands: list[bytes] = []
        self._is_lenient = is_lenient
        self._buffer = b""
        self._text: bytes | None = None
        self._credentials = False

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        answers = b""
        while (end := self._buffer.find(b"\n" if self._is_lenient else b"\r\n")) >= 0:
            end += 1 if self._is_lenient else 2
            line, self._buffer = self._buffer[:end], self._buffer[end:]
            answers += self._on_line(line)
        return answers

    def _on_line(self, line: bytes) -> bytes:
        if self._text is not None:
            if line.rstrip(b"\r\n") != b".":
                self._text += line
                return b""
            self.mails.append(self._text)
            self._text = None
            return b"250 queued\r\n"
        if self._credentials:
            self._credentials = False
            return b"235 welcome\r\n"
        self.commands.append(line.strip())
        verb = line[:4].upper()
        self._text = b"" if verb == b"DATA" else None
        self._credentials = verb == b"AUTH"
        return self.ANSWERS.get(verb, b"250 ok\r\n")


def converse(pieces, origin: Origin | None = None, reply_size: int = 1 << 20, size: int = 5000):
    """Feed a client's pieces; return what it was told, the server, and what broke it off."""
    origin = origin or Origin()
    talk = SmtpTalk(size)
    told = b""

    def settle() -> None:
        nonlocal told
        while talk.to_server or talk.mail is not None:
            if talk.mail is not None:
                talk.release(talk.mail)
            data = bytes(talk.to_server)
            talk.to_server.clear()
            hear(origin.feed(data))

    def hear(answers: bytes) -> None:
        for place in range(0, len(answers), reply_size):
            talk.feed_server(answers[place : place + reply_size])

    broken = ""
    try:
        hear(b"220 mail.example\r\n")
        for piece in pieces:
            talk.feed_client(piece)
            settle()
    except ProtocolError as error:
        broken = f"{error.side}: {error.hint}"
    return bytes(talk.to_client), origin, broken


HELLO = b"EHLO client\r\n"
ENVELOPE = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"


def test_mail_passes_byte_for_byte_with_its_dots():
    mail = b"Subject: a\r\n\r\n..\r\n...x\r\n.x\r\nend\r\n"
    told, origin, broken = converse([HELLO, ENVELOPE, mail + b".\r\nQUIT\r\n"])
    assert (origin.mails, broken) == ([mail], "")
    assert told.endswith(b"354 go on\r\n250 queued\r\n221 bye\r\n")


def test_two_mails_and_a_pipelined_group_are_two_mails():
    stream = HELLO + (ENVELOPE + b"Subject: 1\r\n\r\n.\r\n" + ENVELOPE + b"2\r\n.\r\n")
    _, origin, broken = converse([stream])
    assert (origin.mails, broken) == ([b"Subject: 1\r\n\r\n", b"2\r\n"], "")


def test_only_one_command_is_under_way_at_a_time():
    talk = SmtpTalk(5000)
    talk.feed_client(HELLO + ENVELOPE)
    assert talk.to_server == b""
    assert talk.is_behind
    talk.feed_server(b"220 mail.example\r\n")
    assert talk.to_server == HELLO


def test_offer_has_no_tls_no_chunks_nothing_unknown_and_the_size_that_is_held():
    told, _, _ = converse([HELLO])
    assert told == (
        b"220 mail.example\r\n250-mail.example\r\n250-PIPELINING\r\n250-SIZE 5000\r\n"
        b"250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n"
    )


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"STARTTLS", b"502 "),
        (b"starttls", b"502 "),
        (b"XCLIENT NAME=x", b"502 "),
        (b" MAIL FROM:<a@b>", b"502 "),
        (b"", b"502 "),
        (b"AUTH GSSAPI", b"504 "),
        (b"AUTH PLAIN-X", b"504 "),
        (b"MAIL FROM:<a@b> SIZE=5001", b"552 "),
        (b"MAIL FROM:<a@b> size=99999999999999999999", b"552 "),
    ],
)
def test_gate_itself_refuses_what_the_server_must_not_get(command, answer):
    told, origin, broken = converse([HELLO + command + b"\r\nNOOP\r\n"])
    assert told.splitlines()[-2].startswith(answer)
    assert (origin.commands, broken) == ([b"EHLO client", b"NOOP"], "")


def test_credentials_are_no_commands():
    stream = HELLO + b"AUTH LOGIN\r\nSTARTTLS\r\nNOOP\r\n"
    told, origin, broken = converse([stream])
    assert told.endswith(b"334 VXNlcm5hbWU6\r\n235 welcome\r\n250 ok\r\n")
    assert (origin.commands, broken) == ([b"EHLO client", b"AUTH LOGIN", b"NOOP"], "")


def test_tls_hello_behind_starttls_reaches_no_server():
    stream = HELLO + b"STARTTLS\r\n\x16\x03\x01\x00\x05\x00\r\nMAIL FROM:<a@b>\r\n"
    _, origin, broken = converse([stream])
    assert broken == "client: a lone CR, a lone LF or a NUL"
    assert origin.commands == [b"EHLO client"]


SECOND = b"MAIL FROM:<admin@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: forged\r\n\r\n.\r\n"
SMUGGLED_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
]


@pytest.mark.parametrize("end", SMUGGLED_ENDS)
@pytest.mark.parametrize("is_lenient", [False, True])
def test_end_of_mail_that_only_some_servers_see_smuggles_nothing(end, is_lenient):
    stream = HELLO + ENVELOPE + b"Subject: a\r\n\r\ntext" + end + SECOND + b"\r\n.\r\n"
    _, origin, broken = converse([stream], Origin(is_lenient=is_lenient))
    assert broken == "client: a lone CR, a lone LF or a NUL"
    assert origin.mails == []
    assert [one[:4] for one in origin.commands] == [b"EHLO", b"MAIL", b"RCPT", b"DATA"]


@pytest.mark.parametrize("command", [b"NOOP\n", b"NOOP\r", b"NO\rOP\r\n", b"NO\0OP\r\n"])
def test_command_with_an_unclear_end_ends_the_connection(command):
    _, origin, broken = converse([HELLO + command + b"RSET\r\n"])
    assert broken == "client: a lone CR, a lone LF or a NUL"
    assert origin.commands == [b"EHLO client"]


def test_bdat_ends_the_connection_before_its_data_could_be_commands():
    _, origin, broken = converse([HELLO + b"BDAT 24 LAST\r\nMAIL FROM:<forged@b>\r\n"])
    assert broken == "client: BDAT was not offered"
    assert origin.commands == [b"EHLO client"]


@pytest.mark.parametrize(
    ("stream", "hint"),
    [
        (b"NOOP " + b"x" * 12300, "a line is longer than 12288 bytes"),
        (ENVELOPE + b"x" * 1001, "a line is longer than 999 bytes"),
        (ENVELOPE + b"x\r\n" * 2000, "a mail above 5000 bytes"),
        (b"\r\n" * 21, "too many commands that are not supported"),
    ],
)
def test_limits_end_the_connection(stream, hint):
    _, origin, broken = converse([HELLO + stream])
    assert broken == f"client: {hint}"
    assert origin.mails == []


def test_longest_line_passes():
    mail = b"." + b"." + b"x" * 997 + b"\r\n"
    assert converse([HELLO + ENVELOPE + mail + b".\r\n"])[1].mails == [mail]


@pytest.mark.parametrize(
    ("replies", "hint"),
    [
        (b"220 hi\r\n250 surprise\r\n", "reply 250 to nothing"),
        (b"354 go on\r\n", "reply 354 out of place"),
        (b"220 hi\n", "a lone CR, a lone LF or a NUL"),
        (b"SSH-2.0\r\n", "not a reply of SMTP"),
        (b"220-a\r\n250 b\r\n", "not a reply of SMTP"),
        (b"220-a\r\n" * 101, "a reply of more than 100 lines"),
        (b"2" * 3000, "a line is longer than 2048 bytes"),
    ],
)
def test_server_that_breaks_the_protocol_ends_the_connection(replies, hint):
    with pytest.raises(ProtocolError) as caught:
        SmtpTalk(5000).feed_server(replies)
    assert (caught.value.hint, caught.value.side) == (hint, "server")


def test_data_that_is_refused_leaves_what_follows_commands():
    talk = SmtpTalk(5000)
    talk.feed_server(b"220 hi\r\n")
    talk.feed_client(b"DATA\r\nNOOP\r\n")
    talk.to_server.clear()
    talk.feed_server(b"452 later\r\n")
    assert talk.to_server == b"NOOP\r\n"


def test_server_may_say_at_any_time_that_it_closes():
    talk = SmtpTalk(5000)
    talk.feed_server(b"220 hi\r\n421 too late\r\n")
    assert talk.to_client == b"220 hi\r\n421 too late\r\n"


streams = st.lists(
    st.one_of(
        st.sampled_from([HELLO, ENVELOPE, b".\r\n", b"..\r\n", b"Subject: a\r\n", b"QUIT\r\n"]),
        st.sampled_from(
            [b"AUTH LOGIN\r\n", b"BDAT 3\r\n", b"RSET\r\n", b"x" * 990, *SMUGGLED_ENDS]
        ),
        st.binary(max_size=8),
    ),
    max_size=12,
).map(b"".join)


@given(st.data(), streams, st.sampled_from([1, 3, 1 << 20]))
def test_every_cut_gives_the_same_dialogue(data, stream, reply_size):
    told, origin, broken = converse([stream])
    cut_told, cut_origin, cut_broken = converse(data.draw(cut_up(stream)), None, reply_size)
    assert (cut_told, cut_broken) == (told, broken)
    assert (cut_origin.commands, cut_origin.mails) == (origin.commands, origin.mails)


@given(streams)
def test_strict_and_lenient_servers_understand_the_same(stream):
    strict, lenient = converse([stream])[1], converse([stream], Origin(is_lenient=True))[1]
    assert (strict.commands, strict.mails) == (lenient.commands, lenient.mails)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_protocol_errors(client, server):
    talk = SmtpTalk(5000)
    try:
        talk.feed_server(b"220 hi\r\n")
        talk.feed_client(client)
        talk.feed_server(server)
    except ProtocolError:
        return
    assert talk.held_bytes <= len(client)


# -- the filter ------------------------------------------------------------------------------------


def subject_filter(**more) -> SmtpSubject:
    return SmtpSubject(
        SmtpSubjectSettings.model_validate({"keywords": KEYWORDS, "mark": "[!]"} | more)
    )


def through_gate(
    client_says: bytes,
    what: SmtpSubject | None = None,
    seed: int | None = None,
    *,
    ends: bool = False,
):
    """Let a client send it all at once; return what it was told, the server, and the gate."""
    origin = Origin()
    told: list[bytes] = []

    async def serve(stream) -> None:
        try:
            await stream.send_all(b"220 mail.example\r\n")
            while data := await stream.receive():
                await stream.send_all(origin.feed(data))
                if b"QUIT" in origin.commands:
                    break
        except OSError:
            origin.commands.append(b"<reset>")
        stream.close()

    async def call(stream) -> bytes:
        got = b""
        try:
            await stream.send_all(client_says)
            if ends:
                stream.end_stream()
            while data := await stream.receive():
                got += data
        except OSError as error:
            got += f"<{error.errno}>".encode()
        stream.close()
        return got

    async def scenario(gate: Gate) -> None:
        gate.serve(serve)
        told.extend(await gate.ended(gate.call(call)))
        await gate.idle()

    faults = FaultPlan() if seed is None else FaultPlan.disorder()
    gate = play(scenario, plan_with(what or subject_filter()), seed=seed or 0, faults=faults)
    return told[0], origin, gate


CLEAN = mail_of(text="quiet\n.\n..dots\n").replace(b"\r\n.", b"\r\n..")
GUILTY = mail_of(subject="hi", text="a wire transfer")


@pytest.mark.parametrize("seed", SEEDS)
def test_guilty_mail_is_marked_and_the_other_is_not(seed):
    stream = HELLO + ENVELOPE + CLEAN + b".\r\n" + ENVELOPE + GUILTY + b".\r\nQUIT\r\n"
    told, origin, gate = through_gate(stream, seed=seed)
    assert origin.mails == [CLEAN, GUILTY.replace(b"Subject: hi", b"Subject: [!] hi")]
    assert told.endswith(b"250 queued\r\n221 bye\r\n")
    assert gate.ends[0].outcome == "released"
    assert notes(gate) == [("subject marked", {"keyword": "wire transfer", "bytes": len(GUILTY)})]


@pytest.mark.parametrize("seed", SEEDS)
def test_smuggler_is_told_and_reset_and_the_server_takes_no_mail(seed):
    stream = HELLO + ENVELOPE + b"a\r\n\n.\n" + SECOND
    told, origin, gate = through_gate(stream, seed=seed)
    assert origin.mails == []
    assert gate.ends[0].outcome == "refused"
    assert gate.ends[0].reason.startswith("SMTP: a lone CR, a lone LF or a NUL")
    assert b"354 go on\r\n" not in told or b"554 5.5.0 Closing" in told or told.endswith(b"<104>")


@pytest.mark.parametrize("seed", SEEDS)
def test_client_that_says_all_at_once_and_ends_its_stream_is_served_to_the_end(seed):
    stream = HELLO + (ENVELOPE + GUILTY + b".\r\n") * 3
    told, origin, gate = through_gate(stream, seed=seed, ends=True)
    assert [mail.count(b"Subject: [!] hi") for mail in origin.mails] == [1, 1, 1]
    assert told.count(b"250 queued\r\n") == 3
    assert (gate.ends[0].outcome, gate.failures) == ("released", [])


@pytest.mark.parametrize("seed", [1, 76])
def test_client_that_ends_while_its_mail_is_judged_is_served(seed):
    stream = HELLO + ENVELOPE + GUILTY + b".\r\n"
    _, origin, gate = through_gate(stream, seed=seed, ends=True)
    assert len(origin.mails) == 1
    assert (gate.ends[0].outcome, gate.failures) == ("released", [])


def test_large_mail_of_eight_bit_text_passes_whole():
    mail = b"Subject: x\r\n\r\n" + "größer und größer\r\n".encode() * 20_000
    _, origin, _ = through_gate(HELLO + ENVELOPE + mail + b".\r\nQUIT\r\n")
    assert origin.mails == [mail]


def test_keyword_in_base64_is_found():
    body = base64.encodebytes(b"the lottery").replace(b"\n", b"\r\n")
    mail = b"Content-Transfer-Encoding: base64\r\nSubject: x\r\n\r\n" + body
    _, origin, _ = through_gate(HELLO + ENVELOPE + mail + b".\r\nQUIT\r\n")
    assert b"\r\nSubject: [!] x\r\n" in origin.mails[0]


def test_client_above_what_all_may_hold_is_told_to_come_back():
    what = subject_filter(held_bytes_max=1000)
    told, origin, gate = through_gate(HELLO + ENVELOPE + b"x\r\n" * 1000 + b".\r\n", what)
    assert origin.mails == []
    assert b"421 4.3.0 Closing: too much mail" in told
    assert gate.ends[0].outcome == "refused"
    assert what.held_bytes == 0


def test_client_that_goes_in_the_middle_of_a_mail_sends_none():
    async def scenario(gate: Gate) -> None:
        async def goes(stream) -> None:
            await stream.send_all(HELLO + ENVELOPE + b"Subject: a\r\n")
            await stream.receive_until(b"354 go on\r\n")
            stream.close()

        origins: list[Origin] = []

        async def serve(stream) -> None:
            origins.append(Origin())
            await stream.send_all(b"220 hi\r\n")
            while data := await stream.receive():
                await stream.send_all(origins[0].feed(data))
            stream.close()

        gate.serve(serve)
        await gate.ended(gate.call(goes))
        await gate.idle()
        assert origins[0].mails == []

    what = subject_filter()
    play(scenario, plan_with(what))
    assert what.held_bytes == 0


def test_server_that_breaks_the_protocol_is_recorded_as_its_failure():
    async def scenario(gate: Gate) -> None:
        async def serve(stream) -> None:
            await stream.send_all(b"SSH-2.0-x\r\n")
            await stream.receive()

        async def call(stream) -> bytes:
            return await stream.receive()

        gate.serve(serve)
        (told,) = await gate.ended(gate.call(call))
        assert told == b"421 4.3.0 Closing: not a reply of SMTP\r\n"
        await gate.idle()

    gate = play(scenario, plan_with(subject_filter()))
    assert (gate.ends[0].outcome, gate.ends[0].side) == ("failed", "server")
