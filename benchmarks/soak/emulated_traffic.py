"""Connections that a filter answers in the server's place; nothing is dialled for them."""

from typing_extensions import override

from benchmarks.soak.kind import Kind, check, connection, content

SIZE = 30_000


class EmulatedTraffic(Kind):
    """Ask, and get the answer of a filter."""

    name = "emulated"
    clients = 6

    @override
    def main_toml(self) -> str:
        filters = self.site.folder / "emulate.py"
        filters.write_text(EMULATE)
        return self.listener() + f'[[filter]]\nname = "emulate"\nuse = "{filters}:Emulates"\n'

    @override
    def policy_toml(self) -> str:
        return self.publish('["emulate"]')

    @override
    async def one(self, client: str, number: int) -> int:
        async with connection(self.site.gate_port, client) as (reader, writer):
            data = content(number, SIZE)
            writer.write(data)
            writer.write_eof()
            return check(await reader.read(-1), data[::-1])


EMULATE = '''
from sluicegate.filterapi import ConnectionFilter, DataFilter, Emulate


class Emulates(ConnectionFilter):
    """Answers every connection itself."""

    name = "emulate"

    def __init__(self):
        super().__init__(None)

    def make(self, connection, settings):
        return Emulate(Reverses())


class Reverses(DataFilter):
    """Sends back what it got, the last byte first."""

    async def run(self, client, server, connection):
        came = bytearray()
        while window := await client.receive():
            came += bytes(window)
        await client.send(bytes(came[::-1]))
'''
