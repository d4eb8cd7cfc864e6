"""The programs the bench needs from Debian: named, and installed where we are root.

Called once at the start.  Services that come with the packages are not started: the bench runs its
own.
"""

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.processes import BenchmarkError

PACKAGE_OF_PROGRAM = {
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "gcc": "gcc",
    "taskset": "util-linux",
    "squid": "squid",
    "c-icap": "c-icap",
}
PACKAGE_OF_HEADER = {
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"): "libnginx-mod-stream",
    Path("/usr/include/stdio.h"): "libc6-dev",
    Path("/usr/include/openssl/evp.h"): "libssl-dev",
}
SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this script before it starts a service; 101 means no."""


def install_missing() -> None:
    """Installs what is missing by apt, or names the line that does.

    Raises:
        BenchmarkError: something is missing and we are not root, or apt failed.
    """
    missing = [
        *(package for name, package in PACKAGE_OF_PROGRAM.items() if not find_program(name)),
        *(package for header, package in PACKAGE_OF_HEADER.items() if not header.exists()),
    ]
    if not missing:
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0:
        raise BenchmarkError(f"programs are missing; as root, run: {line}")
    print(f"benchmarks: installing what is missing: {line}", flush=True)
    with_services_off(["apt-get", "update", "-q"])
    with_services_off(line.split())


def find_program(name: str) -> str | None:
    """Where a program is; servers live in sbin, which is not on everybody's path."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def with_services_off(command: list[str]) -> None:
    """Runs apt such that the servers it installs are not started.

    Raises:
        BenchmarkError: apt failed.
    """
    is_ours = not SERVICE_POLICY.exists()
    if is_ours:
        SERVICE_POLICY.write_text("#!/bin/sh\nexit 101\n")
        SERVICE_POLICY.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, env=environment, check=False)
    finally:
        if is_ours:
            SERVICE_POLICY.unlink(missing_ok=True)
    if done.returncode:
        raise BenchmarkError(f"apt failed with status {done.returncode}")
