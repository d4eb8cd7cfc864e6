"""The kernel's submission and completion queues, mapped: io_uring by plain system calls.

``backends/uring`` is the only user: it packs entries, enters and reads completions itself, from
the views that a ``Ring`` holds; everything here runs once, at start and end. The invariant: the
ring is ``SINGLE_ISSUER | DEFER_TASKRUN``, so the kernel touches the queues only inside
``io_uring_enter`` on this very thread, and loads and stores from Python need no barriers. Any other
set-up is refused.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from sluicegate.errors import SluicegateError

__all__ = [
    "ENTER",
    "FEATURES_OPTIONAL",
    "BackendUnavailable",
    "BufferRing",
    "Ring",
    "Syscall",
    "io_uring_disabled",
    "is_seccomp_filtered",
    "syscall",
]

Syscall = Callable[..., int]

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# ``CDLL`` releases the GIL for the wait. Plain integers as arguments are what ctypes converts
# fastest (0.47 µs for the whole call, 1.1 µs with ``argtypes``).
syscall: Final[Syscall] = _LIBC.syscall

# The numbers are those of every 64-bit architecture since Linux 5.1.
_SETUP: Final = 425
ENTER: Final = 426
_REGISTER: Final = 427

_SETUP_CQSIZE: Final = 1 << 3
_SETUP_CLAMP: Final = 1 << 4
_SETUP_R_DISABLED: Final = 1 << 6
_SETUP_SUBMIT_ALL: Final = 1 << 7
_SETUP_SINGLE_ISSUER: Final = 1 << 12
_SETUP_DEFER_TASKRUN: Final = 1 << 13
_SETUP_NO_SQARRAY: Final = 1 << 16
SETUP_REQUIRED: Final = (
    _SETUP_CQSIZE
    | _SETUP_CLAMP
    | _SETUP_R_DISABLED
    | _SETUP_SUBMIT_ALL
    | _SETUP_SINGLE_ISSUER
    | _SETUP_DEFER_TASKRUN
)

# SINGLE_MMAP, NODROP, SUBMIT_STABLE, EXT_ARG, CQE_SKIP: all there since 5.17.
_FEATURES_REQUIRED: Final = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 11
_FEATURE_NO_IOWAIT: Final = 1 << 17

_ENTER_GETEVENTS: Final = 1 << 0
_ENTER_REGISTERED_RING: Final = 1 << 4
_ENTER_NO_IOWAIT: Final = 1 << 7

_REGISTER_RESTRICTIONS: Final = 11
_REGISTER_ENABLE_RINGS: Final = 12
_REGISTER_IOWQ_MAX_WORKERS: Final = 19
_REGISTER_RING_FDS: Final = 20
_REGISTER_PBUF_RING: Final = 22

_RESTRICTION_SQE_OP: Final = 1
_RESTRICTION_SQE_FLAGS_ALLOWED: Final = 2

_OFFSET_SQES: Final = 0x10000000

_PARAMS: Final = struct.Struct("<10I10I10I")
_RESTRICTION: Final = struct.Struct("<HBB12x")
_BUFFER_RING: Final = struct.Struct("<QIHH24x")
_RING_UPDATE: Final = struct.Struct("<IIQ")

FEATURES_OPTIONAL: Final = frozenset({"no_sqarray", "no_iowait"})
"""What is used where the kernel has it: ``no_sqarray`` since 6.6, ``no_iowait`` since 6.15. The
conformance suite also runs with all of them masked, which is how the driver behaves on 6.1."""

_KERNEL_CURE: Final = "run Linux 6.1 or newer"


class BackendUnavailable(SluicegateError):
    """A driver cannot run here: ``reason`` says why, ``cure`` what an operator can do."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(f"{reason} ({cure})")
        self.reason = reason
        self.cure = cure


class Ring:
    """One ring and its mappings; made disabled, then restricted, then enabled."""

    __slots__ = (
        "_maps",
        "_views",
        "buffers",
        "completions",
        "completions_size",
        "cq_head",
        "cq_tail",
        "enter_fd",
        "enter_flags",
        "entries",
        "entries_size",
        "fd",
        "features",
        "setup_flags",
        "sq_head",
        "sq_tail",
    )

    def __init__(
        self, entries: int, completions: int, *, features_masked: frozenset[str] = frozenset()
    ) -> None:
        """Set a ring up, disabled.

        Raises:
            BackendUnavailable: The kernel, a sysctl or a sandbox refuses it.
        """
        unknown = features_masked - FEATURES_OPTIONAL
        if unknown:
            raise ValueError(f"no such features: {', '.join(sorted(unknown))}")
        flags = SETUP_REQUIRED | _SETUP_NO_SQARRAY
        if "no_sqarray" in features_masked:
            flags = SETUP_REQUIRED
        try:
            params = self._set_up(entries, completions, flags)
        except OSError as error:
            if error.errno != errno.EINVAL or flags == SETUP_REQUIRED:
                raise _refusal(error) from error
            flags = SETUP_REQUIRED
            try:
                params = self._set_up(entries, completions, flags)
            except OSError as second:
                raise _refusal(second) from second
        self.setup_flags = flags
        self.features = frozenset({"no_sqarray"} if flags & _SETUP_NO_SQARRAY else ())
        self.enter_fd = self.fd
        self.enter_flags = _ENTER_GETEVENTS
        #: Added to the flags of each enter; ``GETEVENTS`` also runs the deferred work.
        if params[5] & _FEATURE_NO_IOWAIT and "no_iowait" not in features_masked:
            # Else an idle gate shows as 100 % iowait.
            self.enter_flags |= _ENTER_NO_IOWAIT
            self.features |= {"no_iowait"}
        self.buffers: list[BufferRing] = []
        self._maps: list[mmap.mmap] = []
        self._views: list[memoryview] = []
        try:
            self._map(params)
        except BaseException:
            self.close()
            raise

    def _set_up(self, entries: int, completions: int, flags: int) -> tuple[int, ...]:
        params = ctypes.create_string_buffer(_PARAMS.size)
        _PARAMS.pack_into(params, 0, 0, completions, flags, *(0,) * 27)
        fd = syscall(_SETUP, entries, params)
        if fd < 0:
            raise _last_error("io_uring_setup")
        self.fd = fd
        return _PARAMS.unpack(params.raw)

    def _map(self, params: tuple[int, ...]) -> None:
        self.entries_size, self.completions_size, features = params[0], params[1], params[5]
        if features & _FEATURES_REQUIRED != _FEATURES_REQUIRED:
            raise BackendUnavailable("the kernel's io_uring is too old", _KERNEL_CURE)
        sq_head_at, sq_tail_at, sq_array_at = params[10], params[11], params[16]
        cq_head_at, cq_tail_at, cqes_at = params[20], params[21], params[25]
        size = max(cqes_at + self.completions_size * 16, sq_array_at + self.entries_size * 4)
        queues = memoryview(self._map_at(0, size))
        self._views.append(queues)
        self.sq_head = self._words(queues, sq_head_at, 1)
        self.sq_tail = self._words(queues, sq_tail_at, 1)
        self.cq_head = self._words(queues, cq_head_at, 1)
        self.cq_tail = self._words(queues, cq_tail_at, 1)
        self.completions = queues[cqes_at : cqes_at + self.completions_size * 16]
        self._views.append(self.completions)
        self.entries = memoryview(self._map_at(_OFFSET_SQES, self.entries_size * 64))
        self._views.append(self.entries)
        if not self.setup_flags & _SETUP_NO_SQARRAY:
            array = self._words(queues, sq_array_at, self.entries_size)
            for index in range(self.entries_size):
                array[index] = index

    def _map_at(self, offset: int, size: int) -> mmap.mmap:
        mapping = mmap.mmap(self.fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=offset)
        # A forked child must not share the queues.
        mapping.madvise(mmap.MADV_DONTFORK)
        self._maps.append(mapping)
        return mapping

    def _words(self, queues: memoryview, start: int, count: int) -> memoryview:
        words = queues[start : start + count * 4].cast("I")
        self._views.append(words)
        return words

    def restrict(self, opcodes: Iterable[int], entry_flags: int) -> None:
        """Let the ring run these operations and no registration: seccomp sees neither."""
        rules = [(_RESTRICTION_SQE_OP, opcode) for opcode in opcodes]
        rules.append((_RESTRICTION_SQE_FLAGS_ALLOWED, entry_flags))
        packed = b"".join(_RESTRICTION.pack(kind, value, 0) for kind, value in rules)
        self._register(_REGISTER_RESTRICTIONS, packed, len(rules))

    def bound_workers(self, count: int) -> None:
        """Bound the kernel's worker threads, for files and for all else alike."""
        self._register(_REGISTER_IOWQ_MAX_WORKERS, struct.pack("<II", count, count), 2)

    def add_buffers(self, group: int, count: int) -> BufferRing:
        """Make the ring of a group of provided buffers with room for ``count``."""
        buffers = BufferRing(count)
        packed = _BUFFER_RING.pack(buffers.address, buffers.size, group, 0)
        self._register(_REGISTER_PBUF_RING, packed, 1)
        self.buffers.append(buffers)
        return buffers

    def enable(self) -> None:
        """Start; this thread becomes the only one that may submit."""
        update = ctypes.create_string_buffer(
            _RING_UPDATE.pack(0xFFFFFFFF, 0, self.fd), _RING_UPDATE.size
        )
        # Spares each enter the look-up of the descriptor, which costs an atomic once there are
        # threads. It is registered with the thread and must come before the restrictions hold.
        if syscall(_REGISTER, self.fd, _REGISTER_RING_FDS, update, 1) == 1:
            self.enter_fd = _RING_UPDATE.unpack(update.raw)[0]
            self.enter_flags |= _ENTER_REGISTERED_RING
        self._register(_REGISTER_ENABLE_RINGS, None, 0)

    def _register(self, opcode: int, argument: bytes | None, count: int) -> None:
        if syscall(_REGISTER, self.fd, opcode, argument, count) < 0:
            raise _refusal(_last_error("io_uring_register"))

    def close(self) -> None:
        """Unmap and close; nothing may be in flight."""
        for view in reversed(self._views):
            view.release()
        self._views.clear()
        for mapping in self._maps:
            mapping.close()
        self._maps.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        # The kernel pinned the pages of the buffer rings; the memory may go now.
        for buffers in self.buffers:
            buffers.close()


class BufferRing:
    """The queue through which buffers of one group are handed to the kernel; owned by its ring."""

    __slots__ = ("_map", "address", "mask", "memory", "size", "tail", "tail_word")

    def __init__(self, count: int) -> None:
        self.size = 1 << max(count - 1, 0).bit_length()
        self.mask = self.size - 1
        self._map = mmap.mmap(-1, self.size * 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map.madvise(mmap.MADV_DONTFORK)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.memory = memoryview(self._map)
        #: Entries of 16 bytes: address, length, buffer id, reserved.
        self.tail_word = self.memory[14:16].cast("H")
        #: The tail lies over the reserved half-word of the first entry.
        self.tail = 0

    def close(self) -> None:
        """Free the memory."""
        self.tail_word.release()
        self.memory.release()
        self._map.close()


def io_uring_disabled() -> int:
    """Return the sysctl ``kernel.io_uring_disabled``: 0 allowed, 1 a group only, 2 nobody."""
    try:
        return int(Path("/proc/sys/kernel/io_uring_disabled").read_text(encoding="ascii"))
    except FileNotFoundError:
        # Kernels before 6.6 have no such switch.
        return 0


def is_seccomp_filtered() -> bool:
    """Tell whether this process runs under a seccomp filter."""
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    return "\nSeccomp:\t2" in status


def _last_error(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), call)


def _refusal(error: OSError) -> BackendUnavailable:
    """Say why the kernel refused a ring, and what helps."""
    release = os.uname().release
    allow = "allow the system calls io_uring_setup, io_uring_enter and io_uring_register in it"
    match error.errno:
        case errno.ENOSYS if is_seccomp_filtered():
            return BackendUnavailable("a seccomp filter hides io_uring", allow)
        case errno.ENOSYS:
            return BackendUnavailable(f"Linux {release} has no io_uring", _KERNEL_CURE)
        case errno.EPERM if io_uring_disabled():
            value = io_uring_disabled()
            return BackendUnavailable(
                f"the sysctl kernel.io_uring_disabled is {value}",
                "sysctl -w kernel.io_uring_disabled=0"
                + (", or join the group of kernel.io_uring_group" if value == 1 else ""),
            )
        case errno.EPERM:
            return BackendUnavailable("a seccomp filter refuses io_uring", allow)
        case errno.EACCES:
            return BackendUnavailable(
                "a security module refuses io_uring", "allow it in the policy of this service"
            )
        case errno.EINVAL:
            return BackendUnavailable(f"Linux {release} is too old for the driver", _KERNEL_CURE)
        case errno.ENOMEM:
            return BackendUnavailable(
                "the kernel grants no memory for the rings",
                "raise RLIMIT_MEMLOCK or the memory limit of this service",
            )
        case _:
            return BackendUnavailable(
                f"{error.filename}: {error.strerror}", "see the limits of this process"
            )
