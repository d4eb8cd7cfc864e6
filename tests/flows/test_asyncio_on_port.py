"""asyncio on the port: what programs use of a loop works, beside native operations."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import threading

import aiohttp
import aiohttp.web
import pytest

from sluicegate.address import SocketAddress
from sluicegate.errors import ConfigError
from sluicegate.limits import Limits
from sluicegate.port import (
    BackendUnavailable,
    CompletionPort,
    PortEventLoop,
    choose_backend,
    current_port,
    diagnosis,
    run,
)
from sluicegate.port.backend import POLL_IN, Operation


@pytest.fixture
def on_port(backend_name):
    """Run a coroutine on a port with the driver under test."""

    def run_it(main):
        async def checked():
            assert current_port().backend.name == backend_name
            return await main

        return run(checked(), backend=backend_name)

    return run_it


@contextlib.asynccontextmanager
async def echo_server(path: str | None = None):
    """Serve echoes; leaving waits for those that are being served."""
    serving: set[asyncio.Task[None]] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    if path is None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
    else:
        server = await asyncio.start_unix_server(echo, path)
    async with server:
        yield server.sockets[0].getsockname()
        await asyncio.gather(*serving)


def test_the_result_is_handed_back(on_port):
    async def main():
        return "result"

    assert on_port(main()) == "result"


def test_an_exception_is_handed_on(on_port):
    async def main():
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        on_port(main())


def test_streams_carry_bytes_both_ways(on_port):
    async def main():
        async def client(address: tuple[str, int], number: int) -> bool:
            reader, writer = await asyncio.open_connection(*address)
            data = bytes([number]) * 300_000
            writer.write(data)
            writer.write_eof()
            received = await reader.read(-1)
            writer.close()
            await writer.wait_closed()
            return received == data

        async with echo_server() as address:
            clients = [client(address, number) for number in range(20)]
            assert all(await asyncio.gather(*clients))

    on_port(main())


def test_datagrams_and_unix_sockets_work(on_port, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        received: asyncio.Future[bytes] = loop.create_future()

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                received.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
        sender, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=transport.get_extra_info("sockname")
        )
        sender.sendto(b"datagram")
        assert await received == b"datagram"
        sender.close()
        transport.close()
        async with echo_server(str(tmp_path / "socket")) as path:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"unix")
            assert await reader.readexactly(4) == b"unix"
            writer.close()
            await writer.wait_closed()

    on_port(main())


def test_a_descriptor_that_stays_ready_is_reported_again(on_port):
    async def main():
        loop = asyncio.get_running_loop()
        read_fd, write_fd = os.pipe()
        os.write(write_fd, b"abcdef")
        seen: list[bytes] = []
        done = loop.create_future()

        def on_readable():
            seen.append(os.read(read_fd, 1))
            if len(seen) == 6:
                loop.remove_reader(read_fd)
                done.set_result(None)

        loop.add_reader(read_fd, on_readable)
        await done
        assert b"".join(seen) == b"abcdef"
        os.close(read_fd)
        os.close(write_fd)

    on_port(main())


def test_timers_fire_in_order_on_the_ports_clock(on_port):
    async def main():
        loop = asyncio.get_running_loop()
        fired: list[int] = []
        begin = loop.time()
        assert abs(begin - current_port().clock.monotonic()) < 1
        for number in (3, 1, 2):
            loop.call_at(begin + number / 100, fired.append, number)
        await asyncio.sleep(0.05)
        assert fired == [1, 2, 3]
        assert loop.time() - begin >= 0.05
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()

    on_port(main())


def test_subprocesses_are_fed_read_and_waited_for(on_port):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; data = sys.stdin.read(); print(len(data)); sys.exit(7)",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate(b"x" * 200_000)
        assert output == b"200000\n"
        assert process.returncode == 7
        ended = await asyncio.gather(*(asyncio.create_subprocess_exec("true") for _ in range(4)))
        assert [await process.wait() for process in ended] == [0] * 4

    on_port(main())


def test_threads_reach_the_loop_and_are_reached(on_port):
    async def main():
        loop = asyncio.get_running_loop()
        assert await asyncio.to_thread(lambda: threading.current_thread().name) != "MainThread"
        assert await loop.run_in_executor(None, sum, [1, 2, 3]) == 6
        event = asyncio.Event()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(event.set))
        thread.start()
        await event.wait()
        thread.join()
        future = asyncio.run_coroutine_threadsafe
        result = await asyncio.to_thread(lambda: future(asyncio.sleep(0, "there"), loop).result())
        assert result == "there"

    on_port(main())


def test_signal_handlers_of_the_loop_are_called(on_port):
    async def main():
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, event.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await event.wait()
        assert loop.remove_signal_handler(signal.SIGUSR1)

    on_port(main())


def test_ctrl_c_cancels_the_main_task_and_cleans_up(on_port):
    cleaned: list[str] = []

    async def main():
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("main")

    with pytest.raises(KeyboardInterrupt):
        on_port(main())
    assert cleaned == ["main"]


def test_tasks_generators_and_executor_end_with_the_loop(on_port):
    ended: list[str] = []

    async def generator():
        try:
            yield 1
        finally:
            ended.append("generator")

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    kept: list[object] = []

    async def main():
        kept.append(asyncio.ensure_future(forever()))
        kept.append(generator())
        await anext(kept[1])
        await asyncio.to_thread(lambda: None)
        await asyncio.sleep(0)

    on_port(main())
    assert sorted(ended) == ["generator", "task"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]


def test_aiohttp_serves_and_fetches(on_port):
    async def main():
        async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
            return aiohttp.web.Response(body=(await request.read()) * 2)

        application = aiohttp.web.Application()
        application.router.add_post("/", answer)
        runner = aiohttp.web.AppRunner(application)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = runner.addresses[0]
        url = f"http://{address[0]}:{address[1]}/"
        async with aiohttp.ClientSession() as session:

            async def fetch(number: int) -> bool:
                body = bytes([number]) * 50_000
                async with session.post(url, data=body) as response:
                    return await response.read() == body * 2

            assert all(await asyncio.gather(*(fetch(number) for number in range(20))))
        await runner.cleanup()

    on_port(main())


def test_native_sockets_and_streams_talk_to_each_other(on_port):
    async def main():
        async with echo_server() as address:
            sock = await current_port().connect(SocketAddress(*address))
            for size in (1, 1000, 100_000):
                sent = random.Random(size).randbytes(size)
                await sock.send(sent)
                received = b""
                while len(received) < size:
                    received += bytes(await sock.receive())
                assert received == sent
            sock.close()

    on_port(main())


class PingPong:
    """Native operations that never pause: one byte to and fro between two sockets."""

    def __init__(self, port) -> None:
        self.backend = port.backend
        self.ends = socket.socketpair()
        self.turns = 0
        self.operations = [
            Operation(lambda result, _, end=end: self.on_ready(end, result)) for end in (0, 1)
        ]
        for end in (0, 1):
            self.start(end)
        self.ends[0].send(b"x")

    def start(self, end: int) -> None:
        self.backend.poll(self.operations[end], self.ends[end].fileno(), POLL_IN)

    def on_ready(self, end: int, result: int) -> None:
        if result < 0:
            return
        self.turns += 1
        self.ends[end].send(self.ends[end].recv(1))
        self.start(end)

    async def stop(self) -> None:
        for operation in self.operations:
            self.backend.cancel(operation)
        while any(operation.in_flight for operation in self.operations):
            await asyncio.sleep(0)
        for end in self.ends:
            end.close()


def test_busy_native_traffic_does_not_hold_up_asyncio(on_port):
    async def main():
        traffic = PingPong(current_port())
        async with echo_server() as address:
            reader, writer = await asyncio.open_connection(*address)
            rounds = 0
            while rounds < 10 or traffic.turns <= 100:
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
                await asyncio.sleep(0.001)
                rounds += 1
                assert rounds < 10_000, "nothing goes back and forth"
            await traffic.stop()
            writer.close()
            await writer.wait_closed()

    on_port(main())


def test_busy_asyncio_does_not_hold_up_native_traffic(on_port):
    async def main():
        traffic = PingPong(current_port())
        while traffic.turns < 100:
            await asyncio.sleep(0)
        await traffic.stop()
        assert traffic.turns >= 100

    on_port(main())


def test_a_native_completion_ends_the_wait_of_a_task(on_port):
    async def main():
        port = current_port()
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        port.call_after(0.01, lambda: future.set_result("timer"))
        assert await future == "timer"
        posted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        port.post(lambda: posted.set_result("posted"))
        assert await posted == "posted"
        assert await port.run_blocking(lambda: "blocking") == "blocking"

    on_port(main())


def test_a_native_completion_may_set_an_asyncio_timer(on_port):
    async def main():
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()
        current_port().call_after(0.01, lambda: loop.call_later(0.01, done.set_result, "called"))
        async with asyncio.timeout(60):
            assert await done == "called"

    on_port(main())


def test_a_native_completion_may_stop_the_loop(backend_name):
    bounds = Limits()
    port = CompletionPort(choose_backend(backend_name, bounds), limits=bounds)
    loop = PortEventLoop(port)
    turns: list[bool] = []
    port.call_after(0.01, lambda: (turns.append(loop.is_running()), loop.stop()))
    loop.run_forever()
    assert turns == [True]
    assert not loop.is_running()
    loop.close()


def test_descriptors_come_back(on_port):
    before = sorted(os.listdir("/proc/self/fd"))

    async def main():
        await asyncio.sleep(0.001)
        current_port().backend.poll(Operation(lambda *_: None), 0, POLL_IN)

    on_port(main())
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_there_is_no_port_on_other_loops():
    async def main():
        current_port()

    with pytest.raises(RuntimeError, match="waits on no port"):
        asyncio.run(main())


@pytest.mark.usefixtures("backend_name")
def test_a_driver_asked_for_by_name_is_never_replaced(monkeypatch):
    def refuse(_limits: Limits) -> None:
        raise BackendUnavailable("refused", "allow it")

    async def main():
        return current_port().backend.name

    monkeypatch.setattr(diagnosis, "UringBackend", refuse)
    monkeypatch.delenv(diagnosis.BACKEND_VARIABLE)
    with pytest.raises(BackendUnavailable):
        run(main(), backend="io_uring")
    assert run(main()) == "epoll"
    monkeypatch.setenv(diagnosis.BACKEND_VARIABLE, "io_uring")
    with pytest.raises(BackendUnavailable):
        run(main())


@pytest.mark.usefixtures("backend_name")
def test_the_environment_decides_where_nobody_else_does(monkeypatch):
    async def main():
        return current_port().backend.name

    monkeypatch.setenv(diagnosis.BACKEND_VARIABLE, "epoll")
    assert run(main()) == "epoll"
    assert diagnosis.diagnose().backend == "epoll"
    monkeypatch.setenv(diagnosis.BACKEND_VARIABLE, "kqueue")
    with pytest.raises(ConfigError, match="kqueue"):
        run(main())


def test_a_diagnosis_says_what_is_lost_and_what_cures_it(monkeypatch):
    def refuse(*_args: object) -> None:
        raise BackendUnavailable("the sysctl kernel.io_uring_disabled is 2", "sysctl -w")

    monkeypatch.delenv(diagnosis.BACKEND_VARIABLE)
    monkeypatch.setattr(diagnosis, "Ring", refuse)
    found = diagnosis.diagnose()
    assert found.backend == "epoll"
    assert found.lost
    assert str(found).endswith("cure: sysctl -w")
    with pytest.raises(BackendUnavailable):
        diagnosis.diagnose("io_uring")
