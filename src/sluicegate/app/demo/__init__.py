"""The demonstration: real servers, a real gate, real clients, and what became of each object.

``cli demo`` calls ``run_demo``. Everything runs on loopback, on ports that the kernel chooses, in a
temporary folder on disk, without privileges. The invariant: an outcome counts as right only if the
client's bytes, the gate's record and what was expected agree.
"""

from .live import run_demo
from .outcome import Demo, DemoOutcome, DemoReport, Fetched

__all__ = ["Demo", "DemoOutcome", "DemoReport", "Fetched", "run_demo"]
