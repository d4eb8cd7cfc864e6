"""The seccomp programs, run call by call, by an interpreter of the instructions they use."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from sluicegate.app import seccomp

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSED = 0x00050000 | errno.EPERM

MACHINES = sorted(seccomp.ARCHITECTURES)


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    system, node, release, version, _ = os.uname()
    here = os.uname_result((system, node, release, version, name))
    monkeypatch.setattr(seccomp.os, "uname", lambda: here)
    return name


def run(program: bytes, number: int, first: int = 0, audit: int = 0) -> int:
    """Return what the kernel would do with a call."""
    call = struct.pack("<IIQ6Q", number, audit, 0, first, 0, 0, 0, 0, 0)
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator = place = 0
    while True:
        code, on_true, on_false, value = instructions[place]
        place += 1
        if code == RETURN:
            return int(value)
        if code == LOAD:
            (accumulator,) = struct.unpack_from("<I", call, value)
            continue
        is_so = {
            EQUAL: accumulator == value,
            AT_LEAST: accumulator >= value,
            ANY_BIT: bool(accumulator & value),
        }[code]
        place += on_true if is_so else on_false


def test_every_call_of_the_list_is_refused_and_no_other(machine: str) -> None:
    listed = seccomp.ARCHITECTURES[machine]
    program = seccomp.general_program()
    special = {listed.clone, listed.socket, 435}
    for number in range(600):
        if number not in special:
            wanted = REFUSED if number in listed.refused.values() else ALLOW
            assert run(program, number, audit=listed.audit) == wanted, number


def test_threads_and_programs_are_started_and_forks_and_name_spaces_are_not(machine: str) -> None:
    listed = seccomp.ARCHITECTURES[machine]
    program = seccomp.general_program()

    def clone(flags: int) -> int:
        return run(program, listed.clone, flags, listed.audit)

    assert clone(0x3D0F00) == ALLOW  # pthread_create
    assert clone(0x4111) == ALLOW  # vfork
    assert clone(0x1200011) == REFUSED  # fork
    assert clone(0x10000100) == REFUSED  # CLONE_NEWUSER, sharing memory
    assert run(program, 435, audit=listed.audit) == 0x00050000 | errno.ENOSYS  # clone3


@pytest.mark.parametrize(
    ("family", "is_allowed"), [(1, 1), (2, 1), (10, 1), (16, 1), (17, 0), (40, 0), (38, 0), (0, 0)]
)
def test_sockets_are_those_of_services(machine: str, family: int, is_allowed: int) -> None:
    listed = seccomp.ARCHITECTURES[machine]
    wanted = ALLOW if is_allowed else 0x00050000 | errno.EAFNOSUPPORT
    assert run(seccomp.general_program(), listed.socket, family, listed.audit) == wanted


def test_calls_of_other_interfaces_are_not_taken_for_ours(machine: str) -> None:
    listed = seccomp.ARCHITECTURES[machine]
    program = seccomp.general_program()
    assert run(program, 1, audit=0x40000003) == KILL  # i386
    assert run(program, 0x40000001, audit=listed.audit) == REFUSED  # x32


def test_second_filter_refuses_what_it_is_for_and_nothing_else(machine: str) -> None:
    audit = seccomp.ARCHITECTURES[machine].audit
    program = seccomp.refusing_program([seccomp.RING_SETUP])
    assert run(program, seccomp.RING_SETUP, audit=audit) == REFUSED
    assert all(run(program, n, audit=audit) == ALLOW for n in range(425))


def test_machine_without_a_list_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.uname_result(("Linux", "n", "6.1", "v", "riscv64"))
    monkeypatch.setattr(seccomp.os, "uname", lambda: here)
    with pytest.raises(seccomp.UnsupportedMachine, match="riscv64"):
        seccomp.general_program()
