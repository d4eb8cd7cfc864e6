"""Tells whether this machine lets the io_uring backend open; prints why when it does not.

Called by ``tools/test`` to decide whether the first half of the suite can run. It asks the product
itself, so that the answer is the one the gate would give.
"""

from __future__ import annotations

import sys

from sluicegate.limits import Limits
from sluicegate.port.backends.uring import UringBackend
from sluicegate.port.ring import BackendUnavailable


def main() -> int:
    """Open a ring and close it again."""
    try:
        UringBackend(Limits()).close()
    except BackendUnavailable as refusal:
        print(refusal)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
