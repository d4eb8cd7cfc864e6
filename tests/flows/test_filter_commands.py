"""``new-filter`` and ``test-filter``: what they write passes, what they refuse they say why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sluicegate.cli.main import cli
from tests.repo.source_tree import ROOT

TIERS = ("stream", "data", "content", "session", "web")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


# -- new-filter ----------------------------------------------------------------------------------


def test_filter_of_every_tier_passes_the_tests_that_are_written_with_it(here: Path) -> None:
    for tier in TIERS:
        assert invoke("new-filter", f"my-{tier}", "--tier", tier).exit_code == 0
    files = [f"test_my_{tier}.py" for tier in TIERS]
    done = run("pytest", "-q", "-rA", "-W", "error", *files, folder=here)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = {line.split("::")[0] for line in done.stdout.splitlines() if "PASSED " in line}
    assert passed == {f"PASSED {name}" for name in files}


def test_command_says_how_to_run_and_install_what_it_wrote(here: Path) -> None:
    done = invoke("new-filter", "OnlySsh", "--folder", "filters")
    assert "python -m pytest filters/test_only_ssh.py" in done.output
    assert 'use = "filters/only_ssh.py:OnlySsh"' in done.output
    assert (here / "filters" / "only_ssh.py").exists()


@pytest.mark.parametrize("there", ["my_own.py", "test_my_own.py"])
def test_nothing_is_overwritten(there: str, here: Path) -> None:
    (here / there).write_text("mine", encoding="utf-8")
    done = invoke("new-filter", "my-own")
    assert done.exit_code == 2
    assert f"{there}: the file exists (choose another name or --folder)" in done.stderr
    assert [path.name for path in here.iterdir()] == [there]
    assert (here / there).read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["../up", "1st", "a b", "", "class", "x\x1b[2J", "-a-"])
def test_name_that_no_module_can_have_is_refused(name: str, here: Path) -> None:
    done = invoke("new-filter", "--", name)
    assert done.exit_code == 2
    assert list(here.iterdir()) == []
    assert "\x1b[2J" not in done.output


# -- test-filter ---------------------------------------------------------------------------------

SAYS = 'client sends "this is forbidden\\r\\n"\n'
RECORDED = SAYS + 'server receives reset\nclient receives reset\noutcome refused "forbidden word"\n'


@pytest.fixture
def written(here: Path) -> Path:
    invoke("new-filter", "my-own")
    path = here / "a.conversation"
    path.write_text(RECORDED, encoding="utf-8")
    return path


@pytest.mark.parametrize("use", ["my_own:MyOwn", "my_own.py:MyOwn"])
def test_replay_that_goes_as_recorded_is_ok(use: str, written: Path) -> None:
    done = invoke("test-filter", use, written)
    assert done.exit_code == 0, done.output
    assert done.stdout == "ok: 1 steps went as recorded, outcome refused\n"


def test_replay_that_goes_otherwise_is_shown(written: Path) -> None:
    written.write_text(RECORDED.replace("forbidden word", "no reason"), encoding="utf-8")
    done = invoke("test-filter", "my_own.py:MyOwn", written)
    assert done.exit_code == 1
    assert '- outcome refused "no reason"\n+ outcome refused "forbidden word"' in done.stdout


def test_conversation_without_results_shows_what_comes(written: Path) -> None:
    written.write_text(SAYS, encoding="utf-8")
    done = invoke("test-filter", "my_own.py:MyOwn", written)
    assert done.exit_code == 0
    assert 'outcome refused "forbidden word"' in done.stdout


def test_replay_speaks_json(written: Path) -> None:
    done = invoke("test-filter", "my_own.py:MyOwn", written, "--json")
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert (report["outcome"], report["reason"]) == ("refused", "forbidden word")
    assert report["went"][0] == 'client sends "this is forbidden\\r\\n"'
    assert (report["difference"], report["problems"]) == ([], [])


def test_filter_that_raises_is_told_with_its_line(written: Path, here: Path) -> None:
    text = (here / "my_own.py").read_text(encoding="utf-8")
    (here / "my_own.py").write_text(text.replace("data = bytes", "data = boom"), encoding="utf-8")
    done = invoke("test-filter", "my_own.py:MyOwn", written)
    assert done.exit_code == 1
    assert "NameError: name 'boom' is not defined" in done.stderr
    report = json.loads(invoke("test-filter", "my_own.py:MyOwn", written, "--json").stdout)
    assert report["problems"] == ["the filter raised NameError: name 'boom' is not defined"]


def test_what_cannot_be_used_is_named_with_its_cure(written: Path, here: Path) -> None:
    assert "there is no module 'nowhere'" in invoke("test-filter", "nowhere:X", written).stderr
    bad = here / "bad.conversation"
    bad.write_text("client shouts\n", encoding="utf-8")
    done = invoke("test-filter", "my_own:MyOwn", bad)
    assert done.exit_code == 2
    assert "bad.conversation:1: 'client shouts' is no step" in done.stderr
    settings = here / "settings.toml"
    settings.write_text("x = 1\n", encoding="utf-8")
    done = invoke("test-filter", "my_own:MyOwn", written, "--settings", settings)
    assert (done.exit_code, "takes no settings" in done.stderr) == (2, True)


def test_filter_with_settings_is_made_with_them(here: Path) -> None:
    path = here / "script.conversation"
    path.write_text(
        'object download "install.sh"\nserver sends "#!/bin/sh\\n"\nserver ends\n'
        'client receives "#!/bin/sh\\n"\nclient receives end\noutcome open\n',
        encoding="utf-8",
    )
    settings = here / "settings.toml"
    assert invoke("test-filter", "exe_block", path).exit_code == 0
    settings.write_text("scripts = true\n", encoding="utf-8")
    done = invoke("test-filter", "exe_block", path, "--settings", settings)
    assert done.exit_code == 1
    assert '+ outcome refused "script' in done.stdout
    settings.write_text("script = true\n", encoding="utf-8")
    done = invoke("test-filter", "exe_block", path, "--settings", settings)
    assert done.exit_code == 2
    assert "settings.toml:1: script: unknown key (did you mean 'scripts'?)" in done.stderr
