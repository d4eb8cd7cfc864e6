"""One package each for pip, apt and npm, in repositories of their own, and how each fetches it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

from .entry_parts import tool

SECONDS = 14
"""How long the judge thinks of a package, as its name says."""
PATIENCE_S = 11
"""How long pip and apt wait for a byte."""


def write_repositories(www: pathlib.Path, base_url: str) -> None:
    """Put three repositories where a server has its files."""
    _write_pip(www / "pip" / "slow")
    _write_apt(www / "apt")
    _write_npm(www / "npm", f"{base_url}npm")


def _write_pip(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True)
    wheel, info = f"slow-{SECONDS}-py3-none-any.whl", f"slow-{SECONDS}.dist-info"
    files = {
        "slow.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: slow\nVersion: {SECONDS}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / wheel, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    digest = hashlib.sha256((folder / wheel).read_bytes()).hexdigest()
    (folder / "index.html").write_text(f'<a href="{wheel}#sha256={digest}">{wheel}</a>')


def _write_apt(folder: pathlib.Path) -> None:
    made = folder / "made" / "DEBIAN"
    made.mkdir(parents=True)
    control = f"Package: slow\nVersion: {SECONDS}\nArchitecture: all\nMaintainer: a <a@b.test>\n"
    (made / "control").write_text(f"{control}Description: nothing\n")
    file = folder / f"slow-{SECONDS}.deb"
    command = [tool("dpkg-deb"), "--build", "--root-owner-group", str(made.parent), str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    packed = file.read_bytes()
    (folder / "Packages").write_text(
        f"{control}Filename: ./{file.name}\nSize: {len(packed)}\n"
        f"SHA256: {hashlib.sha256(packed).hexdigest()}\nDescription: nothing\n\n"
    )


def _write_npm(folder: pathlib.Path, url: str) -> None:
    folder.mkdir()
    package = {"name": "slow", "version": f"{SECONDS}.0.0"}
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as packed:
        text = json.dumps(package).encode()
        member = tarfile.TarInfo("package/package.json")
        member.size = len(text)
        packed.addfile(member, io.BytesIO(text))
    (folder / f"slow-{SECONDS}.tgz").write_bytes(held.getvalue())
    digest = base64.b64encode(hashlib.sha512(held.getvalue()).digest()).decode()
    dist = {"tarball": f"{url}/slow-{SECONDS}.tgz", "integrity": f"sha512-{digest}"}
    version = package | {"dist": dist}
    document = {
        "name": "slow",
        "dist-tags": {"latest": package["version"]},
        "versions": {package["version"]: version},
    }
    (folder / "slow").write_text(json.dumps(document))


def fetch_by_pip(base_url: str, proxy: str, folder: pathlib.Path) -> bool:
    """Have pip download the package; True: it has it."""
    host = base_url.split("/")[2].partition(":")[0]
    command = [sys.executable, "-m", "pip", "--isolated", "download", "--no-cache-dir"]
    command += ["--no-deps", "--disable-pip-version-check", "--retries", "0", "--proxy", proxy]
    command += ["--timeout", str(PATIENCE_S), "-i", f"{base_url}pip"]
    command += ["--trusted-host", host, "--dest", str(folder), "slow"]
    _run(command, folder)
    return (folder / f"slow-{SECONDS}-py3-none-any.whl").is_file()


def fetch_by_apt(base_url: str, proxy: str, folder: pathlib.Path) -> bool:
    """Have apt read the index and download the package."""
    for one in ("state/lists/partial", "cache/archives/partial", "etc"):
        (folder / one).mkdir(parents=True)
    (folder / "state" / "status").touch()
    (folder / "etc" / "sources.list").write_text(f"deb [trusted=yes] {base_url}apt ./\n")
    (folder / "apt.conf").write_text(
        f'Dir::State "{folder}/state";\nDir::State::status "{folder}/state/status";\n'
        f'Dir::Cache "{folder}/cache";\nDir::Etc "{folder}/etc";\n'
        f'Dir::Etc::sourceparts "-";\nAcquire::http::Proxy "{proxy}";\n'
        f'Acquire::Retries "0";\nAcquire::http::Timeout "{PATIENCE_S}";\n'
        'APT::Sandbox::User "root";\nAPT::Architecture "amd64";\n'
    )
    environment = {"APT_CONFIG": str(folder / "apt.conf")}
    _run([tool("apt-get"), "update"], folder, environment)
    _run([tool("apt-get"), "download", "slow"], folder, environment)
    return (folder / f"slow_{SECONDS}_all.deb").is_file()


def fetch_by_npm(base_url: str, proxy: str, folder: pathlib.Path) -> bool:
    """Have npm install the package; it gives every answer's head five minutes (fetch-timeout)."""
    command = [tool("npm"), "install", "slow", "--registry", f"{base_url}npm", "--proxy", proxy]
    command += ["--fetch-retries", "0", "--no-audit", "--no-fund", "--no-update-notifier"]
    command += ["--cache", str(folder / "cache")]
    _run(command, folder)
    return (folder / "node_modules" / "slow" / "package.json").is_file()


def _run(command: list[str], folder: pathlib.Path, more: dict[str, str] | None = None) -> None:
    """Run a client with nothing of this machine's settings; what it says is kept beside it."""
    proxies = ("http_proxy", "https_proxy", "no_proxy")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    kept = {
        name: value for name, value in kept.items() if not name.upper().startswith(("PIP_", "NPM_"))
    }
    environment = kept | {"HOME": str(folder)} | (more or {})
    found = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    with (folder / "said.txt").open("a") as said:
        said.write(found.stdout + found.stderr)


MANAGERS = {"pip": fetch_by_pip, "apt": fetch_by_apt, "npm": fetch_by_npm}
