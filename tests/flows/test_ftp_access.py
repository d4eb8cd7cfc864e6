"""FTP through the gate, against pyftpdlib: verdicts, order, refusals, and what is left behind."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import pathlib
import signal
import socket
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.flows.ftp_kit import (
    Conversation,
    GateThread,
    ScriptedServer,
    clean,
    drain,
    elf,
    pe,
    pyftpdlib_server,
    text,
)
from tests.ports import free_port

Opener = Callable[..., GateThread]

LARGE = 32 << 20
#: More than the buffers of the kernel take.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("origin")
    (folder / "clean.bin").write_bytes(clean())
    (folder / "large.bin").write_bytes(clean(LARGE))
    (folder / "second.bin").write_bytes(clean(1000))
    (folder / "setup.exe").write_bytes(pe())
    (folder / "tool").write_bytes(elf())
    (folder / "empty").write_bytes(b"")
    (folder / "text.txt").write_bytes(text())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("docs/readme.txt", "hello")
        zipped.writestr("bin/setup.exe", pe())
    (folder / "bundle.zip").write_bytes(archive.getvalue())
    return folder


@pytest.fixture(scope="module")
def server(folder: pathlib.Path) -> Iterator[int]:
    with pyftpdlib_server(folder) as port:
        yield port


IN_BOTH_PLACES = pytest.mark.parametrize("open_gate", ["in the gate", "in a cell"], indirect=True)
"""A test that runs with ``ftp_access`` in the gate, and in a process of its own."""


@pytest.fixture
def open_gate(
    request: pytest.FixtureRequest, server: int, tmp_path: pathlib.Path, backend_name: str
) -> Iterator[Opener]:
    """Make gates that are stopped, and checked, when the test ends."""
    isolated = ["ftp_access"] if getattr(request, "param", "") == "in a cell" else []
    with contextlib.ExitStack() as gates:

        def open_gate(server_port: int = 0, **options: Any) -> GateThread:
            options = {"isolated": isolated, **options}
            gate = GateThread(tmp_path / "gate", server_port or server, backend_name, **options)
            return gates.enter_context(gate)

        yield open_gate


@pytest.fixture
def gate(open_gate: Opener) -> GateThread:
    return open_gate()


@pytest.fixture
def client(gate: GateThread) -> Iterator[Conversation]:
    with gate.client() as conversation:
        yield conversation.login()


# -- verdicts --------------------------------------------------------------------------------------


@IN_BOTH_PLACES
def test_clean_file_arrives_whole_and_the_final_reply_comes_after_its_last_byte(gate, client):
    with client.passive() as data:
        assert client.ask("RETR large.bin").startswith(("125", "150"))
        received = data.recv(1000)
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.line()
        client.socket.settimeout(20)
        assert received + drain(data) == clean(LARGE)
    assert client.reply().startswith("226")
    record = gate.transfer("large.bin")
    assert record["verdict"] == "released"
    assert record["bytes"] == record["bytes_delivered"] == LARGE


def test_empty_file_is_released(gate, client):
    assert client.fetch("empty") == (b"", "226 Transfer complete.")
    assert gate.transfer("empty")["verdict"] == "released"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("setup.exe", "Windows (PE) executable"),
        ("tool", "Linux (ELF) executable"),
        ("bundle.zip", "pe executable inside zip archive (bin/setup.exe)"),
    ],
)
def test_refused_download_gives_the_client_no_byte_and_a_550_with_the_reason(
    gate, client, name, reason
):
    assert client.fetch(name) == (b"", f"550 Refused: {reason}")
    record = gate.transfer(name)
    assert (record["verdict"], record["reason"], record["filter"]) == (
        "refused",
        reason,
        "exe_block",
    )
    ended = gate.wait_for("connection", lambda one: one["connection"] == record["connection"])
    assert ended["outcome"] == "refused"
    assert ended.get("bytes_to_client", 0) == 0


@IN_BOTH_PLACES
def test_refused_upload_leaves_the_old_file_as_it_was(gate, client, folder):
    (folder / "stored.bin").write_bytes(b"old")
    assert client.store("stored.bin", pe()) == "550 Refused: Windows (PE) executable"
    assert (folder / "stored.bin").read_bytes() == b"old"
    assert gate.transfer("stored.bin")["direction"] == "upload"


@IN_BOTH_PLACES
def test_released_upload_is_stored_whole_before_its_final_reply(client, folder):
    assert client.store("fresh.bin", clean()).startswith("226")
    assert (folder / "fresh.bin").read_bytes() == clean()
    assert client.store("fresh.bin", b"").startswith("226")
    assert (folder / "fresh.bin").read_bytes() == b""


@IN_BOTH_PLACES
def test_store_unique_goes_through(client, folder):
    before = set(folder.iterdir())
    with client.passive() as data:
        assert client.ask("STOU").startswith("150")
        data.sendall(clean(500))
    # The name stands in the server's 150 (RFC 1123 section 4.1.2.9), which comes after the verdict.
    told = [client.line(), client.line()]
    (made,) = set(folder.iterdir()) - before
    assert told == [f"226-FILE: {made.name}", "226 Transfer complete."]
    assert made.read_bytes() == clean(500)
    made.unlink()


def test_server_that_refuses_a_released_upload_is_quoted(client, folder):
    assert client.store("no/such/folder.bin", clean()).startswith("550")
    assert client.ask("PWD").startswith("257")


def test_text_mode_converts_line_ends_and_is_judged_as_the_receiver_will_see_it(client, folder):
    client.ask("TYPE A")
    data, reply = client.fetch("text.txt")
    assert reply.startswith("226")
    assert data == text().replace(b"\n", b"\r\n")
    assert client.store("hidden.exe", b"\r" + pe()).startswith("550 Refused: Windows")
    assert client.store("plain.txt", b"a\r\nb\r\n").startswith("226")
    assert (folder / "plain.txt").read_bytes() == b"a\nb\n"


def test_scripts_are_refused_where_it_is_configured(open_gate, folder):
    (folder / "run.sh").write_bytes(b"#!/bin/sh\necho\n")
    with open_gate(block={"scripts": True}).client() as client:
        assert client.login().fetch("run.sh")[1] == "550 Refused: script (#!) executable"


# -- modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_passive", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_several_transfers_share_one_control_connection(
    folder, tmp_path, backend_name, host, is_passive
):
    with (
        pyftpdlib_server(folder, host) as port,
        GateThread(tmp_path / "gate", port, backend_name, host=host) as gate,
        ftplib.FTP(timeout=20) as ftp,
    ):
        ftp.connect(host, gate.port)
        ftp.login("user", "secret")
        ftp.set_pasv(is_passive)
        for _ in range(3):
            received = io.BytesIO()
            assert ftp.retrbinary("RETR clean.bin", received.write).startswith("226")
            assert received.getvalue() == clean()
            lines: list[str] = []
            ftp.retrlines("NLST", lines.append)
            assert "clean.bin" in lines
            assert ftp.storbinary("STOR again.bin", io.BytesIO(clean(5000))).startswith("226")
            with pytest.raises(ftplib.error_perm, match="550 Refused"):
                ftp.storbinary("STOR again.bin", io.BytesIO(pe()))
            assert (folder / "again.bin").read_bytes() == clean(5000)
        names = [name for name, _ in ftp.mlsd()]
        assert "setup.exe" in names


def test_data_connection_may_come_after_the_command(client):
    client.write("EPSV", "RETR second.bin")
    port = int(client.reply().split("|||")[1].split("|")[0])
    with socket.create_connection(("127.0.0.1", port)) as data:
        assert drain(data) == clean(1000)
    assert [client.reply()[:3], client.reply()[:3]] in (["150", "226"], ["125", "226"])


@IN_BOTH_PLACES
def test_active_upload_is_taken_by_dialling_the_client(client, folder):
    with client.active() as listener:
        client.write("STOR active.bin")
        assert client.reply().startswith("150")
        data, _ = listener.accept()
        with data:
            data.sendall(clean())
    assert client.reply().startswith("226")
    assert (folder / "active.bin").read_bytes() == clean()


def test_unspecified_address_of_an_active_client_means_its_own(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        reply = client.ask(f"EPRT |1|0.0.0.0|{listener.getsockname()[1]}|")
        assert reply.startswith("200")
        client.write("RETR second.bin")
        data, _ = listener.accept()
        with data:
            assert drain(data) == clean(1000)


def test_pipelined_commands_get_their_replies_in_order(client):
    client.write("PWD", "SYST", "TYPE A", "SIZE second.bin", "NOOP", "MDTM second.bin", "FEAT")
    codes = [client.reply()[:3] for _ in range(7)]
    assert codes == ["257", "215", "200", "550", "200", "213", "211"]


def test_passive_ports_bound_what_is_announced(open_gate):
    with open_gate(access={"passive_ports": "27100-27103"}).client() as client:
        client.login()
        for _ in range(6):
            reply = client.ask("EPSV")
            assert int(reply.split("|||")[1].split("|")[0]) in range(27100, 27104)


def test_every_port_of_the_range_is_tried(open_gate):
    with contextlib.ExitStack() as taken:
        # Below the range from which the kernel takes clients' ports.
        for port in (27110, 27111, 27112):
            taken.enter_context(socket.create_server(("127.0.0.1", port)))
        with open_gate(access={"passive_ports": "27110-27113"}).client() as client:
            client.login()
            ports = [client.ask("EPSV").split("|||")[1].split("|")[0] for _ in range(4)]
            assert ports == ["27113"] * 4


def test_public_address_is_named_in_227_replies(open_gate):
    gate = open_gate(access={"public_address": "203.0.113.7"})
    with gate.client() as client:
        assert "(203,0,113,7," in client.login().ask("PASV")


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["AUTH TLS", "AUTH SSL", "AUTH TLS-C"])
def test_encryption_is_refused_with_534(client, verb):
    assert client.ask(verb).startswith("534 ")
    assert client.ask("PBSZ 0").startswith("503 ")


def test_features_that_do_not_pass_are_not_shown(client):
    client.write("FEAT")
    shown = []
    while not (line := client.line()).startswith("211 "):
        shown.append(line.strip())
    assert "UTF8" in shown
    assert not [line for line in shown if line.startswith(("AUTH", "REST", "PROT"))]


@pytest.mark.parametrize(
    "command",
    [
        "PORT 127,0,0,2,200,1",
        "PORT 10,0,0,1,200,1",
        "EPRT |1|127.0.0.2|40000|",
        "EPRT |2|::1|40000|",
        "PORT 127,0,0,1,0,22",
        "EPRT |1|127.0.0.1|1023|",
    ],
)
def test_bounces_and_privileged_ports_are_refused_and_noted(gate, client, command):
    assert client.ask(command).startswith("501 Refused: ")
    note = gate.wait_for("note", lambda record: record["facts"]["command"] == command)
    assert note["filter"] == "ftp_access"
    assert client.ask("RETR second.bin").startswith("425 ")


@pytest.mark.parametrize(
    "command", ["PORT 127,0,0,1,200", "PORT 127,0,0,1,200,256", "EPRT |3|x|1|"]
)
def test_malformed_announcements_are_refused(client, command):
    assert client.ask(command)[:3] in ("501", "522")


def test_transfer_without_an_announcement_is_refused(client):
    assert client.ask("RETR second.bin").startswith("425 ")
    assert client.fetch("second.bin")[0] == clean(1000)
    assert client.ask("RETR second.bin").startswith("425 ")


def test_partial_files_are_refused(client, folder):
    assert client.ask("REST 100").startswith("502 ")
    assert client.ask("REST 0").startswith("350")
    assert client.fetch("second.bin")[0] == clean(1000)
    assert client.store("second.bin", b"x", verb="APPE").startswith("502 ")
    assert (folder / "second.bin").read_bytes() == clean(1000)


def test_read_only_rule_refuses_whatever_writes(open_gate, folder):
    with open_gate(rule={"read_only": True}).client() as client:
        client.login()
        for command in ("STOR x", "APPE x", "STOU", "DELE clean.bin", "MKD x", "RNFR clean.bin"):
            assert client.ask(command).startswith("550 "), command
        assert client.fetch("second.bin")[0] == clean(1000)
    assert (folder / "clean.bin").exists()
    assert not (folder / "x").exists()


@pytest.mark.parametrize(
    "sent",
    [b"NOOP\nDELE clean.bin\r\n", b"NOOP\r\0\n\r\n", b"NO\0OP\r\n", b"RETR a\rDELE clean.bin\r\n"],
)
def test_line_ends_that_only_some_servers_see_end_the_connection(gate, client, folder, sent):
    client.socket.sendall(sent)
    assert client.reply().startswith("421 ")
    assert (folder / "clean.bin").exists()
    gate.wait_for("connection", lambda record: record["reason"].startswith("FTP: "))


@pytest.mark.parametrize(
    "command", ["CPSV", "LPRT 4,4,127,0,0,1,2,4,1", "COMB a b", "RANG 1 9", "SITE CPTO x", "XYZZY"]
)
def test_verbs_that_could_get_around_the_inspection_do_not_reach_the_server(client, command):
    assert client.ask(command).startswith("502 ")


# -- exemptions ------------------------------------------------------------------------------------


def test_exempted_clients_get_files_unheld_and_may_resume(open_gate):
    gate = open_gate(access={"exempt_clients": ["127.0.0.0/8"]})
    with gate.client() as client:
        client.login()
        assert client.fetch("setup.exe")[0] == pe()
        assert client.ask("REST 100").startswith("350")
        assert client.fetch("second.bin")[0] == clean(1000)[100:]
    assert gate.records("transfer") == []


def test_exempted_users_are_exempted_once_the_server_knows_them(open_gate):
    gate = open_gate(access={"exempt_users": ["release-bot"]})
    with gate.client() as client:
        assert client.login("release-bot").fetch("setup.exe")[0] == pe()
    with gate.client() as client:
        assert client.login("user").fetch("setup.exe")[1].startswith("550 Refused")
        # The name alone, without the password, is nobody's.
        assert client.ask("USER release-bot").startswith("331")
        assert client.ask("PASS wrong").startswith("530")
        assert client.ask("REST 100").startswith("502")


def test_exe_block_exempts_names_users_and_clients(open_gate):
    gate = open_gate(block={"exempt_names": ["*.exe"], "exempt_users": ["release-bot"]})
    with gate.client() as client:
        client.login()
        assert client.fetch("setup.exe")[0] == pe()
        assert client.fetch("tool")[1].startswith("550 ")
    with gate.client() as client:
        assert client.login("release-bot").fetch("tool")[0] == elf()
    assert gate.transfer("setup.exe")["verdict"] == "released"


# -- limits ----------------------------------------------------------------------------------------


@IN_BOTH_PLACES
def test_object_beyond_a_quota_is_refused_with_the_limit_named(open_gate):
    gate = open_gate(limits={"spool_object_bytes_max": "256 KiB"})
    with gate.client() as client:
        client.login()
        assert client.fetch("clean.bin") == (b"", "550 Refused: limit spool_object_bytes_max")
        assert client.fetch("second.bin")[0] == clean(1000)
        assert client.store("big", clean()).startswith("550 Refused: limit")
    assert gate.transfer("clean.bin")["verdict"] == "refused"


# -- ends ------------------------------------------------------------------------------------------


@IN_BOTH_PLACES
def test_client_that_aborts_gets_426_and_then_the_reply_to_abor(open_gate):
    gate = open_gate(more_filters={"slow": f"{__file__}:NeverAnswers"})
    with gate.client() as client:
        client.login()
        data = client.passive()
        assert client.ask("RETR clean.bin")[:3] in ("125", "150")
        gate.wait_until_held()
        # As RFC 959 asks: interrupt process and data mark of Telnet in front, urgent.
        client.socket.send(b"\xff\xf4\xff", socket.MSG_OOB)
        client.socket.send(b"\xf2ABOR\r\n")
        assert client.reply()[:3] == "426"
        assert client.reply()[:3] in ("225", "226")
        assert drain(data) == b""
        data.close()
        assert client.ask("PWD").startswith("257")
        assert gate.transfer("clean.bin")["verdict"] == "failed"


def test_aborted_upload_never_reaches_the_server(open_gate, folder):
    gate = open_gate(more_filters={"slow": f"{__file__}:NeverAnswers"})
    with gate.client() as client:
        client.login()
        with client.passive() as data:
            assert client.ask("STOR never.bin").startswith("150")
            data.sendall(clean(1000))
            data.shutdown(socket.SHUT_WR)
            client.write("ABOR")
            assert client.reply()[:3] == "426"
            assert client.reply()[:3] in ("225", "226")
        assert client.ask("PWD").startswith("257")
    assert not (folder / "never.bin").exists()


@IN_BOTH_PLACES
@pytest.mark.parametrize("verb", ["RETR clean.bin", "STOR gone.bin"])
def test_client_that_goes_away_during_a_hold_leaves_nothing(open_gate, folder, verb):
    gate = open_gate(more_filters={"slow": f"{__file__}:NeverAnswers"})
    client = gate.client().login()
    data = client.passive()
    assert client.ask(verb)[:3] in ("125", "150")
    if verb.startswith("STOR"):
        data.sendall(b"x")
        data.shutdown(socket.SHUT_WR)
    gate.wait_until_held()
    client.close()
    name = verb.partition(" ")[2]
    assert gate.transfer(name)["verdict"] == "failed"
    assert drain(data) == b""
    data.close()
    assert not (folder / "gone.bin").exists()


def test_client_that_resets_the_data_connection_is_told_426(client):
    data = client.passive()
    client.write("RETR clean.bin")
    assert client.reply()[:3] in ("125", "150")
    data.recv(1)
    data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    data.close()
    # The kernel may have taken all of it before the reset.
    assert client.reply()[:3] in ("426", "226")
    assert client.ask("PWD").startswith("257")


@IN_BOTH_PLACES
def test_data_connection_of_somebody_else_is_turned_away(gate, client):
    reply = client.ask("EPSV")
    port = int(reply.split("|||")[1].split("|")[0])
    with contextlib.suppress(ConnectionResetError):  # it may come before connect returns
        stranger = socket.create_connection(
            ("127.0.0.1", port), timeout=20, source_address=("127.0.0.2", 0)
        )
        with stranger:
            assert drain(stranger) == b""
    gate.wait_for("decision", lambda record: "not the expected peer" in record["reason"])


def test_commands_sent_before_a_half_close_are_answered(gate):
    with gate.client() as client:
        client.write("USER user", "PASS secret", "PWD", "QUIT")
        client.socket.shutdown(socket.SHUT_WR)
        replies = [client.reply()[:3] for _ in range(5)]
        assert replies == ["220", "331", "230", "257", "221"]
        assert client.line() == ""


# -- a server that does not behave -----------------------------------------------------------------


@pytest.fixture
def scripted(open_gate) -> Iterator[tuple[GateThread, ScriptedServer]]:
    server = ScriptedServer()
    yield open_gate(server.port), server
    server.close()


def log_in(gate: GateThread, server: ScriptedServer) -> tuple[Conversation, Conversation]:
    client = gate.client()
    side = server.accept()
    assert client.reply() == "220 ready"
    client.write("USER user")
    assert side.line() == "USER user"
    side.write("230 in")
    assert client.reply() == "230 in"
    return client, side


@pytest.mark.parametrize(
    "reply",
    [
        "227 Entering Passive Mode (127,0,0,2,200,1)",
        "227 Entering Passive Mode (10,0,0,1,200,1)",
        "227 Entering Passive Mode (127,0,0,1,0,25)",
    ],
)
def test_foreign_addresses_in_227_replies_are_refused(scripted, reply):
    gate, server = scripted
    client, side = log_in(gate, server)
    with client, side:
        client.write("PASV")
        assert side.line() == "PASV"
        side.write(reply)
        assert client.reply().startswith("425 Refused: ")


def test_forged_replies_end_the_connection(scripted):
    gate, server = scripted
    client, side = log_in(gate, server)
    with client, side:
        side.write("226 nobody asked")
        assert client.reply().startswith("421 ")
        assert client.line() == ""
    ended = gate.wait_for("connection", lambda record: record["reason"].startswith("FTP: "))
    assert (ended["outcome"], ended["side"]) == ("failed", "server")


def test_server_that_goes_away_during_a_download_is_told_and_nothing_is_left(scripted):
    gate, server = scripted
    client, side = log_in(gate, server)
    with client, side, socket.create_server(("127.0.0.1", 0)) as listener:
        client.write("EPSV")
        assert side.line() == "EPSV"
        side.write(f"229 ok (|||{listener.getsockname()[1]}|)")
        port = int(client.reply().split("|||")[1].split("|")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as data:
            client.write("RETR x")
            peer, _ = listener.accept()
            assert side.line() == "RETR x"
            side.write("150 here it comes")
            assert client.reply().startswith("150")
            peer.sendall(b"the beginning")
            side.close()
            assert drain(data) == b""
            peer.close()
        assert client.line() == ""
    assert gate.transfer("x")["verdict"] == "failed"


@IN_BOTH_PLACES
def test_421_ends_a_transfer_and_reaches_the_client(scripted):
    gate, server = scripted
    client, side = log_in(gate, server)
    with client, side, socket.create_server(("127.0.0.1", 0)) as listener:
        client.write("EPSV")
        side.line()
        side.write(f"229 ok (|||{listener.getsockname()[1]}|)")
        port = int(client.reply().split("|||")[1].split("|")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as data:
            client.write("RETR x")
            peer, _ = listener.accept()
            side.line()
            side.write("150 here it comes")
            assert client.reply().startswith("150")
            side.write("421 shutting down")
            assert client.reply().startswith("421")
            assert drain(data) == b""
            peer.close()
        side.close()
        assert client.line() == ""


def test_421_of_a_server_that_stays_there_ends_the_connection(scripted):
    # pyftpdlib says 421 when nobody came to its passive port, and goes on.
    gate, server = scripted
    client, side = log_in(gate, server)
    with client, side, socket.create_server(("127.0.0.1", 0)) as listener:
        client.write("EPSV")
        side.line()
        side.write(f"229 ok (|||{listener.getsockname()[1]}|)")
        client.reply()
        client.write("STOR x", "NOOP")
        assert client.reply().startswith("150")
        side.write("421 Passive data channel timed out.")
        assert client.reply().startswith("426")
        assert client.reply().startswith("421")
        assert client.line() == ""
        assert side.line() == ""


@IN_BOTH_PLACES
@pytest.mark.parametrize("command", ["RETR x", "STOR x"])
def test_transfer_after_its_data_connection_has_ended_is_refused(scripted, command):
    # Servers that connect at PORT already (pyftpdlib) would wait for another one, without end.
    gate, server = scripted
    client, side = log_in(gate, server)
    with client, side:
        client.write(f"EPRT |1|127.0.0.1|{free_port()}|")
        port = int(side.line().split("|")[3])
        # The gate finds nobody there, and may say so before the connect has returned.
        with (
            contextlib.suppress(ConnectionResetError),
            socket.create_connection(("127.0.0.1", port), timeout=20) as data,
        ):
            assert drain(data) == b""
        side.write("200 connected")
        assert client.reply().startswith("200")
        assert client.ask(command).startswith("425 ")


@pytest.mark.parametrize("open_gate", ["in a cell"], indirect=True)
def test_process_that_is_killed_takes_along_what_it_expected(open_gate):
    gate = open_gate()
    with gate.client() as client:
        client.login()
        port = int(client.ask("EPSV").split("|||")[1].split("|")[0])
        os.kill(gate.process_of("ftp_access"), signal.SIGKILL)
        assert client.line() == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=20)
    with gate.client() as later:
        later.login()
        assert later.fetch("second.bin") == (clean(1000), "226 Transfer complete.")
    gate.wait_for("filter-failure", lambda record: "was killed by SIGKILL" in record["cause"])


@pytest.mark.parametrize("open_gate", ["in a cell"], indirect=True)
@pytest.mark.parametrize("verb", ["RETR clean.bin", "STOR gone.bin"])
def test_object_that_a_killed_process_held_gets_to_nobody(open_gate, folder, verb):
    gate = open_gate(more_filters={"slow": f"{__file__}:NeverAnswers"})
    with gate.client() as client:
        client.login()
        with client.passive() as data:
            client.write(verb)
            assert client.reply().startswith("150")
            if verb.startswith("STOR"):
                data.sendall(clean())
                data.shutdown(socket.SHUT_WR)
            gate.wait_until_held()
            os.kill(gate.process_of("ftp_access"), signal.SIGKILL)
            assert drain(data) == b""
            assert client.line() == ""
    gate.wait_idle()
    assert gate.transfer(verb.split()[1])["verdict"] == "failed"
    assert not (folder / "gone.bin").exists()


@IN_BOTH_PLACES
def test_truncated_download_is_not_delivered(scripted):
    gate, server = scripted
    client, side = log_in(gate, server)
    with client, side, socket.create_server(("127.0.0.1", 0)) as listener:
        client.write("EPSV")
        side.line()
        side.write(f"229 ok (|||{listener.getsockname()[1]}|)")
        port = int(client.reply().split("|||")[1].split("|")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as data:
            client.write("RETR x")
            peer, _ = listener.accept()
            side.line()
            side.write("150 here it comes")
            assert client.reply().startswith("150")
            peer.sendall(b"the beginning")
            side.write("426 disk failure")
            assert client.reply() == "426 disk failure"
            assert drain(data) == b""
            peer.close()
        client.write("QUIT")
        assert side.line() == "QUIT"
        side.write("221 bye")
        side.close()
        assert client.reply() == "221 bye"


def test_server_is_kept_awake_while_an_object_is_held(open_gate, monkeypatch):
    monkeypatch.setattr("sluicegate.bundled.ftp_control.FTP_KEEP_ALIVE_S", 0.02)
    server = ScriptedServer()
    gate = open_gate(server.port, more_filters={"slow": f"{__file__}:NeverAnswers"})
    client, side = log_in(gate, server)
    with client, side, socket.create_server(("127.0.0.1", 0)) as listener:
        client.write("EPSV")
        side.line()
        side.write(f"229 ok (|||{listener.getsockname()[1]}|)")
        port = int(client.reply().split("|||")[1].split("|")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as data:
            client.write("RETR x")
            peer, _ = listener.accept()
            assert side.line() == "RETR x"
            side.write("150 here it comes")
            assert client.reply().startswith("150")
            peer.sendall(b"whole")
            peer.close()
            side.write("226 done")
            for _ in range(3):
                assert side.line() == "NOOP"
                side.write("200 awake")
            client.write("ABOR")
            # What the client hears is about its own commands only.
            assert client.reply().startswith("426")
            line = side.line()
            while line == "NOOP":
                side.write("200 awake")
                line = side.line()
            assert line == "ABOR"
            side.write("226 nothing to abort")
            assert client.reply() == "226 nothing to abort"
            assert drain(data) == b""
    server.close()


# -- a filter for the tests above ------------------------------------------------------------------

import asyncio  # noqa: E402 - what follows is loaded by the gate as a filter's file

from sluicegate.filterapi import ContentFilter, ContentVerdict, Release, Transfer  # noqa: E402


class NeverAnswers(ContentFilter):
    name = "never-answers"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        await asyncio.sleep(3600)
        return Release()
