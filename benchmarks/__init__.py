"""The measurements behind the speed and memory targets; run with `python -m benchmarks`."""
