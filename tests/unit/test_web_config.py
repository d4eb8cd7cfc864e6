"""Web filters and refusal pages in the operator's files: mistakes are found when they are read."""

from __future__ import annotations

import pathlib

import pytest

from sluicegate.app.load import Loaded, load
from sluicegate.app.texts import Texts
from sluicegate.documents import Findings
from sluicegate.gate.settings import PerRule
from sluicegate.gate.web.refusal_page import DEFAULT_PAGES, Refusal

MAIN = """
[[listener]]
name = "proxy"
address = "127.0.0.1:3128"
entry = "proxy"
protocols = ["http", "http-connect"]
authenticate = "off"

[resolver]
servers = ["192.0.2.53:53"]

[[filter]]
name = "http_filter"
[filter.settings]
methods_allowed = ["GET", "POST"]

[[filter]]
name = "mine"
use = "my.py:Mine"
"""
POLICY = """
[[rule]]
name = "web"
action = "allow"
clients = ["10.0.0.0/8"]
to = ["www.example.com"]
protocols = ["tcp:80"]
filters = ["http_filter", "mine"]
[rule.settings.http_filter]
url_bytes_max = 100
"""
FILTER = """
from sluicegate.filterapi import *
class Mine(WebFilter):
    def on_request(self, exchange):
        return GO_ON
"""


class Files:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.write("sluicegate.toml", MAIN)
        self.write("policy.toml", POLICY)
        self.write("my.py", FILTER)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def load(self, texts: Texts | None = None) -> Loaded:
        findings = Findings()
        loaded = load(self.folder / "sluicegate.toml", findings, None, texts)
        assert [str(error) for error in findings.errors] == []
        assert loaded is not None
        return loaded

    def errors(self) -> str:
        findings = Findings()
        assert load(self.folder / "sluicegate.toml", findings) is None
        return "\n".join(str(error) for error in findings.errors)


@pytest.fixture
def files(tmp_path: pathlib.Path) -> Files:
    return Files(tmp_path)


def test_web_filters_are_installed_and_made_anew_for_rules_that_say_more(files: Files) -> None:
    loaded = files.load()
    bundled, mine = loaded.filters.installations
    assert isinstance(bundled.filter_object, PerRule)
    assert type(mine.filter_object).__name__ == "Mine"
    assert loaded.filters.made("mine").tier == "web"  # type: ignore[union-attr]


def test_what_a_rule_says_to_a_web_filter_is_checked(files: Files) -> None:
    files.write("policy.toml", POLICY.replace("url_bytes_max = 100", 'url_bytes_max = "long"'))
    assert "url_bytes_max" in files.errors()


def test_a_web_filter_under_a_rule_without_http_is_refused(files: Files) -> None:
    files.write("sluicegate.toml", MAIN.replace('["http", "http-connect"]', '["http-connect"]'))
    assert "no client of this rule speaks HTTP to the gate" in files.errors()


PUBLISHED = """
[[publish]]
name = "site"
listener = "site"
server = "192.0.2.10:80"
clients = ["10.0.0.0/8"]
filters = ["mine"]
"""


@pytest.mark.parametrize("is_http", [True, False])
def test_a_web_filter_under_a_publication_needs_one_of_http(files: Files, is_http: bool) -> None:
    site = '[[listener]]\nname = "site"\naddress = "127.0.0.1:8080"\n'
    files.write("sluicegate.toml", MAIN.replace("[resolver]", f"{site}[resolver]"))
    files.write("policy.toml", POLICY + PUBLISHED + ("http = true\n" if is_http else ""))
    if is_http:
        files.load()
    else:
        assert "no client of this rule speaks HTTP to the gate" in files.errors()


def test_a_web_filter_runs_in_the_gate_alone(files: Files) -> None:
    files.write("sluicegate.toml", MAIN + 'isolation = "process"\n')
    assert "Mine is a web filter, and these run in the gate" in files.errors()


def test_a_web_filter_that_demands_a_process_is_refused(files: Files) -> None:
    files.write("my.py", FILTER.replace("WebFilter):", 'WebFilter):\n    isolation = "process"'))
    assert "Mine is a web filter, and these run in the gate" in files.errors()


def test_a_web_filter_that_lacks_a_hook_for_what_it_needs_is_refused(files: Files) -> None:
    files.write("my.py", FILTER + "    needs = Needs(response=Need.STREAM)\n")
    assert "it needs STREAM of responses, and has no on_response_chunk" in files.errors()


WHOLE = """
    needs = Needs({direction}=Need.OBJECT)
    def on_{direction}_body(self, exchange, body):
        return Release()
"""


@pytest.mark.parametrize(
    ("direction", "delivery", "told"),
    [
        ("response", '{ method = "progress-page" }', "progress-page are a trickle"),
        (
            "response",
            '{ content_types = ["@video"], method = "fast-trickle" }, { method = "progress-page" }',
            "fast-trickle and progress-page are a trickle",
        ),
        ("response", '{ method = "trickle" }', ""),
        ("response", '{ method = "hold" }', ""),
        ("response", "", ""),
        ("request", '{ method = "progress-page" }', ""),
    ],
)
def test_a_page_that_is_a_trickle_while_a_web_filter_has_the_object_is_told(
    files: Files, direction: str, delivery: str, told: str
) -> None:
    files.write("my.py", FILTER + WHOLE.format(direction=direction))
    held = f"held.delivery = [{delivery}]\n"
    rule = POLICY.replace("[rule.settings", held + "[rule.settings")
    files.write("policy.toml", rule)
    warnings = [one for one in files.load().warnings if "whole object" in one]
    assert len(warnings) == bool(told)
    assert all(told in one and "'mine'" in one for one in warnings)


# -- refusal pages ---------------------------------------------------------------------------------

WITH_PAGES = MAIN + '\n[web]\nrefusal_pages = "pages"\n'
BROWSER = [b"text/html"]


def page_of(loaded: Loaded, status: int) -> str:
    refusal = Refusal(status, "why", "web", "r-1")
    return loaded.settings.refusal_pages.render(refusal, BROWSER)[1].decode()


def test_without_templates_the_gate_has_its_own_page(files: Files) -> None:
    assert files.load().settings.refusal_pages is DEFAULT_PAGES


def test_templates_of_a_folder_are_used(files: Files) -> None:
    files.write("sluicegate.toml", WITH_PAGES)
    files.write("pages/refusal.html", "<p>No: $reason. $record</p>")
    files.write("pages/refusal-407.html", "<p>Log in. $record</p>")
    files.write("pages/README.txt", "ours")
    loaded = files.load()
    assert page_of(loaded, 403) == "<p>No: why. r-1</p>"
    assert page_of(loaded, 407) == "<p>Log in. r-1</p>"


def test_one_status_may_have_its_own_page_beside_the_gates(files: Files) -> None:
    files.write("sluicegate.toml", WITH_PAGES)
    files.write("pages/refusal-407.html", "<p>Log in. $record</p>")
    loaded = files.load()
    assert page_of(loaded, 407) == "<p>Log in. r-1</p>"
    assert "<!doctype html>" in page_of(loaded, 403)


def test_workers_get_the_templates_that_were_read(files: Files) -> None:
    files.write("sluicegate.toml", WITH_PAGES)
    files.write("pages/refusal.html", "<p>first $record</p>")
    texts = files.load().texts
    files.write("pages/refusal.html", "<p>second $record</p>")
    (files.folder / "pages/refusal-404.html").write_text("<p>later $record</p>")
    loaded = files.load(texts)
    assert page_of(loaded, 403) == page_of(loaded, 404) == "<p>first r-1</p>"


@pytest.mark.parametrize(
    ("pages", "cause"),
    [
        (None, "pages: cannot be read: No such file or directory"),
        ({}, "there is no template in 'pages'"),
        ({"blocked.html": "$record"}, "pages/blocked.html: is no template of a refusal page"),
        ({"refusal-200.html": "$record"}, "refusal-200.html: is no template"),
        ({"refusal.html": "hello"}, "pages/refusal.html:1: it does not say $record"),
        ({"refusal.html": "$record\n<script>"}, "pages/refusal.html:2: <script> has no use here"),
    ],
)
def test_a_template_that_cannot_be_used_is_found_when_it_is_read(
    files: Files, pages: dict[str, str] | None, cause: str
) -> None:
    files.write("sluicegate.toml", WITH_PAGES)
    if pages is not None:
        (files.folder / "pages").mkdir()
        for name, text in pages.items():
            files.write(f"pages/{name}", text)
    assert cause in files.errors()
