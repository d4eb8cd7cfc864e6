"""How the ring is set up: the flags without which it would not be sound, and its restrictions."""

from __future__ import annotations

import ctypes
import errno
import os
import threading

import pytest

from sluicegate.limits import Limits
from sluicegate.port import ring as ring_module
from sluicegate.port.backends import uring_entries as kernel
from sluicegate.port.backends.uring import UringBackend
from sluicegate.port.ring import FEATURES_OPTIONAL, BackendUnavailable, Ring, syscall

from .uring_bench import Log, driver, until

SINGLE_ISSUER = 1 << 12
DEFER_TASKRUN = 1 << 13
REGISTER = 427
REGISTER_PROBE = 8
OPENAT = 18
AT_FDCWD = -100
#: IORING_OP_LAST of Linux 6.1, the oldest that is served; newer ones are refused as well.
OPCODES_KNOWN = 48


@pytest.mark.parametrize("masked", [frozenset(), FEATURES_OPTIONAL])
def test_the_ring_defers_its_work_to_its_only_thread(masked):
    ring = Ring(8, 32, features_masked=masked)
    assert ring.setup_flags & SINGLE_ISSUER
    assert ring.setup_flags & DEFER_TASKRUN
    assert ring.features & masked == frozenset()
    ring.close()


def test_completions_have_several_times_the_room_of_submissions():
    with driver() as backend:
        assert backend._ring.completions_size >= 4 * backend._ring.entries_size


def test_an_unknown_feature_cannot_be_masked():
    with pytest.raises(ValueError, match="sqpoll"):
        Ring(8, 32, features_masked=frozenset({"sqpoll"}))


def result_of(backend: UringBackend, word: int, *fields: int) -> int:
    """Run one raw entry, past the driver, as code that got hold of the ring would."""
    log = Log()
    token = backend._begin(log.operation, None)
    backend._queue(token, word, *fields)
    until(backend, lambda: log.is_over)
    return log.results[0][0]


def test_the_ring_cannot_open_a_file():
    path = ctypes.create_string_buffer(b"/etc/passwd")
    with driver() as backend:
        assert result_of(backend, OPENAT, AT_FDCWD, 0, ctypes.addressof(path), 0) == -errno.EACCES


@pytest.mark.parametrize("opcode", sorted(set(range(OPCODES_KNOWN)) - set(kernel.ALLOWED)))
def test_an_operation_that_the_driver_does_not_use_is_refused(opcode):
    with driver() as backend:
        assert result_of(backend, opcode, -1, 0, 0, 0) == -errno.EACCES


@pytest.mark.parametrize("opcode", kernel.ALLOWED)
def test_the_operations_of_the_driver_reach_the_kernel(opcode):
    with driver() as backend:
        # Descriptor -1: whatever it says, it is not the restriction that says it.
        assert result_of(backend, opcode, -1, 0, 0, 0) in {-errno.EBADF, -errno.EINVAL, 0} | (
            {-errno.ENOENT} if opcode == kernel.ASYNC_CANCEL else set()
        )


@pytest.mark.parametrize("flag", [1 << 0, 1 << 2, 1 << 3, 1 << 4])
def test_an_entry_flag_that_the_driver_does_not_use_is_refused(flag):
    """Fixed files, links, and handing over to the kernel's threads.

    (A draining entry is refused as well, but only after all earlier ones have completed.)
    """
    with driver() as backend:
        assert result_of(backend, kernel.POLL_ADD | flag << 8, -1, 0, 0, 0) == -errno.EACCES


def test_no_registration_is_allowed_once_the_ring_runs():
    with driver() as backend:
        backend.turn(0)
        probe = ctypes.create_string_buffer(16 + 8 * 256)
        assert syscall(REGISTER, backend._ring.fd, REGISTER_PROBE, probe, 256) == -1
        assert ctypes.get_errno() == errno.EACCES


def test_the_thread_of_the_first_turn_is_the_only_one():
    with driver() as backend:
        backend.turn(0)
        errors: list[OSError] = []

        def turn_elsewhere() -> None:
            try:
                backend.turn(0)
            except OSError as error:
                errors.append(error)

        thread = threading.Thread(target=turn_elsewhere)
        thread.start()
        thread.join()
        assert errors


def test_a_driver_made_on_one_thread_can_run_on_another():
    backend = UringBackend(Limits())
    turns: list[int] = []

    def live() -> None:
        backend.wake()
        backend.turn(None)
        turns.append(backend.turns)
        backend.close()

    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    assert turns == [1]


def test_descriptors_come_back_when_a_driver_closes():
    before = sorted(os.listdir("/proc/self/fd"))
    with driver() as backend:
        backend.turn(0)
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("code", "sysctl", "seccomp", "reason", "cure"),
    [
        (errno.ENOSYS, 0, False, "no io_uring", "6.1"),
        (errno.ENOSYS, 0, True, "seccomp", "io_uring_setup"),
        (errno.EPERM, 2, False, "kernel.io_uring_disabled is 2", "sysctl -w"),
        (errno.EPERM, 1, False, "kernel.io_uring_disabled is 1", "io_uring_group"),
        (errno.EPERM, 0, True, "seccomp", "io_uring_setup"),
        (errno.EACCES, 0, False, "security module", "policy"),
        (errno.EINVAL, 0, False, "too old", "6.1"),
        (errno.ENOMEM, 0, False, "memory", "RLIMIT_MEMLOCK"),
        (errno.EMFILE, 0, False, "Too many open files", "limits"),
    ],
)
def test_a_refusal_names_its_cause_and_cure(monkeypatch, code, sysctl, seccomp, reason, cure):
    def refuse(*_args: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(ring_module, "syscall", refuse)
    monkeypatch.setattr(ring_module, "io_uring_disabled", lambda: sysctl)
    monkeypatch.setattr(ring_module, "is_seccomp_filtered", lambda: seccomp)
    with pytest.raises(BackendUnavailable) as refusal:
        Ring(8, 32)
    assert reason in refusal.value.reason
    assert cure in refusal.value.cure
