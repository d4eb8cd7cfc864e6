"""FTP dialogues as conversations: who gets which line, when, and what the filter is told."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import BadContext, ProtocolError, Side
from sluicegate.protocol_limits import FTP_PIPELINE_COMMANDS_MAX, FTP_PRELIMINARY_REPLIES_MAX
from sluicegate.protocols.ftp import (
    FtpCommandParser,
    FtpReplyParser,
    encode_command,
    encode_reply,
)
from sluicegate.protocols.ftp_dialogue import FtpDialogue
from sluicegate.protocols.ftp_exchange import (
    FtpAnswered,
    FtpExchange,
    FtpTransfer,
    FtpTransferState,
)
from sluicegate.protocols.ftp_verbs import FtpDirection, FtpRole, FtpRules

PARTS = FtpRules(allows_restart=True, allows_append=True)


class Conversation:
    """A filter that passes everything on, but holds the final replies of transfers if asked."""

    def __init__(self, rules: FtpRules | None = None, *, holds: bool = False, greeted: bool = True):
        self.dialogue = FtpDialogue(rules)
        self.commands = FtpCommandParser()
        self.replies = FtpReplyParser()
        self.holds = holds
        self.exchanges: list[FtpExchange] = []
        self.held: list[FtpAnswered] = []
        if greeted:
            self.server("220 ready")
            self.to_client()

    def client(self, *lines: str) -> list[FtpExchange]:
        self.commands.receive_data("".join(f"{line}\r\n" for line in lines).encode())
        new = []
        for command in iter(self.commands.next_event, None):
            exchange = self.dialogue.receive_command(command)
            if exchange.refusal is not None:
                self.dialogue.answer(exchange, exchange.refusal.to_bytes())
            else:
                self.dialogue.forward(exchange)
            new.append(exchange)
        self.exchanges += new
        return new

    def server(self, *lines: str) -> list[FtpAnswered]:
        self.replies.receive_data("".join(f"{line}\r\n" for line in lines).encode())
        new = []
        for reply in iter(self.replies.next_event, None):
            answered = self.dialogue.receive_reply(reply)
            if self.holds and answered.exchange.transfer and answered.is_final:
                self.held.append(answered)
            elif answered.is_for_client:
                self.answer(answered)
            new.append(answered)
        return new

    def answer(self, answered: FtpAnswered) -> None:
        line = answered.reply.to_bytes()
        self.dialogue.answer(answered.exchange, line, is_final=answered.is_final)

    def to_server(self) -> list[str]:
        return self.dialogue.bytes_for_server().decode().splitlines()

    def to_client(self) -> list[str]:
        return self.dialogue.bytes_for_client().decode().splitlines()

    def transfer(self, *lines: str) -> FtpTransfer:
        transfer = self.client(*lines)[-1].transfer
        assert transfer is not None
        return transfer


# Order.


def test_nothing_reaches_the_server_before_its_greeting() -> None:
    talk = Conversation(greeted=False)

    talk.client("USER a", "NOOP")
    assert talk.to_server() == []
    talk.server("120 in a minute")
    assert talk.to_server() == []
    talk.server("220 ready")

    assert talk.to_server() == ["USER a", "NOOP"]
    assert talk.to_client() == ["120 in a minute", "220 ready"]


def test_pipelined_commands_are_matched_in_order() -> None:
    talk = Conversation()
    talk.client("USER a", "PASS b", "PWD")

    answered = talk.server("331 more", "230 in", '257 "/"')

    assert [one.exchange.command.verb for one in answered] == ["USER", "PASS", "PWD"]
    assert talk.to_client() == ["331 more", "230 in", '257 "/"']


def test_reply_of_the_gate_waits_for_earlier_replies() -> None:
    talk = Conversation()

    talk.client("NOOP", "AUTH TLS", "PWD")
    assert talk.to_server() == ["NOOP", "PWD"]
    assert talk.to_client() == []
    talk.server("200 ok")

    assert talk.to_client() == ["200 ok", "534 TLS is not available: this connection is inspected"]


def test_held_reply_holds_back_later_ones_and_may_become_a_refusal() -> None:
    talk = Conversation(holds=True)
    talk.client("RETR a.exe")
    talk.server("150 here", "226 done")
    assert talk.to_client() == ["150 here"]

    talk.client("AUTH TLS")
    assert talk.to_client() == []
    talk.dialogue.answer(talk.held[0].exchange, encode_reply(550, "executable"))

    assert [line[:3] for line in talk.to_client()] == ["550", "534"]


def test_commands_wait_while_a_transfer_runs_and_while_it_is_held() -> None:
    talk = Conversation(holds=True)
    talk.client("RETR a", "PWD")
    assert talk.to_server() == ["RETR a"]

    talk.server("150 here", "226 done")
    assert talk.to_server() == []
    talk.answer(talk.held[0])

    assert talk.to_server() == ["PWD"]


def test_rewritten_line_replaces_the_command() -> None:
    talk = Conversation()
    [exchange] = [talk.dialogue.receive_command(c) for c in commands("PORT 192,0,2,1,4,1")]

    talk.dialogue.forward(exchange, encode_command("PORT", b"198,51,100,1,8,1"))

    assert talk.to_server() == ["PORT 198,51,100,1,8,1"]
    assert str(exchange.announced) == "192.0.2.1:1025"


def test_own_command_passes_while_a_transfer_is_held_and_is_never_shown() -> None:
    talk = Conversation(holds=True)
    talk.client("RETR a", "PWD")
    talk.server("150 here")
    assert not talk.dialogue.is_server_idle
    talk.server("226 done")
    assert talk.dialogue.is_server_idle
    talk.to_server(), talk.to_client()

    talk.dialogue.own_command("NOOP")
    assert talk.to_server() == ["NOOP"]
    [answered] = talk.server("200 ok")

    assert not answered.is_for_client
    assert talk.to_client() == []


def test_own_command_waits_for_a_transfer_that_runs() -> None:
    talk = Conversation()
    talk.client("RETR a")
    talk.to_server()

    talk.dialogue.own_command("NOOP")

    assert talk.to_server() == []
    talk.server("226 done")
    assert talk.to_server() == ["NOOP"]


def test_final_reply_of_the_gate_hides_the_servers_later_one() -> None:
    talk = Conversation()
    [exchange] = talk.client("STOR a.exe")
    talk.server("150 send")
    talk.dialogue.answer(exchange, encode_reply(550, "executable"))

    [answered] = talk.server("426 connection lost")

    assert not answered.is_for_client
    assert talk.to_client() == ["150 send", "550 executable"]


def test_delayed_upload_keeps_the_order_of_both_sides() -> None:
    talk = Conversation()
    [store] = [talk.dialogue.receive_command(c) for c in commands("STOR a")]
    talk.dialogue.answer(store, encode_reply(150, "send"), is_final=False)
    talk.client("PWD")
    assert talk.to_server() == []
    assert talk.to_client() == ["150 send"]

    talk.dialogue.forward(store)
    assert talk.to_server() == ["STOR a"]
    talk.server("226 stored")

    assert talk.to_server() == ["PWD"]
    assert talk.to_client() == ["226 stored"]


# Transfers.


def test_download_is_told_with_all_that_is_known() -> None:
    talk = Conversation(PARTS)
    talk.client("USER bob", "PASS x", "TYPE I", "PASV", "REST 100")
    talk.server("331 x", "230 x", "200 x", "227 x (192,0,2,9,4,1)", "350 x")

    transfer = talk.transfer("RETR dir/a b")

    assert (transfer.verb, transfer.direction) == ("RETR", FtpDirection.DOWNLOAD)
    assert (transfer.path, transfer.user) == (b"dir/a b", "bob")
    assert (transfer.is_ascii, transfer.restart_offset, transfer.is_partial) == (False, 100, True)
    assert transfer.announcement is talk.exchanges[3]
    assert str(talk.exchanges[3].announced) == "192.0.2.9:1025"


@pytest.mark.parametrize(
    ("line", "direction", "is_partial"),
    [
        ("RETR a", FtpDirection.DOWNLOAD, False),
        ("STOR a", FtpDirection.UPLOAD, False),
        ("STOU", FtpDirection.UPLOAD, False),
        ("APPE a", FtpDirection.UPLOAD, True),
        ("LIST -la", FtpDirection.LISTING, False),
        ("NLST", FtpDirection.LISTING, False),
        ("MLSD /", FtpDirection.LISTING, False),
    ],
)
def test_transfer_has_a_direction(line: str, direction: FtpDirection, is_partial: bool) -> None:
    transfer = Conversation(PARTS).transfer(line)

    assert (transfer.direction, transfer.is_partial) == (direction, is_partial)
    assert (transfer.is_ascii, transfer.user, transfer.announcement) == (True, None, None)


@pytest.mark.parametrize(
    ("replies", "states"),
    [
        (["150 x", "226 x"], [FtpTransferState.STARTED, FtpTransferState.COMPLETED]),
        (["125 x", "250 x"], [FtpTransferState.STARTED, FtpTransferState.COMPLETED]),
        (["226 x"], [FtpTransferState.COMPLETED]),
        (["550 x"], [FtpTransferState.FAILED]),
        (["332 x"], [FtpTransferState.FAILED]),
        (
            ["150 x", "110 MARK a=b", "451 x"],
            [FtpTransferState.STARTED] * 2 + [FtpTransferState.FAILED],
        ),
        (["150 x", "421 x"], [FtpTransferState.STARTED, FtpTransferState.FAILED]),
    ],
)
def test_replies_move_a_transfer_on(replies: list[str], states: list[FtpTransferState]) -> None:
    talk = Conversation()
    transfer = talk.transfer("RETR a")
    seen = []

    for reply in replies:
        talk.server(reply)
        seen.append(transfer.state)

    assert seen == states
    assert talk.to_client() == replies


def test_extended_passive_mode_announces_a_port() -> None:
    talk = Conversation()
    [exchange] = talk.client("EPSV")

    talk.server("229 x (|||2048|)")

    assert (exchange.announced, exchange.announced_port) == (None, 2048)
    assert talk.transfer("RETR a").announcement is exchange


def test_epsv_all_announces_nothing() -> None:
    talk = Conversation()
    talk.client("EPSV ALL")
    talk.server("200 ok")

    assert talk.transfer("RETR a").announcement is None


def test_announcement_serves_one_transfer() -> None:
    talk = Conversation()
    talk.client("EPRT |1|192.0.2.1|1025|", "RETR a")
    talk.server("200 x", "150 x", "226 x")

    assert talk.transfer("RETR b").announcement is None


def test_refused_announcement_is_none() -> None:
    talk = Conversation()
    talk.client("PORT 192,0,2,1,4,1")
    talk.server("500 no")

    assert talk.transfer("RETR a").announcement is None


def test_refused_type_is_not_in_force() -> None:
    talk = Conversation()
    talk.client("TYPE I", "TYPE A")
    talk.server("200 ok", "504 no")

    assert not talk.transfer("RETR a").is_ascii


# REST.


def test_restart_offset_is_used_up_by_the_transfer_that_started() -> None:
    talk = Conversation(PARTS)
    assert talk.transfer("REST 5", "RETR a").restart_offset == 5
    talk.server("350 x", "150 x", "226 x")

    assert talk.transfer("RETR b").restart_offset == 0


def test_restart_offset_survives_what_failed_and_listings() -> None:
    talk = Conversation(PARTS)
    talk.client("REST 5", "RETR a", "LIST")
    talk.server("350 x", "550 x", "150 x", "226 x")

    assert talk.transfer("RETR b").restart_offset == 5


def test_restart_offset_after_a_pipelined_transfer_is_not_lost_with_it() -> None:
    talk = Conversation(PARTS)
    talk.client("REST 5", "RETR a", "REST 5")
    talk.server("350 x", "150 x", "226 x", "350 x")

    assert talk.transfer("RETR b").restart_offset == 5


def test_refused_restart_leaves_the_one_before() -> None:
    talk = Conversation(PARTS)
    talk.client("REST 5", "REST 0")
    talk.server("350 x", "500 x")

    assert talk.transfer("RETR b").restart_offset == 5


def test_restart_at_zero_withdraws_an_offset() -> None:
    talk = Conversation(PARTS)
    talk.client("REST 5", "REST 0")
    talk.server("350 x", "350 x")

    assert talk.transfer("RETR b").restart_offset == 0


def test_restart_is_answered_by_the_gate_unless_allowed() -> None:
    talk = Conversation()

    talk.client("REST 5")

    assert talk.to_server() == []
    assert talk.transfer("RETR a").restart_offset == 0


# Login.


def test_user_is_known_only_when_the_server_accepted() -> None:
    talk = Conversation()
    talk.client("USER bob", "PASS x")
    assert talk.dialogue.user is None
    talk.server("331 x")
    assert talk.dialogue.user is None
    talk.server("230 x")
    assert talk.dialogue.user == "bob"


def test_user_without_password_is_accepted_at_once() -> None:
    talk = Conversation()
    talk.client("USER anonymous")
    talk.server("230 x")

    assert talk.dialogue.user == "anonymous"


def test_wrong_password_gives_no_user() -> None:
    talk = Conversation()
    talk.client("USER bob", "PASS x")
    talk.server("331 x", "530 x")

    assert talk.dialogue.user is None


def test_answer_to_an_older_login_does_not_vouch_for_a_newer_one() -> None:
    talk = Conversation()
    talk.client("USER bob", "PASS x", "USER root")
    talk.server("331 x", "230 x")

    assert talk.dialogue.user is None


@pytest.mark.parametrize("answer", ["530 Can't change from guest user.", "202 superfluous"])
@pytest.mark.parametrize("is_pipelined", [False, True])
def test_user_whom_the_server_did_not_take_is_nobody_whatever_a_password_brings(
    answer: str, is_pipelined: bool
) -> None:
    # vsftpd refuses USER inside a session, and answers any PASS with 230 Already logged in.
    talk = Conversation()
    talk.client("USER anonymous", "PASS x")
    talk.server("331 x", "230 x")

    if is_pipelined:
        talk.client("USER root", "PASS x")
        talk.server(answer)
    else:
        talk.client("USER root")
        talk.server(answer)
        talk.client("PASS x")
    talk.server("230 Already logged in.")

    assert talk.dialogue.user is None


def test_password_that_was_wrong_vouches_for_nobody_later() -> None:
    talk = Conversation()
    talk.client("USER root", "PASS wrong", "PASS again")
    talk.server("331 x", "530 x", "230 Already logged in.")

    assert talk.dialogue.user is None


def test_second_login_and_reinitialize_forget_the_user() -> None:
    for line in ("USER root", "REIN"):
        talk = Conversation()
        talk.client("USER bob", "PASS x")
        talk.server("331 x", "230 x")

        talk.client(line)

        assert talk.dialogue.user is None


def test_reinitialize_forgets_type_restart_and_address() -> None:
    talk = Conversation(PARTS)
    talk.client("TYPE I", "REST 5", "PORT 192,0,2,1,4,1", "REIN")
    talk.server("200 x", "350 x", "200 x", "220 x")

    transfer = talk.transfer("RETR a")

    assert (transfer.is_ascii, transfer.restart_offset, transfer.announcement) == (True, 0, None)


# ABOR and STAT.


@pytest.mark.parametrize("first", ["426 cut", "226 done", "451 x"])
def test_abort_goes_out_at_once_and_has_its_own_reply(first: str) -> None:
    talk = Conversation()
    transfer = talk.transfer("RETR a")
    talk.server("150 x")
    [_, abort] = talk.client("NOOP", "ABOR")
    assert talk.to_server() == ["RETR a", "ABOR"]
    assert abort.aborts is transfer

    talk.server(first, "226 aborted")

    assert talk.to_server() == ["NOOP"]
    talk.server("200 ok")
    assert talk.to_client() == ["150 x", first, "200 ok", "226 aborted"]


def test_abort_reply_225_ends_the_transfer_too() -> None:
    talk = Conversation()
    transfer = talk.transfer("RETR a")
    talk.server("150 x")
    talk.client("ABOR")

    [answered] = talk.server("225 aborted")

    assert answered.exchange.role is FtpRole.ABORT
    assert transfer.state is FtpTransferState.ABORTED
    assert talk.to_client() == ["150 x", "225 aborted"]
    talk.client("NOOP")
    assert talk.to_server()[-1] == "NOOP"


def test_abort_of_a_held_transfer_names_it() -> None:
    talk = Conversation(holds=True)
    transfer = talk.transfer("RETR a")
    talk.server("150 x", "226 x")
    [abort] = talk.client("ABOR")
    assert abort.aborts is transfer
    talk.server("225 nothing to abort")
    assert talk.to_client() == ["150 x"]

    talk.dialogue.answer(talk.held[0].exchange, encode_reply(426, "aborted"))

    assert talk.to_client() == ["426 aborted", "225 nothing to abort"]


def test_abort_without_a_transfer_is_an_ordinary_command() -> None:
    talk = Conversation()
    [abort] = talk.client("ABOR")

    talk.server("225 nothing")

    assert abort.aborts is None
    assert talk.to_client() == ["225 nothing"]


def test_status_of_a_running_transfer_is_shown_before_its_end() -> None:
    talk = Conversation()
    talk.client("RETR a")
    talk.server("150 x")
    talk.client("STAT")
    assert talk.to_server() == ["RETR a", "STAT"]

    talk.server("213 half", "226 done")

    assert talk.to_client() == ["150 x", "213 half", "226 done"]


def test_status_flood_during_a_transfer_is_bounded() -> None:
    talk = Conversation()
    talk.client("RETR a")

    with pytest.raises(ProtocolError, match="commands wait"):
        talk.client(*["STAT"] * (FTP_PIPELINE_COMMANDS_MAX + 1))


# Ends and refusals.


def test_quit_is_the_last_command() -> None:
    talk = Conversation()
    talk.client("QUIT")
    talk.server("221 bye")

    [late] = talk.client("NOOP")

    assert late.refusal is not None
    assert talk.dialogue.is_closing
    assert not talk.dialogue.is_server_idle
    assert [line[:3] for line in talk.to_client()] == ["221", "421"]
    assert talk.to_server() == ["QUIT"]


def test_unsolicited_421_reaches_the_client_and_ends_forwarding() -> None:
    talk = Conversation()

    [answered] = talk.server("421 idle too long")

    assert answered.exchange.role is FtpRole.UNSOLICITED
    assert talk.to_client() == ["421 idle too long"]
    assert talk.dialogue.is_closing


def test_421_answers_the_command_that_waits_behind_a_held_transfer() -> None:
    talk = Conversation(holds=True)
    (stored,) = talk.client("RETR a")
    talk.server("150 x", "226 x")
    talk.client("NOOP")
    talk.to_client()

    talk.server("421 timed out")
    talk.dialogue.answer(stored, b"550 refused\r\n")

    assert talk.to_client() == ["550 refused", "421 timed out"]


def test_421_in_answer_to_an_own_command_is_shown_to_the_client() -> None:
    talk = Conversation()
    talk.dialogue.own_command("NOOP")

    talk.server("421 idle too long")

    assert talk.to_client() == ["421 idle too long"]


@pytest.mark.parametrize(
    ("lines", "replies", "side"),
    [
        ([], ["226 forged"], Side.SERVER),
        (["NOOP"], ["200 ok", "200 again"], Side.SERVER),
        (["NOOP"], ["150 x"], Side.SERVER),
        (["NOOP"], ["227 x (192,0,2,1,4,1)"], Side.SERVER),
        (["PWD"], ["229 x (|||2048|)"], Side.SERVER),
        (["PASV"], ["200 ok"], Side.SERVER),
        (["PASV"], ["227 no address"], Side.SERVER),
        (["PASV"], ["228 x"], Side.SERVER),
        (["EPSV"], ["227 x (192,0,2,1,4,1)"], Side.SERVER),
        (["EPSV"], ["229 x (|1|192.0.2.1|2048|)"], Side.SERVER),
        (["RETR a"], ["225 x"], Side.SERVER),
        (["RETR a"], ["200 x"], Side.SERVER),
        (["RETR a"], ["150 x", "257 x"], Side.SERVER),
        (["RETR a"], ["150 x", "332 x"], Side.SERVER),
        (["RETR a"], ["211 x"], Side.SERVER),
        (["USER a"], ["334 x"], Side.SERVER),
        (["RETR a"], ["150 x"] * (FTP_PRELIMINARY_REPLIES_MAX + 1), Side.SERVER),
        (["NOOP"] * (FTP_PIPELINE_COMMANDS_MAX + 1), [], Side.CLIENT),
    ],
)
def test_what_does_not_fit_ends_the_connection(
    lines: list[str], replies: list[str], side: Side
) -> None:
    talk = Conversation()

    def converse() -> None:
        talk.client(*lines)
        talk.server(*replies)

    with pytest.raises(ProtocolError) as refused:
        converse()
    assert refused.value.side is side


def test_refused_command_cannot_be_forwarded() -> None:
    talk = Conversation()
    [exchange] = talk.client("AUTH TLS")

    with pytest.raises(BadContext):
        talk.dialogue.forward(exchange)


def test_command_has_one_final_reply() -> None:
    talk = Conversation()
    [exchange] = talk.client("NOOP")
    talk.server("200 ok")

    with pytest.raises(BadContext):
        talk.dialogue.answer(exchange, b"200 again\r\n")


def test_command_is_forwarded_once() -> None:
    talk = Conversation()
    [exchange] = talk.client("NOOP")

    with pytest.raises(BadContext):
        talk.dialogue.forward(exchange)


def test_long_session_keeps_no_history() -> None:
    talk = Conversation(PARTS)
    for _ in range(5):
        talk.client("TYPE I", "TYPE A", "REST 0", "PASV")
        talk.server("200 x", "200 x", "350 x", "227 x (192,0,2,1,4,1)")

    assert all(exchange.replaced is None for exchange in talk.exchanges)


# Properties.

LINES = st.sampled_from(
    [
        "NOOP",
        "PWD",
        "RETR a",
        "STOR b",
        "LIST",
        "ABOR",
        "STAT",
        "PASV",
        "EPSV",
        "TYPE I",
        "AUTH TLS",
        "REST 0",
        "USER a",
        "QUIT",
        "REIN",
        "XXXX",
    ]
)
MOVES = st.lists(LINES | st.sampled_from(["reply", "mark", "verdict", "own"]), max_size=60)


@given(MOVES)
def test_client_gets_one_final_reply_per_command_in_order(moves: list[str]) -> None:
    """A model server answers in order; each reply quotes the number of its command."""
    talk = Conversation(PARTS, holds=True, greeted=False)
    served: list[str] = ["GREETING"]
    answers: list[str] = []
    asked: list[str] = []
    for move in [*moves, *["reply", "verdict"] * 2 * (len(moves) + 1)]:
        if move == "verdict":
            for answered in talk.held:
                if not answered.exchange.is_answered:
                    talk.answer(answered)
            talk.held.clear()
        elif move == "own":
            if talk.dialogue.is_server_idle:
                talk.dialogue.own_command("NOOP")
        elif move == "mark":
            if served and served[0][:4] in ("RETR", "STOR", "LIST"):
                talk.server("150 mark")
        elif move == "reply":
            if served:
                talk.server(final_reply(served.pop(0)))
        elif talk.dialogue.has_room and not talk.dialogue.is_closing:
            asked += [move]
            talk.client(move)
        served += talk.to_server()
        assert sum(line[:4] in ("RETR", "STOR", "LIST") for line in served) <= 1
        answers += [line for line in talk.to_client() if not line.startswith("150")]
    in_turn = [move for move in asked if move != "STAT"]
    assert [code for code in codes(answers) if code != "211"] == codes(
        [final_reply(line) for line in ["GREETING", *in_turn]]
    )
    assert codes(answers).count("211") == asked.count("STAT")


@given(st.lists(LINES, max_size=6), st.lists(st.integers(100, 599), max_size=8))
def test_arbitrary_replies_raise_only_protocol_errors(
    lines: list[str], reply_codes: list[int]
) -> None:
    talk = Conversation(PARTS, greeted=False)
    shown = 0
    try:
        for line, code in itertools.zip_longest(lines, reply_codes):
            if line is not None and not talk.dialogue.is_closing:
                talk.client(line)
            if code is not None:
                talk.server(f"{code} x")
            shown += sum(reply[0] != "1" for reply in talk.to_client())
    except ProtocolError:
        pass
    assert shown <= len(lines) + 2


def codes(lines: list[str]) -> list[str]:
    return [line[:3] for line in lines]


def final_reply(line: str) -> str:
    replies = {
        "GREETING": "220 x",
        "RETR a": "226 x",
        "STOR b": "226 x",
        "LIST": "226 x",
        "ABOR": "226 x",
        "STAT": "211 x",
        "PASV": "227 x (192,0,2,1,4,1)",
        "EPSV": "229 x (|||2048|)",
        "AUTH TLS": "534 x",
        "USER a": "331 x",
        "QUIT": "221 x",
        "REST 0": "350 x",
        "XXXX": "502 x",
    }
    return replies.get(line, "200 x")


def commands(line: str) -> list:
    parser = FtpCommandParser()
    parser.receive_data(f"{line}\r\n".encode())
    return list(iter(parser.next_event, None))
