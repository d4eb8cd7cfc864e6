"""The asking end of the control socket: one question to a running gate.

The commands use it. The invariant: a gate that does not answer is an error with a cure, never a
command that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib

import msgspec

from sluicegate.errors import SluicegateError
from sluicegate.process_limits import CONTROL_REPLY_BYTES_MAX, CONTROL_TIMEOUT_S

from .control_messages import (
    AnyReply,
    MessageTooLong,
    Request,
    decode_reply,
    read_message,
    write_message,
)

__all__ = ["GateUnreachable", "ask_gate"]


class GateUnreachable(SluicegateError):
    """No gate answered: ``cause`` and ``cure`` are for people."""

    def __init__(self, path: pathlib.Path, cause: str, cure: str) -> None:
        super().__init__(f"{path}: {cause} ({cure})")
        self.path = path
        self.cause = cause
        self.cure = cure


async def ask_gate(
    path: pathlib.Path, request: Request, *, timeout_s: float = CONTROL_TIMEOUT_S
) -> AnyReply:
    """Ask one thing of the gate whose control socket is ``path``.

    Raises:
        GateUnreachable: No gate answered in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _ask(path, request)
    except FileNotFoundError:
        raise GateUnreachable(
            path, "no gate runs here", "start it with: sluicegate run; or choose its --config"
        ) from None
    except ConnectionRefusedError:
        raise GateUnreachable(
            path, "the gate that made this socket is gone", "start it with: sluicegate run"
        ) from None
    except PermissionError:
        raise GateUnreachable(
            path, "not permitted", "run this command as the gate's user, or as root"
        ) from None
    except TimeoutError:
        raise GateUnreachable(
            path, f"no answer within {timeout_s:g} s", "see the gate's own output"
        ) from None
    except (OSError, asyncio.IncompleteReadError, MessageTooLong, msgspec.DecodeError) as error:
        raise GateUnreachable(
            path, f"the answer was cut: {error}", "is the gate of this version, and still alive?"
        ) from error


async def _ask(path: pathlib.Path, request: Request) -> AnyReply:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        write_message(writer, request)
        await writer.drain()
        return decode_reply(await read_message(reader, CONTROL_REPLY_BYTES_MAX))
    finally:
        writer.close()
        with contextlib.suppress(OSError):  # the answer, or its absence, is known by now
            await writer.wait_closed()
