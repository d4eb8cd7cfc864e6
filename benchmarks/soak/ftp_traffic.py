"""FTP through `ftp_access` and `exe_block`, against a real server: objects held, one refused."""

import asyncio
import contextlib
import ftplib
import io
import sys
from collections.abc import AsyncGenerator

from typing_extensions import override

from benchmarks.processes import BenchmarkError
from benchmarks.soak.kind import Kind, WrongAnswer, check, content

SIZES = {"small.txt": 3_000, "large.bin": 400_000}
EXECUTABLE = b"\x7fELF\x02\x01\x01".ljust(50_000, b"\0")
TIMEOUT_S = 20


class FtpTraffic(Kind):
    """A session of three downloads: two arrive, the executable does not."""

    name = "ftp"
    clients = 6

    @override
    def main_toml(self) -> str:
        return self.listener() + '[[filter]]\nname = "ftp_access"\n[[filter]]\nname = "exe_block"\n'

    @override
    def policy_toml(self) -> str:
        return self.publish('["ftp_access", "exe_block"]')

    @override
    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncGenerator[object]:
        served = self.site.folder / "served"
        served.mkdir()
        for number, (name, size) in enumerate(SIZES.items()):
            (served / name).write_bytes(b"=" + content(number, size))
        (served / "tool.bin").write_bytes(EXECUTABLE)
        # A real server, and no threads of ours: pyftpdlib, one process.
        port, folder = str(self.site.server_port), str(served)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pyftpdlib", "-i", "127.0.0.1", "-p", port, "-d", folder,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await self._until_there(process)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    async def _until_there(self, process: asyncio.subprocess.Process) -> None:
        for _ in range(200):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.site.server_port)
                writer.close()
                return
            if process.returncode is not None:
                break
            await asyncio.sleep(0.05)
        raise BenchmarkError("the FTP server does not start: is pyftpdlib installed?")

    @override
    async def one(self, client: str, number: int) -> int:
        return await asyncio.to_thread(self._session, client)

    def _session(self, client: str) -> int:
        count = 0
        try:
            with ftplib.FTP(timeout=TIMEOUT_S, source_address=(client, 0)) as ftp:
                ftp.connect("127.0.0.1", self.site.gate_port)
                ftp.login()
                for number, (name, size) in enumerate(SIZES.items()):
                    came = self._fetched(ftp, name)
                    count += check(came, b"=" + content(number, size))
                self._is_refused(ftp, "tool.bin")
        except (EOFError, ftplib.error_temp, ftplib.error_perm) as error:
            raise ConnectionError(str(error)) from error
        return count

    def _is_refused(self, ftp: ftplib.FTP, name: str) -> None:
        came = io.BytesIO()
        try:
            try:
                ftp.retrbinary(f"RETR {name}", came.write)
            except ConnectionError:
                ftp.voidresp()  # the data connection was reset; the control connection says why
        except ftplib.error_perm:
            if not came.getvalue():
                return
        raise WrongAnswer(f"{len(came.getvalue())} bytes of {name} came")

    def _fetched(self, ftp: ftplib.FTP, name: str) -> bytes:
        came = io.BytesIO()
        ftp.retrbinary(f"RETR {name}", came.write)
        return came.getvalue()
