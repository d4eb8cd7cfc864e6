"""The seccomp programs, run call by call, by an interpreter of the instructions they use."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from sluicegate.app.refused_calls import REFUSED as NAMES
from sluicegate.app.refused_calls import general_program, ring_program
from sluicegate.sandbox import confinement, system_calls
from sluicegate.sandbox.system_calls import MACHINES as KNOWN
from sluicegate.sandbox.system_calls import UnsupportedMachineError

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSED = 0x00050000 | errno.EPERM

MACHINES = sorted(KNOWN)


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    system, node, release, version, _ = os.uname()
    here = os.uname_result((system, node, release, version, name))
    monkeypatch.setattr(system_calls.os, "uname", lambda: here)
    return name


def run(program: list[bytes], number: int, first: int = 0, audit: int = 0) -> int:
    """Return what the kernel would do with a call."""
    call = struct.pack("<IIQ6Q", number, audit, 0, first, 0, 0, 0, 0, 0)
    instructions = list(struct.iter_unpack("<HBBI", b"".join(program)))
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
    listed = KNOWN[machine]
    program = general_program()
    refused = set(listed.numbers(NAMES))
    special = {listed.number("clone"), listed.number("socket"), 435}
    for number in range(600):
        if number not in special:
            wanted = REFUSED if number in refused else ALLOW
            assert run(program, number, audit=listed.audit) == wanted, number


def test_threads_and_programs_are_started_and_forks_and_name_spaces_are_not(machine: str) -> None:
    listed = KNOWN[machine]
    program = general_program()

    def clone(flags: int) -> int:
        return run(program, listed.number("clone"), flags, listed.audit)

    assert clone(0x3D0F00) == ALLOW  # pthread_create
    assert clone(0x4111) == ALLOW  # vfork
    assert clone(0x1200011) == REFUSED  # fork
    assert clone(0x10000100) == REFUSED  # CLONE_NEWUSER, sharing memory
    assert run(program, 435, audit=listed.audit) == 0x00050000 | errno.ENOSYS  # clone3


@pytest.mark.parametrize(
    ("family", "is_allowed"), [(1, 1), (2, 1), (10, 1), (16, 1), (17, 0), (40, 0), (38, 0), (0, 0)]
)
def test_sockets_are_those_of_services(machine: str, family: int, is_allowed: int) -> None:
    listed = KNOWN[machine]
    wanted = ALLOW if is_allowed else 0x00050000 | errno.EAFNOSUPPORT
    assert run(general_program(), listed.number("socket"), family, listed.audit) == wanted


def test_calls_of_other_interfaces_are_not_taken_for_ours(machine: str) -> None:
    listed = KNOWN[machine]
    program = general_program()
    assert run(program, 1, audit=0x40000003) == KILL  # i386
    assert run(program, 0x40000001, audit=listed.audit) == REFUSED  # x32


def test_second_filter_refuses_what_it_is_for_and_nothing_else(machine: str) -> None:
    audit = KNOWN[machine].audit
    program = ring_program()
    assert run(program, 425, audit=audit) == REFUSED
    assert all(run(program, n, audit=audit) == ALLOW for n in range(425))


def test_machine_without_a_list_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.uname_result(("Linux", "n", "6.1", "v", "riscv64"))
    monkeypatch.setattr(system_calls.os, "uname", lambda: here)
    with pytest.raises(UnsupportedMachineError, match="riscv64"):
        general_program()


def test_sandboxed_process_is_refused_what_leads_out_of_it_and_no_other(machine: str) -> None:
    listed, process = KNOWN[machine], 77
    program = confinement._program(listed, process)
    refused = set(listed.numbers(confinement._FORBIDDEN))
    partly = {listed.number(name) for name in ("clone", "kill", "tgkill", "prlimit64")} | {435}
    for number in range(600):
        if number not in partly:
            wanted = REFUSED if number in refused else ALLOW
            assert run(program, number, audit=listed.audit) == wanted, number
    for name in ("kill", "tgkill", "prlimit64"):
        number = listed.number(name)
        assert run(program, number, process, listed.audit) == ALLOW
        assert run(program, number, process + 1, listed.audit) == REFUSED
    assert run(program, listed.number("prlimit64"), 0, listed.audit) == ALLOW
    assert run(program, listed.number("kill"), 0, listed.audit) == REFUSED
    assert run(program, listed.number("clone"), 0x3D0F00, listed.audit) == ALLOW  # a thread
    assert run(program, listed.number("clone"), 0x4111, listed.audit) == REFUSED  # vfork
    assert run(program, 435, audit=listed.audit) == 0x00050000 | errno.ENOSYS
