"""What the machine tells a process about itself."""

from __future__ import annotations

from sluicegate.app.machine import Usage


def test_resident_memory_is_told_before_and_after_the_descriptor_was_closed() -> None:
    usage = Usage()
    held = usage.resident_bytes()
    usage.close()
    assert 1 << 20 < held < 1 << 40
    assert 1 << 20 < usage.resident_bytes() < 1 << 40
