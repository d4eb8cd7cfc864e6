"""Owned bytes with a lease count, and read-only windows on them.

The port receives into buffers and sends from them; the same object travels through a chain of
filters without a copy. The invariant: bytes are reused only when nobody can see them, so a slice
that somebody kept never shows another client's data: a window knows the generation of its buffer,
and a view that outlived its lease is found by the reference count of the memory it exports.
"""

from __future__ import annotations

import ctypes
import sys
from types import TracebackType
from typing import Final

from typing_extensions import override

from .errors import BadContext, WindowExpired

__all__ = ["Buffer", "ConstBuffer", "Lease", "Window", "extent"]


class Buffer:
    """Writable bytes with an allocated and a used size.

    Whoever made the buffer may write, until it was sent; then nobody, until the leases are back.
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "allocated",
        "exported",
        "generation",
        "leases",
        "memory",
        "used",
        "view",
    )

    def __init__(self, size: int) -> None:
        self.memory: bytearray | bytes = bytearray(size)
        #: The object that owns the bytes.
        self.view = memoryview(self.memory)
        #: The port's own permanent view; never handed to a filter.
        self.allocated = size
        self.used = 0
        self.leases = 0
        #: Operations in flight and views handed out; the memory is stable while it is not zero.
        self.generation = 0
        #: Incremented whenever the bytes may change hands; windows of older generations expire.
        self.exported = False
        #: Whether a view was ever handed out in this generation.
        self._address = 0

    @property
    def address(self) -> int:
        """Where the bytes are, for the kernel; fixed for the buffer's life."""
        if not self._address:
            # The ctypes object holds an export, which forbids a resize; only its address is kept,
            # because ``self.view`` holds an export for as long as the buffer lives.
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        return self._address

    def append(self, data: bytes | bytearray | memoryview) -> int:
        """Copy ``data`` behind the used bytes; never grows, returns how many bytes fitted.

        Raises:
            BadContext: The buffer was sent and its leases are not back.
        """
        self._check_writable()
        taken = min(len(data), self.allocated - self.used)
        self.view[self.used : self.used + taken] = data[:taken]
        self.used += taken
        return taken

    def set_size(self, used: int) -> None:
        """Set the used size, after writing or to reuse the buffer.

        Raises:
            ValueError: ``used`` is negative or above the allocated size.
        """
        if not 0 <= used <= self.allocated:
            raise ValueError(f"used size {used} is not within 0..{self.allocated}")
        self._check_writable()
        self.used = used

    def window(self, offset: int = 0, length: int | None = None) -> Window:
        """Return a read-only window on the used bytes.

        Raises:
            ValueError: The range is not within the used bytes.
        """
        if length is None:
            length = self.used - offset
        if offset < 0 or length < 0 or offset + length > self.used:
            raise ValueError(f"window {offset}+{length} is not within {self.used} used bytes")
        return Window(self, offset, length)

    def lease(self) -> None:
        """Keep the bytes stable until ``release``; counted."""
        self.leases += 1

    def release(self) -> None:
        """Give one lease back; the last one ends the generation of a shared buffer."""
        assert self.leases > 0, "a lease was released twice"
        self.leases -= 1
        if not self.leases:
            self.on_idle()

    def on_idle(self) -> None:
        """Run when the last lease came back; shared buffers return to their pool here."""

    def on_view_kept(self) -> None:
        """Run when a lease ended and a slice of its view lives on; shared buffers note whose."""

    def is_exported(self) -> bool:
        """Tell whether somebody outside still holds a view of the memory."""
        return sys.getrefcount(self.memory) > _REFERENCES_AT_REST

    def _check_writable(self) -> None:
        if self.leases:
            raise BadContext("the buffer is in flight: wait for the completion before writing")

    def __len__(self) -> int:
        return self.used


class ConstBuffer(Buffer):
    """A buffer over bytes that somebody else owns and that never change."""

    __slots__ = ("_pin",)

    def __init__(self, data: bytes) -> None:
        self.memory = data
        self.view = memoryview(data)
        self.allocated = self.used = len(data)
        self.leases = 0
        self.generation = 0
        self.exported = False
        self._address = 0

    @property
    @override
    def address(self) -> int:
        """Where the bytes are; ``view`` keeps them there."""
        if not self._address:
            self._address = (
                ctypes.cast(ctypes.c_char_p(bytes(self.memory)), ctypes.c_void_p).value or 0
            )
        return self._address

    @override
    def _check_writable(self) -> None:
        raise BadContext("the buffer is constant")


class Window:
    """A read-only slice of a buffer, valid while its buffer stays in the same generation.

    Its bytes are reached by ``bytes(window)`` (a copy) or, without one, by
    ``with window.lease() as view:``.
    """

    __slots__ = ("_generation", "buffer", "length", "start")

    def __init__(self, buffer: Buffer, start: int, length: int) -> None:
        self.buffer = buffer
        self.start = start
        self.length = length
        self._generation = buffer.generation

    def window(self, offset: int = 0, length: int | None = None) -> Window:
        """Return a window on a part of this one.

        Raises:
            ValueError: The range is not within this window.
            WindowExpired: The bytes belong to somebody else by now.
        """
        if length is None:
            length = self.length - offset
        if offset < 0 or length < 0 or offset + length > self.length:
            raise ValueError(f"window {offset}+{length} is not within {self.length} bytes")
        self.check()
        return Window(self.buffer, self.start + offset, length)

    def lease(self) -> Lease:
        """Return a context manager that gives a read-only ``memoryview``, without a copy."""
        return Lease(self)

    def is_valid(self) -> bool:
        """Tell whether the bytes are still this window's."""
        return self._generation == self.buffer.generation

    def check(self) -> None:
        """Raise ``WindowExpired`` if the bytes belong to somebody else by now."""
        if self._generation != self.buffer.generation:
            raise WindowExpired("the window was used after its time; copy it with bytes(window)")

    def __bytes__(self) -> bytes:
        if self._generation != self.buffer.generation:
            self.check()
        return self.buffer.view[self.start : self.start + self.length].tobytes()

    def __len__(self) -> int:
        return self.length

    @override
    def __repr__(self) -> str:
        return f"Window({self.length} bytes at {self.start})"


class Lease:
    """Access to a window's bytes without a copy, for the length of a ``with`` block."""

    __slots__ = ("_view", "_window")

    def __init__(self, window: Window) -> None:
        self._window = window
        self._view: memoryview | None = None

    def __enter__(self) -> memoryview:
        window = self._window
        window.check()
        buffer = window.buffer
        buffer.leases += 1
        buffer.exported = True
        # A managed buffer of its own: it holds a reference to the memory for as long as any slice
        # of this view lives, which is how a kept slice is found.
        whole = memoryview(buffer.memory)
        self._view = whole[window.start : window.start + window.length].toreadonly()
        return self._view

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        view, self._view = self._view, None
        if view is not None:
            buffer = self._window.buffer
            references = sys.getrefcount(buffer.memory)
            try:
                view.release()
            except BufferError:
                # Something exports the view (an array, say): the pool sees it and replaces it.
                pass
            finally:
                del view
                if sys.getrefcount(buffer.memory) >= references:
                    buffer.on_view_kept()
                buffer.release()


def extent(data: Buffer | Window | bytes) -> tuple[Buffer, int, int]:
    """Return the buffer behind ``data`` and the range it names.

    Raises:
        WindowExpired: The window's bytes belong to somebody else by now.
    """
    if isinstance(data, Window):
        data.check()
        return data.buffer, data.start, data.length
    if isinstance(data, bytes):
        return ConstBuffer(data), 0, len(data)
    return data, 0, data.used


def _references_at_rest() -> int:
    """Return the reference count of a buffer's memory that nobody else holds."""
    probe = Buffer(1)
    return sys.getrefcount(probe.memory)


_REFERENCES_AT_REST: Final = _references_at_rest()
