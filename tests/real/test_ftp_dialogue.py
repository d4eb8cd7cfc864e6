"""What real servers and clients say around their transfers: aborts, resumes, TLS, refusals."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.flows.ftp_kit import Conversation, clean, drain, pe
from tests.real.ftp_parts import Curl, Lftp, tool


@pytest.fixture
def slow() -> dict[str, str]:
    """A content filter that never answers, first of all."""
    path = pathlib.Path(__file__).parent.parent / "flows" / "test_ftp_access.py"
    return {"slow": f"{path}:NeverAnswers"}


def conversation(gate) -> Conversation:
    return gate.client().login("anonymous")


def test_several_transfers_of_lftp_share_a_session(open_gate, folder, tmp_path):
    gate = open_gate()
    client = Lftp(host=gate.host, port=gate.port, work=tmp_path)
    ended = client.run(
        f"mget -O {tmp_path} clean.bin small.bin; cls; put {tmp_path}/clean.bin -o up/a; "
        f"mv up/a up/b; cat small.bin"
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "clean.bin").read_bytes() == (folder / "up" / "b").read_bytes() == clean()
    assert gate.transfer("small.bin")["facts"] == {"command": "RETR"}
    assert gate.transfer("up/a")["direction"] == "upload"


def test_mirror_of_a_tree_leaves_out_what_is_refused(open_gate, folder, tmp_path):
    gate = open_gate()
    client = Lftp(host=gate.host, port=gate.port, work=tmp_path)
    client.run(f"mirror --parallel=3 / {tmp_path}/copy", "set cmd:fail-exit no")
    copied = {path.name for path in (tmp_path / "copy").iterdir() if path.is_file()}
    assert copied - {"setup.exe"} == {"clean.bin", "small.bin"}
    assert (tmp_path / "copy" / "clean.bin").read_bytes() == clean()
    refused = tmp_path / "copy" / "setup.exe"
    assert not refused.exists() or refused.read_bytes() == b""


def test_aborted_download_ends_and_the_session_goes_on(open_gate, slow):
    gate = open_gate(more_filters=slow)
    with conversation(gate) as client:
        data = client.passive()
        assert client.ask("RETR clean.bin")[:3] in ("125", "150")
        client.socket.send(b"\xff\xf4\xff", socket.MSG_OOB)
        client.socket.send(b"\xf2ABOR\r\n")
        assert client.reply()[:3] == "426"
        assert client.reply()[:3] in ("225", "226")
        assert drain(data) == b""
        data.close()
        assert client.ask("PWD").startswith("257")


def test_aborted_upload_reaches_no_server(open_gate, folder, slow):
    gate = open_gate(more_filters=slow)
    with conversation(gate) as client, client.passive() as data:
        assert client.ask("STOR up/never").startswith("150")
        data.sendall(b"beginning")
        data.shutdown(socket.SHUT_WR)
        client.write("ABOR")
        assert client.reply()[:3] == "426"
        assert client.reply()[:3] in ("225", "226")
    assert list((folder / "up").iterdir()) == []


def test_resuming_clients_are_refused_or_begin_again(open_gate, folder, tmp_path):
    gate = open_gate()
    work = tmp_path / "work"
    work.mkdir()
    (work / "part").write_bytes(clean()[:1000])
    curl = Curl(host=gate.host, port=gate.port, work=work)
    ended = curl._run("--continue-at", "-", "--output", str(work / "part"), curl._url("clean.bin"))
    assert ended.returncode != 0
    assert "502 REST refused" in ended.stderr
    lftp = Lftp(host=gate.host, port=gate.port, work=work)
    lftp.run(f"get -c clean.bin -o {work / 'part'}")
    assert (work / "part").read_bytes() in (clean()[:1000], clean())


def test_append_is_refused(open_gate, folder, tmp_path):
    gate = open_gate()
    (folder / "up" / "log").write_bytes(b"old")
    source = tmp_path / "more"
    source.write_bytes(b"new")
    curl = Curl(host=gate.host, port=gate.port, work=tmp_path)
    ended = curl._run("--append", "--upload-file", str(source), curl._url("up/log"))
    assert ended.returncode != 0
    assert (folder / "up" / "log").read_bytes() == b"old"


def test_tls_is_refused_and_optional_tls_goes_on_in_the_clear(open_gate, tmp_path):
    gate = open_gate()
    curl = Curl(host=gate.host, port=gate.port, work=tmp_path)
    required = curl._run("--ssl-reqd", curl._url("small.bin"))
    assert required.returncode != 0
    assert "534 " in required.stderr
    tried = curl._run("--ssl", "--output", str(tmp_path / "a"), curl._url("small.bin"))
    assert tried.returncode == 0
    assert (tmp_path / "a").read_bytes() == clean(1000)
    lftp = Lftp(host=gate.host, port=gate.port, work=tmp_path)
    assert lftp.run("cat small.bin", "set ftp:ssl-allow-anonymous yes").returncode == 0


@pytest.mark.parametrize("command", ["PORT 127,0,0,2,200,1", "EPRT |1|10.0.0.1|40000|"])
def test_bounces_are_refused_before_the_server_hears_of_them(open_gate, command):
    gate = open_gate()
    with conversation(gate) as client:
        assert client.ask(command).startswith("501 Refused: ")
        assert client.ask("LIST").startswith("425 ")


def test_read_only_rule_lets_nothing_be_changed(open_gate, folder, tmp_path):
    gate = open_gate(rule={"read_only": True})
    lftp = Lftp(host=gate.host, port=gate.port, work=tmp_path)
    assert not lftp.store("up/x", b"x").is_done
    assert lftp.run("rm small.bin").returncode != 0
    assert lftp.run("mkdir up/y").returncode != 0
    assert lftp.fetch("small.bin").content == clean(1000)
    assert (folder / "small.bin").exists()
    assert list((folder / "up").iterdir()) == []


def test_exempted_clients_get_everything_and_may_resume(open_gate, tmp_path):
    gate = open_gate(access={"exempt_clients": ["127.0.0.1/32"]})
    curl = Curl(host=gate.host, port=gate.port, work=tmp_path)
    assert curl.fetch("setup.exe").content == pe()
    (tmp_path / "part").write_bytes(clean()[:1000])
    ended = curl._run(
        "--continue-at", "-", "--output", str(tmp_path / "part"), curl._url("clean.bin")
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "part").read_bytes() == clean()
    assert curl.store("up/setup.exe", pe()).is_done
    assert gate.records("transfer") == []


def test_user_claimed_inside_a_session_is_not_exempted(open_gate):
    gate = open_gate(access={"exempt_users": ["release-bot"]})
    with conversation(gate) as client:
        # vsftpd: 530 Can't change from guest user, then 230 Already logged in for any PASS.
        client.ask("USER release-bot")
        client.ask("PASS wrong")
        assert client.ask("REST 100").startswith("502 ")


def test_object_beyond_the_quota_is_refused(open_gate, tmp_path):
    gate = open_gate(limits={"spool_object_bytes_max": "300 KiB"})
    lftp = Lftp(host=gate.host, port=gate.port, work=tmp_path)
    fetched = lftp.fetch("clean.bin")
    assert "550 Refused: limit spool_object_bytes_max" in fetched.said
    assert fetched.content == b""
    assert lftp.fetch("small.bin").is_done
    assert not lftp.store("up/big", clean()).is_done


@contextlib.contextmanager
def small_disk(folder: pathlib.Path) -> Iterator[None]:
    """Put a file system of 512 KiB on a folder."""
    if os.geteuid() != 0:
        pytest.fail("mounting needs root: run the tests as root", pytrace=False)
    subprocess.run(
        [tool("mount"), "-t", "tmpfs", "-o", "size=512k,mode=0700", "none", str(folder)], check=True
    )
    try:
        yield
    finally:
        subprocess.run([tool("umount"), str(folder)], check=True)


def test_full_disk_refuses_the_object_and_the_next_one_passes(open_gate, base, tmp_path):
    spool = base / "gate" / "state" / "spool"
    spool.mkdir(parents=True)
    spool.parent.chmod(0o700)
    with small_disk(spool), contextlib.ExitStack() as closing:
        gate = open_gate(limits={"spool_free_bytes_min": 0, "spool_free_inodes_min": 0})
        lftp = Lftp(host=gate.host, port=gate.port, work=tmp_path)
        fetched = lftp.fetch("clean.bin")
        assert "550 Refused: spool failure" in fetched.said
        assert fetched.content == b""
        assert lftp.fetch("small.bin").content == clean(1000)
        record = gate.transfer("clean.bin")
        assert record["verdict"] == "refused"
        assert "No space left" in record["reason"]
        closing.callback(gate.close)
