"""A real Prometheus that asks what a test names, and evaluates rules."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any, Self

from sluicegate.metrics import CATALOGUE
from tests.ports import free_port
from tests.waiting import wait_until

__all__ = ["Prometheus", "metric_names"]


class Prometheus:
    """One server, with a folder of its own; to be used in a ``with``."""

    def __init__(
        self, folder: pathlib.Path, targets: Iterable[int], rules: Iterable[pathlib.Path] = ()
    ) -> None:
        self._folder = folder
        self.port = free_port()
        self._configuration = folder / "prometheus.yml"
        self._configuration.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
            f"rule_files: {json.dumps([str(one) for one in rules])}\n"
            "scrape_configs:\n- job_name: sluicegate\n  static_configs:\n"
            f"  - targets: {json.dumps([f'127.0.0.1:{port}' for port in targets])}\n"
        )

    def __enter__(self) -> Self:
        command = [
            "prometheus",
            f"--config.file={self._configuration}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--storage.tsdb.path={self._folder / 'tsdb'}",
        ]
        with (self._folder / "prometheus.log").open("w") as said:
            self._process = subprocess.Popen(command, stdout=said, stderr=said)
        # Until then it answers every query with 503.
        wait_until(self._is_ready, f"Prometheus does not begin: see {self._folder}/prometheus.log")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def fetch(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the samples; ``AssertionError`` with its words when it does not take the query."""
        try:
            answer = self.fetch("/api/v1/query?" + urllib.parse.urlencode({"query": query}))
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{query}: {refused.read().decode()}") from refused
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def wait_for(self, query: str) -> list[dict[str, Any]]:
        """Ask until there is something: a page that comes too slowly is missing for a second."""

        def found() -> list[dict[str, Any]]:
            try:
                return self.ask(query)
            except OSError:
                return []

        return wait_until(found, f"{query} finds nothing: see {self._folder}/prometheus.log")

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=60):
                return True
        except OSError:
            return False


def metric_names(text: str) -> set[str]:
    """Names in a query or a rule, as the catalogue has them."""
    found = set()
    for name in re.findall(r"\bsluicegate_[a-z0-9_]+", text):
        plain = re.sub(r"_(total|bucket|count|sum)$", "", name)
        found.add(plain if plain in CATALOGUE else name)
    return found
