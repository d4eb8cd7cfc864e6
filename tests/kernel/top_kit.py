"""A control socket that answers as a test wants, for the dashboard to look at."""

from __future__ import annotations

import asyncio
import pathlib
import threading

from sluicegate.audit.alerts import Raising
from sluicegate.gate.control_messages import (
    AcknowledgedReply,
    AcknowledgeRequest,
    AlertsReply,
    AlertsRequest,
    AnyReply,
    ConnectionsReply,
    ConnectionsRequest,
    DoneReply,
    FiltersReply,
    FiltersRequest,
    KilledReply,
    KillRequest,
    MeasuresReply,
    MeasuresRequest,
    RefusedReply,
    SessionsReply,
    SessionsRequest,
    StatusReply,
    StatusRequest,
    TransfersReply,
    TransfersRequest,
    decode_request,
    read_message,
    write_message,
)
from sluicegate.gate.views import (
    ConnectionView,
    FilterView,
    ScannerView,
    SessionView,
    TransferView,
    WorkerView,
)
from sluicegate.metrics import Series
from tests.status_views import status_view

__all__ = ["FakeGate", "connection_view", "session_view", "transfer_view"]


class FakeGate:
    """A gate of answers, on a thread with a loop of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.config = folder / "sluicegate.toml"
        self.config.write_text('[[listener]]\nname = "web"\naddress = "127.0.0.1:0"\n')
        (folder / "state").mkdir(exist_ok=True)
        self.control = folder / "state" / "control.sock"
        self.log = folder / "state" / "records.jsonl"
        self.log.touch()
        self.status = status_view(
            version="0.1.0", pid=4711, boot="b1", diagnosis="a test's", started=1_000.0,
            policy="0123456789abcdef",
        )  # fmt: skip
        self.connections: list[ConnectionView] = []
        self.sessions: list[SessionView] = []
        self.transfers: list[TransferView] = []
        self.filters: list[FilterView] = []
        self.workers: list[WorkerView] = []
        self.scanners: list[ScannerView] = []
        self.paths = {"spliced": 0.0, "inspected": 0.0}
        self.killed: list[str] = []
        self.alerts: list[Raising] = []
        self.has_alerter = True
        self.refuses_kills = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,))
        self._thread.start()
        assert ready.wait(60)

    def stop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()
            self._loop = self._thread = None
            self.control.unlink(missing_ok=True)

    def _run(self, ready: threading.Event) -> None:
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        server = await asyncio.start_unix_server(self._answer, self.control)
        async with server:
            ready.set()
            await self._over.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        write_message(writer, self._reply(await read_message(reader, 1 << 20)))
        await writer.drain()
        writer.close()

    def _reply(self, message: bytes) -> AnyReply:  # noqa: PLR0911 - one for each question
        match decode_request(message):
            case StatusRequest():
                self.status.connections = len(self.connections)
                self.status.workers = self.workers
                self.status.scanners = self.scanners
                self.status.alerts_open = sum(row.state == "open" for row in self.alerts)
                return StatusReply(status=self.status)
            case ConnectionsRequest():
                return ConnectionsReply(rows=self.connections, total=len(self.connections))
            case SessionsRequest():
                return SessionsReply(rows=self.sessions, total=len(self.sessions))
            case TransfersRequest():
                return TransfersReply(rows=self.transfers, total=len(self.transfers))
            case AlertsRequest():
                if not self.has_alerter:
                    return RefusedReply(causes=["this process raises none"])
                return AlertsReply(rows=self.alerts, total=len(self.alerts))
            case AcknowledgeRequest(alerts=names):
                found = [row for row in self.alerts if row.raising in names and row.state == "open"]
                for row in found:
                    row.state = "acknowledged"
                return AcknowledgedReply(acknowledged=[row.raising for row in found])
            case FiltersRequest():
                return FiltersReply(rows=self.filters)
            case MeasuresRequest():
                name = "sluicegate_traffic_path_bytes"
                series = [Series(name, (path,), value) for path, value in self.paths.items()]
                return MeasuresReply(series=series)
            case KillRequest(identifiers=identifiers):
                if self.refuses_kills:
                    return RefusedReply(causes=["not now"])
                known = {row.connection for row in self.connections}
                known |= {row.session for row in self.sessions}
                found = [one for one in identifiers if one in known]
                self.killed += found
                self.connections = [r for r in self.connections if r.connection not in found]
                return KilledReply(killed=found)
            case _:
                return DoneReply()


def connection_view(
    number: int = 1,
    *,
    client: str = "10.0.0.1:5000",
    rule: str = "web",
    asked: str = "example.com:443",
    started: float = 1_500.0,
    bytes_to_client: int = 0,
) -> ConnectionView:
    return ConnectionView(
        connection=f"c-{number}",
        session="s-1",
        client=client,
        server="192.0.2.1:443",
        listener="web",
        rule=rule,
        state="open",
        started=started,
        asked=asked,
        bytes_to_client=bytes_to_client,
    )


def session_view(client: str = "10.0.0.1", user: str = "") -> SessionView:
    return SessionView(
        session="s-1", client=client, started=1_400.0, idle_s=0.0, connections=1, user=user
    )


def transfer_view(name: str = "report.pdf") -> TransferView:
    return TransferView(
        connection="c-1",
        session="s-1",
        client="10.0.0.1:5000",
        rule="web",
        name=name,
        direction="download",
        protocol="http",
        stage="judging",
        started=1_600.0,
        bytes_held=4096,
    )
