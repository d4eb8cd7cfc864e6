"""The demonstration played: servers and a gate started, every object asked for, all of it ended.

``cli demo`` calls ``run_demo``. The invariant: an outcome counts as right only if the client's
bytes, the gate's record and what was expected agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import pathlib
import tempfile
from collections.abc import AsyncGenerator, Callable
from typing import Final

from sluicegate.address import SocketAddress
from sluicegate.app.authority_files import OpenAuthority, open_authority
from sluicegate.app.authority_store import AuthorityStore, generate_key
from sluicegate.app.build import Gate
from sluicegate.app.load import Loaded, load
from sluicegate.app.machine import make_directory
from sluicegate.app.processes.signer_post import SignerPost
from sluicegate.audit.query import LogFile, LogLine
from sluicegate.clock import SystemClock
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError
from sluicegate.port.diagnosis import diagnose
from sluicegate.port.loop import current_port, run
from sluicegate.sandbox.wire import WireSocket

from .certificates import SERVERS_AUTHORITY, TLS_SERVERS, write_certificates
from .clients import Seen, fetch_by_ftp, fetch_by_http, fetch_by_https, post_by_http
from .content import CARD_FORM, LARGE_PATH, UPLOADS, large_digest
from .memory import forget_peak, peak_rss_bytes
from .origin import run_origin
from .outcome import Demo, DemoOutcome, DemoReport, Fetched
from .scenario import Case, cases, configuration, find_clamd, policy
from .staying import stay

__all__ = ["run_demo"]


def run_demo(
    say: Callable[[str], None],
    on_fetched: Callable[[Fetched], None],
    *,
    is_quick: bool = False,
    on_played: Callable[[Demo], None] | None = None,
) -> Demo:
    """Move every object of the script through a gate, and say what became of each.

    Args:
        say: Shows a line of progress.
        on_fetched: Told of each object.
        is_quick: Leave the largest out.
        on_played: Told when all of it is over; servers, gate and a console then stay until a signal
            comes. None: everything ends.

    Raises:
        ConfigError: pyftpdlib is missing, or there is no room for the files.
        BackendUnavailable: The environment asks for io_uring, and it is refused.
    """
    if importlib.util.find_spec("pyftpdlib") is None:
        raise ConfigError(
            "sluicegate demo",
            "pyftpdlib is missing: the demonstration needs an FTP server to stand behind the gate",
            "pip install 'sluicegate[demo]'",
        )
    clamd = find_clamd()
    script = cases(is_quick=is_quick, has_clamd=bool(clamd))
    try:
        with tempfile.TemporaryDirectory(prefix="sluicegate-demo-", dir=_disk()) as folder:
            played = _Demonstration(pathlib.Path(folder), script, clamd, say, on_fetched, on_played)
            return run(played.live())
    except OSError as error:
        raise ConfigError(
            "sluicegate demo",
            f"the temporary folder cannot be used: {error.strerror}",
            "set TMPDIR to a folder with 1.5 GiB free, on a disk; --quick needs 300 MiB",
        ) from error


def _disk() -> str | None:
    """Return a folder for temporary files that is no memory file system, where there is one."""
    wanted = os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - a private folder is made there
    return wanted if os.access(wanted, os.W_OK) else None


class _Demonstration:
    """One run."""

    def __init__(
        self,
        folder: pathlib.Path,
        script: tuple[Case, ...],
        clamd: str,
        say: Callable[[str], None],
        on_fetched: Callable[[Fetched], None],
        on_played: Callable[[Demo], None] | None,
    ) -> None:
        self._folder = folder
        self._origin_folder = folder / "origin"
        self._script = script
        self._clamd = clamd
        self._say = say
        self._on_fetched = on_fetched
        self._on_played = on_played
        self._clock = SystemClock()
        self._seed = os.urandom(16)
        self._digests: dict[str, str] = {}
        self._tls: dict[str, SocketAddress] = {}
        #: The servers inside TLS, by name.

    async def live(self) -> Demo:
        """Start the servers and the gate, ask for everything, and end them."""
        report = DemoReport(backend=current_port().backend.name, outcomes=[])
        demo = Demo(report, len(self._script))
        self._say("making the servers' files")
        await asyncio.to_thread(self._make_files)
        seed = self._seed.hex()
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            ftp = await enter(run_origin("ftp", self._origin_folder))
            web = await enter(run_origin("web", self._origin_folder, seed))
            for name in TLS_SERVERS:
                file = str(self._folder / f"{name}.pem")
                self._tls[name] = await enter(run_origin("web", self._origin_folder, seed, file))
            gate = await enter(self._gate(ftp, web))
            log = LogFile(gate.loaded.configuration.log_path)
            for case in self._script:
                self._say(f"{_DOING[case.way]} {case.path}")
                fetched = await self._play(case, gate, web, log, demo)
                demo.fetched.append(fetched)
                demo.report.outcomes.append(fetched.outcome)
                self._on_fetched(fetched)
            if self._on_played is not None:
                demo.records.extend(log.new_lines())
                self._on_played(demo)
                await stay(gate, self._clock, self._say)
        demo.records.extend(log.new_lines())
        log.close()
        return demo

    def _make_files(self) -> None:
        self._origin_folder.mkdir()
        write_certificates(self._folder, self._clock.wall())
        for case in self._script:
            if case.content is not None:
                content = case.content()
                path = self._origin_folder / case.path
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
                self._digests[case.path] = hashlib.sha256(content).hexdigest()
            elif case.path == LARGE_PATH:
                self._digests[case.path] = large_digest(self._seed)

    @contextlib.asynccontextmanager
    async def _gate(self, ftp: SocketAddress, web: SocketAddress) -> AsyncGenerator[Gate]:
        """Run a gate in front of the servers, from files as an operator writes them."""
        main, rules = (
            configuration(self._clamd, has_console=self._on_played is not None),
            policy(ftp, web, self._tls, self._clamd),
        )
        (self._folder / "sluicegate.toml").write_text(main, encoding="utf-8")
        (self._folder / "policy.toml").write_text(rules, encoding="utf-8")
        findings = Findings()
        loaded = load(self._folder / "sluicegate.toml", findings)
        if loaded is None:
            raise ConfigRefused(tuple(findings.errors))
        make_directory(loaded.configuration.state_dir, "TMPDIR")
        make_directory(loaded.configuration.spool_dir, "TMPDIR")
        diagnosis = str(diagnose())
        authority = self._make_authority(loaded)
        gate = Gate(
            loaded,
            current_port(),
            diagnosis=diagnosis,
            say=self._say,
            on_stop_requested=lambda _: None,
        )
        signer = SignerPost(
            self._clock,
            self._say,
            lambda _, __: gate.leaves.attach(WireSocket(fileno=signer.connect())),
        )
        try:
            await signer.change(authority)
            gate.authority = signer.chain
            await gate.start()
            self._say(
                f"FTP server on {ftp}, gate on {_listener(gate, 'ftp')}; web server on {web}, "
                f"proxy on {_listener(gate, 'web')}; backend {diagnosis}"
            )
            for warning in gate.warnings:
                self._say(f"warning: {warning}")
            yield gate
            await gate.drain(_PATIENCE_S)
        finally:
            await gate.stop()
            await signer.close()

    def _make_authority(self, loaded: Loaded) -> OpenAuthority:
        """Make the gate's authority, as ``sluicegate ca init`` does, and open it."""
        settings = loaded.configuration.authority
        assert settings is not None, "the configuration has [ca]"
        store = AuthorityStore(settings, self._clock, (os.getuid(), os.getgid()))
        store.make(generate_key("p256"), "the demonstration's authority", 1, None)
        findings = Findings()
        opened = open_authority(loaded.configuration, findings)
        if opened is None:
            raise ConfigRefused(tuple(findings.errors))
        return opened

    async def _play(
        self, case: Case, gate: Gate, web: SocketAddress, log: LogFile, demo: Demo
    ) -> Fetched:
        has_peak = forget_peak()
        began = self._clock.monotonic()
        seen = await asyncio.to_thread(self._ask, case, gate, web)
        elapsed_s = self._clock.monotonic() - began
        peak = peak_rss_bytes() if has_peak else None
        fields = (await self._record_of(case, log, demo)).fields
        verdict = str(fields["verdict" if case.record == "transfer" else "outcome"])
        is_whole = seen.sha256 == self._digests.get(case.path)
        outcome = DemoOutcome(
            name=case.name,
            bytes=int(fields.get("bytes", 0)),
            verdict=verdict,
            reason=str(fields["reason"]),
            sha256_ok=is_whole if verdict == "released" else None,
            bytes_to_client=seen.bytes_count,
            held_ms=float(fields.get("held_ms", 0.0)),
            peak_rss_bytes=peak,
        )
        is_right = verdict == case.verdict and self._is_as_told(case, seen, is_whole=is_whole)
        written = int(fields.get("bytes_written", 0))
        return Fetched(outcome, is_right, elapsed_s, seen.reply, written)

    def _is_as_told(self, case: Case, seen: Seen, *, is_whole: bool) -> bool:
        """Tell whether the receiver has what the verdict says, and the client was told so."""
        if case.way == "upload":
            has_object = (self._origin_folder / UPLOADS).exists()
        else:
            has_object = is_whole if case.verdict == "released" else seen.bytes_count > 0
        is_told = all(one in seen.reply for one in case.replies)
        return has_object == (case.verdict == "released") and is_told

    async def _record_of(self, case: Case, log: LogFile, demo: Demo) -> LogLine:
        """Wait until the gate has written the record of a transfer."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                new = list(log.new_lines())
                demo.records.extend(new)
                for line in new:
                    if line.text("kind") == case.record and self._is_about(line, case):
                        return line
                await asyncio.sleep(_LOOK_S)

    def _is_about(self, line: LogLine, case: Case) -> bool:
        if case.record == "connection":
            return line.text("server") == str(self._tls[case.server])
        if case.record == "request":
            return line.text("verdict") == "denied"
        protocol = "ftp" if case.way == "ftp" else "http"
        name = case.path.rpartition("/")[2]
        return line.text("name") == name and line.text("protocol") == protocol

    def _ask(self, case: Case, gate: Gate, web: SocketAddress) -> Seen:
        """Be the client of one object."""
        url = f"http://{web}/{case.path}"
        match case.way:
            case "ftp":
                return fetch_by_ftp(_listener(gate, "ftp"), case.path)
            case "http":
                return fetch_by_http(_listener(gate, "web"), url)
            case "upload":
                return post_by_http(_listener(gate, "web"), url, CARD_FORM)
            case "https":
                ours = gate.loaded.configuration.authority
                assert ours is not None, "the configuration has [ca]"
                trusted = ours.certificate_path
                if case.server == "own":
                    # It speaks to the server itself, and sees the server's own certificate.
                    trusted = self._folder / SERVERS_AUTHORITY
                proxy, server = _listener(gate, "web"), self._tls[case.server]
                return fetch_by_https(proxy, server, case.path, str(trusted), case.host)


def _listener(gate: Gate, name: str) -> SocketAddress:
    found = next(one for one in gate.service.listeners() if one.name == name)
    return SocketAddress.parse(found.address)


_DOING: Final = {
    "ftp": "fetching by FTP",
    "http": "fetching by HTTP",
    "upload": "sending a form to",
    "https": "fetching by HTTPS",
}
_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.02
