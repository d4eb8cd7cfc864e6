"""The signer as it is: alone with the keys, asked by workers, replaced when it ends (G9, G10)."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any, Self

import pytest
from cryptography import x509

from sluicegate.app.authority_config import AuthoritySettings
from sluicegate.app.authority_files import OpenAuthority
from sluicegate.app.authority_store import AuthorityStore, generate_key
from sluicegate.app.processes.signer_post import SignerPost
from sluicegate.clock import SystemClock
from sluicegate.errors import ConfigError
from sluicegate.port.loop import current_port
from sluicegate.sandbox.wire import WireSocket
from sluicegate.tls import signer_link
from sluicegate.tls.leaf_fault import LeafFault
from sluicegate.tls.leaf_keys import LeafKeys
from sluicegate.tls.leaf_source import LeafAnswer
from sluicegate.tls.server_fault import ServerFault
from sluicegate.tls.signed_leaves import SignedLeaves
from sluicegate.tls.signer_link import SignerLink
from tests.kernel.cell_kit import in_loop
from tests.kernel.test_gate_process import EchoServer
from tests.kernel.test_privileges import reachable
from tests.kernel.test_processes import Gate, descriptors, wait_until_gone
from tests.unit.leaf_kit import identity

CLOCK = SystemClock()
THIEF = pathlib.Path(__file__).with_name("key_thief.py")


def make_store(folder: pathlib.Path) -> AuthorityStore:
    store = AuthorityStore(AuthoritySettings(folder / "ca"), CLOCK, (os.getuid(), os.getgid()))
    store.make(generate_key("p256"), "first", 365, None)
    return store


def opened(store: AuthorityStore) -> OpenAuthority:
    settings = store.settings
    return OpenAuthority(
        settings.certificate_path.read_text(),
        settings.untrusted_certificate_path.read_text(),
        os.open(settings.key_path, os.O_RDONLY),
        os.open(settings.untrusted_key_path, os.O_RDONLY),
        settings,
    )


class Office:
    """A signer, and one worker that asks it."""

    def __init__(self, first: OpenAuthority) -> None:
        self.first = first
        self.now = CLOCK.wall()
        self.lines: list[str] = []
        self.replaced = asyncio.Event()
        self.post = SignerPost(CLOCK, self.lines.append, self._on_replaced)
        self.link = SignerLink(current_port())
        self.leaves = SignedLeaves(self.link, LeafKeys(has_rsa=False), CLOCK)

    def _on_replaced(self, _pid: int, _cause: str) -> None:
        self.link.attach(WireSocket(fileno=self.post.connect()))
        self.replaced.set()

    async def __aenter__(self) -> Self:
        try:
            await self.post.change(self.first)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.link.close()
        await self.post.close()

    def ask(self, host: str = "www.example.org", **options: Any) -> asyncio.Future[LeafAnswer]:
        answer: asyncio.Future[LeafAnswer] = asyncio.get_running_loop().create_future()
        self.leaves.leaf_for(identity(host, now=self.now, **options), answer.set_result)
        return answer


def stop(pid: int) -> None:
    """Stop a process, and return when it is."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def test_leaves_are_signed_by_the_process_and_verify(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        async with Office(opened(make_store(tmp_path))) as office:
            trusted = (await office.ask()).leaf
            untrusted = (await office.ask(fault=ServerFault.EXPIRED)).leaf
        for leaf, name in ((trusted, "ca.pem"), (untrusted, "untrusted.pem")):
            by = x509.load_pem_x509_certificate((tmp_path / "ca" / name).read_bytes())
            x509.load_der_x509_certificate(leaf.certificate).verify_directly_issued_by(by)
        assert (trusted.issuer, trusted.is_trusted, untrusted.is_trusted) == ("first", True, False)

    in_loop(work, backend_name)


def test_those_who_ask_at_once_have_it_signed_once(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        async with Office(opened(make_store(tmp_path))) as office:
            answers = await asyncio.gather(*(office.ask() for _ in range(100)))
            assert len({one.leaf.serial for one in answers}) == 1
            assert office.leaves.counts.minted == 1

    in_loop(work, backend_name)


def test_signer_that_is_killed_at_work_is_a_refusal_with_its_reason_and_is_replaced(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        async with Office(opened(make_store(tmp_path))) as office:
            known = await office.ask("known.example.org")
            pid = office.post.pid
            stop(pid)
            asked = [office.ask(), office.ask(), office.ask("other.example.org")]
            office.replaced.clear()
            os.kill(pid, signal.SIGKILL)
            failures = await asyncio.gather(*asked)
            assert {one.fault for one in failures} == {LeafFault.SIGNER_DOWN}
            assert all(one.detail.startswith("it ") for one in failures)
            down = await office.ask()
            assert down.fault is LeafFault.SIGNER_DOWN
            assert await office.ask("known.example.org") is known
            await office.replaced.wait()
            assert (await office.ask()).leaf.issuer == "first"
            assert (office.post.restarts, office.post.pid == pid) == (1, False)
            assert "SIGKILL" in office.lines[0]

    in_loop(work, backend_name)


def test_signer_that_hangs_is_not_waited_for(
    tmp_path: pathlib.Path, backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with Office(opened(make_store(tmp_path))) as office:
            stop(office.post.pid)
            with monkeypatch.context() as soon:
                soon.setattr(signer_link, "SIGNER_TIMEOUT_S", 0.2)
                failure = await office.ask()
            assert failure.fault is LeafFault.SIGNER_LATE
            os.kill(office.post.pid, signal.SIGCONT)
            assert (await office.ask()).leaf.host == "www.example.org"

    in_loop(work, backend_name)


def test_worker_that_says_nonsense_is_left_and_the_others_are_answered(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        async with Office(opened(make_store(tmp_path))) as office:
            pid = office.post.pid
            with WireSocket(fileno=office.post.connect()) as other:
                other.setblocking(False)
                other.send(b"\xc1 no message")
                assert await asyncio.get_running_loop().sock_recv(other, 1) == b""
            assert (await office.ask()).leaf.issuer == "first"
            assert office.post.pid == pid

    in_loop(work, backend_name)


def test_successor_signs_after_a_change_and_old_leaves_stay(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        store = make_store(tmp_path)
        async with Office(opened(store)) as office:
            before = await office.ask("old.example.org")
            store.prepare(generate_key("p384"), "second", 365)
            store.rotate()
            await office.post.change(opened(store))
            assert await office.ask("old.example.org") is before
            leaf = (await office.ask("new.example.org")).leaf
            assert leaf.issuer == "second"
            (vouching,) = leaf.above
            assert x509.load_der_x509_certificate(vouching).issuer.rfc4514_string() == "CN=first"

    in_loop(work, backend_name)


def test_keys_that_cannot_sign_change_nothing(tmp_path: pathlib.Path, backend_name: str) -> None:
    async def work() -> None:
        store = make_store(tmp_path)
        async with Office(opened(store)) as office:
            wrong = opened(store)
            wrong.key, wrong.untrusted_key = wrong.untrusted_key, wrong.key
            with pytest.raises(ConfigError, match="another certificate's"):
                await office.post.change(wrong)
            assert (await office.ask()).leaf.issuer == "first"

    in_loop(work, backend_name)


def test_first_keys_that_cannot_sign_are_told_and_nothing_goes_on(
    tmp_path: pathlib.Path, backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        store = make_store(tmp_path)
        store.settings.key_path.write_text("no key")
        office = Office(opened(store))
        with pytest.raises(ConfigError, match="a key cannot be read"):
            await office.post.change(office.first)
        assert office.post.pid == 0
        assert (await office.ask()).reason == "leaf-signer-down"
        await office.post.close()

    in_loop(work, backend_name)


LOOK = """
import errno, pathlib, sys
from sluicegate.app.privileges import drop_capabilities
drop_capabilities(0)
for name in ("mem", "environ", "maps"):
    try:
        with open(f"/proc/{sys.argv[1]}/{name}", "rb") as file:
            print(name, len(file.read(16)))
    except OSError as error:
        print(name, errno.errorcode[error.errno])
"""


def test_signer_is_confined_and_nobody_of_its_user_reads_its_memory(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        async with Office(opened(make_store(tmp_path))) as office:
            await office.ask()
            pid = office.post.pid
            fields = dict(
                line.split(":\t", 1)
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            )
            assert fields["Name"] == "sluice-signer"
            assert (int(fields["CapEff"], 16), fields["NoNewPrivs"], fields["Seccomp"]) == (
                0, "1", "2",
            )  # fmt: skip
            open_files = descriptors(pid)
            assert not [one for one in open_files if "ca" in pathlib.PurePath(one).parts]
            done = subprocess.run(
                [sys.executable, "-c", LOOK, str(pid)], capture_output=True, text=True, check=True
            )
            assert done.stdout.split() == ["mem", "EACCES", "environ", "EACCES", "maps", "EACCES"]

    in_loop(work, backend_name)


# -- in a gate -------------------------------------------------------------------------------------


class InspectingGate(Gate):
    """A gate with authorities, and a filter that is after their keys."""

    def __init__(self, folder: pathlib.Path, server_port: int) -> None:
        super().__init__(folder, server_port)
        shutil.copy(THIEF, folder / "thief.py")
        (folder / "state").mkdir()
        self.store = make_store(folder / "state")

    def write_main(self, more: str = "") -> None:
        filters = '[[filter]]\nname = "thief"\nuse = "thief.py:KeyThief"\n'
        super().write_main(filters + "[ca]\n" + more)

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        super().write_policy(clients)
        policy = self.folder / "policy.toml"
        policy.write_text(policy.read_text() + 'filters = ["thief"]\n')

    def signer(self) -> dict[str, Any]:
        (row,) = [one for one in self.status()["workers"] if one["name"] == "signer"]
        return row

    def steal(self, *paths: pathlib.Path) -> dict[str, str]:
        with self.connect() as client:
            client.sendall(json.dumps([str(one) for one in paths]).encode())
            with client.makefile("rb") as lines:
                found: dict[str, str] = json.loads(lines.readline())
        return found


@pytest.fixture
def kind() -> type[InspectingGate]:
    return InspectingGate


KEYS = ("ca.key", "untrusted.key", "next.key")


@pytest.mark.either_driver
@pytest.mark.parametrize("isolation", ["", 'isolation = "process"\n'], ids=["worker", "cell"])
def test_keys_are_out_of_reach_of_workers_filters_and_cells(
    gate: InspectingGate, isolation: str
) -> None:
    gate.write_main()
    text = gate.config.read_text()
    gate.config.write_text(text.replace('KeyThief"\n', f'KeyThief"\n{isolation}'))
    gate.store.prepare(generate_key("p256"), "second", 365)
    gate.start()
    paths = [gate.folder / "state" / "ca" / name for name in KEYS]
    through = pathlib.Path("/proc/self/root") / paths[0].relative_to("/")
    link = gate.folder / "link"
    link.symlink_to(paths[0])
    found = gate.steal(*paths, through, link, gate.folder / "thief.py")
    assert [found[str(one)] for one in (*paths, through, link)] == ["PermissionError"] * 5
    if not isolation:  # what it may read shows that it tries
        assert found[str(gate.folder / "thief.py")].startswith("read ")
    supervisor = gate.status()["pid"]
    open_there = os.listdir(f"/proc/{supervisor}/fd")
    descriptors = [pathlib.Path(f"/proc/{supervisor}/fd/{one}") for one in open_there]
    by_descriptor = gate.steal(*descriptors[:40])
    assert not [one for one in descriptors[:40] if by_descriptor[str(one)].startswith("read ")]
    assert gate.end() == 0


@pytest.mark.either_driver
def test_gate_does_not_start_where_workers_could_read_the_keys(gate: InspectingGate) -> None:
    gate.write_main("[service]\nsandbox = false\n")
    done = gate.ask("run", "--workers", "1")
    assert done.returncode == 2
    assert "within reach of workers" in done.stderr


@pytest.mark.either_driver
@pytest.mark.parametrize(
    ("name", "mode", "cause"),
    [
        ("ca.key", 0o640, "others than its owner may read or change it"),
        ("untrusted.key", 0o604, "others than its owner may read or change it"),
        ("ca.pem", 0o666, "others can write it"),
    ],
)
def test_files_that_others_can_change_or_keys_that_they_can_read_are_refused(
    gate: InspectingGate, name: str, mode: int, cause: str
) -> None:
    (gate.folder / "state" / "ca" / name).chmod(mode)
    for command in (("check",), ("run", "--workers", "1")):
        done = gate.ask(*command)
        assert done.returncode == 2
        assert cause in done.stderr


@pytest.mark.either_driver
def test_signer_of_a_gate_is_replaced_recorded_and_shown(gate: InspectingGate) -> None:
    gate.start()
    before = gate.signer()
    assert before["state"] == "ready"
    os.kill(before["pid"], signal.SIGKILL)
    gate.wait_for("the signer works again")
    after = gate.signer()
    assert (after["restarts"], after["pid"] != before["pid"]) == (1, True)
    assert gate.end() == 0
    (record,) = gate.records("process")
    assert (record["process"], record["pid"], record["cause"]) == (
        "signer", before["pid"], "signal SIGKILL",
    )  # fmt: skip
    wait_until_gone({after["pid"]})


@pytest.mark.either_driver
def test_reload_takes_over_a_successor_and_refuses_keys_that_are_wrong(
    gate: InspectingGate,
) -> None:
    gate.start()
    first = gate.signer()["pid"]
    gate.ask("reload")
    assert gate.signer()["pid"] == first, "nothing has changed"
    gate.store.prepare(generate_key("p256"), "second", 365)
    gate.store.rotate()
    assert gate.ask("reload").returncode == 0
    second = gate.signer()["pid"]
    assert second != first
    settings = gate.store.settings
    settings.certificate_path.write_bytes(settings.untrusted_certificate_path.read_bytes())
    refused = gate.ask("reload")
    assert refused.returncode == 2
    assert "another certificate's" in refused.stderr
    assert gate.signer()["pid"] == second
    with gate.connect() as client:
        client.sendall(b"[]")
        assert client.recv(1) == b"{"


@pytest.mark.either_driver
def test_upgrade_goes_on_with_the_same_keys_and_a_signer_of_its_own(gate: InspectingGate) -> None:
    gate.start()
    before = gate.signer()["pid"]
    # As if root had opened them: the next version could not.
    folder = gate.folder / "state" / "ca"
    folder.rename(folder.with_name("elsewhere"))
    folder.mkdir()
    assert gate.ask("upgrade").returncode == 0
    gate.wait_for("all workers are of this version")
    after = gate.signer()
    assert (after["state"], after["pid"] != before) == ("ready", True)
    os.kill(after["pid"], signal.SIGKILL)
    gate.wait_for("the signer works again")
    assert gate.end() == 0


@pytest.mark.either_driver
@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_keys_of_root_are_opened_before_the_gate_changes_its_user() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        server = EchoServer()
        made = InspectingGate(folder, server.port)
        made.write_main('[service]\nuser = "daemon"\n')
        shutil.chown(folder / "state", "daemon")
        try:
            made.start(*reachable())
            assert made.signer()["state"] == "ready"
            paths = [folder / "state" / "ca" / name for name in KEYS]
            found = made.steal(*paths)
            assert [found[str(one)] for one in paths] == ["PermissionError"] * 3
            signer = made.signer()["pid"]
            assert made.ask("reload").returncode == 0
            assert made.signer()["pid"] == signer
            os.kill(signer, signal.SIGKILL)
            made.wait_for("the signer works again")
            assert made.end() == 0
        finally:
            made.close()
            server.close()


@pytest.mark.either_driver
def test_gate_in_one_process_has_a_signer_and_warns(tmp_path: pathlib.Path) -> None:
    server = EchoServer()
    made = InspectingGate(tmp_path, server.port)
    made.mode = ("--inline",)
    try:
        made.start()
        assert any("within reach" in one for one in made.status()["warnings"])
        found = made.steal(tmp_path / "thief.py")
        assert found[str(tmp_path / "thief.py")].startswith("read ")
        assert made.end() == 0
    finally:
        made.close()
        server.close()
