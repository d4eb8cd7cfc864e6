"""`python -m benchmarks [probe]`: the front door of the measurements."""

import argparse
import sys

from benchmarks import probe
from benchmarks.processes import BenchmarkError


def main() -> int:
    """Parses the command line and runs what it names."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    probe.add_arguments(commands.add_parser("probe", help="any relay command against haproxy"))
    arguments = parser.parse_args()
    try:
        return probe.main(arguments)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
