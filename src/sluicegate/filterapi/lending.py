"""A held object as a descriptor that can be given to another process.

Content filters use it to let a program of their own look (``lend_descriptor``); so do isolated
filters' cells and the scanners. The invariant: whoever gets the descriptor can read the object and
not change it, and the object outlives its transfer for as long as the descriptor is open.
"""

from __future__ import annotations

import fcntl
import io
import os
from typing import BinaryIO, Final

from sluicegate.errors import TransportError

__all__ = ["lend_descriptor"]


def lend_descriptor(file: BinaryIO) -> int:
    """Return a read-only descriptor of a held object; whoever called closes it.

    What is in a file on the spool is opened once more, what is in memory copied into a sealed memfd
    (memfd_create(2), Linux 3.17).

    Args:
        file: What ``TransferFile.blocking_file`` returned; at its beginning, and used for nothing
            else afterwards: the position may be shared.

    Raises:
        TransportError: No descriptor or no memory is left.
    """
    try:
        try:
            return os.dup(file.fileno())
        except io.UnsupportedOperation:
            return _sealed_copy(file)
    except OSError as error:
        raise TransportError(error.errno or 0, doing="lend the held object") from error


def _sealed_copy(file: BinaryIO) -> int:
    descriptor = os.memfd_create("held", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(file.read())
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
