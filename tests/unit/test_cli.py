"""The command line: what it prints, what it exits with, and that its help teaches."""

from __future__ import annotations

import json
import pathlib

import click
import pytest
from click.testing import CliRunner, Result

from sluicegate.cli import options
from sluicegate.cli.contents import CONTENTS
from sluicegate.cli.display import format_bytes, format_duration, printable
from sluicegate.cli.main import cli
from sluicegate.cli.status import _show
from sluicegate.clock import SystemClock
from sluicegate.gate.control_messages import (
    ConnectionsReply,
    DoneReply,
    FiltersReply,
    RefusedReply,
    Reply,
    SessionsReply,
    StatusReply,
)
from sluicegate.gate.views import (
    ConnectionView,
    FilterView,
    LearnView,
    ListenerView,
    Phase,
    SessionView,
    StatusView,
)
from tests.status_views import status_view

MAIN = '[[listener]]\nname = "ftp"\naddress = "127.0.0.1:2121"\n'
POLICY = """\
[[publish]]
name = "ftp"
listener = "ftp"
server = "192.0.2.10:21"
clients = ["10.0.0.0/8"]
"""
RECORDS = """\
{"kind":"decision","time":100.5,"connection":"c-1","client":"10.0.0.1:4","verdict":"denied"}
{"kind":"transfer","time":101,"client":"10.0.0.2:5","name":"a\\u001b[2J b","verdict":"refused"}
{"kind":"connection","time":102,"client":"10.0.0.2:5","outcome":"released","filters":["a","b"]}
"""


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "records.jsonl").write_text(RECORDS)
    path = tmp_path / "sluicegate.toml"
    path.write_text(MAIN)
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def all_commands() -> list[str]:
    return cli.list_commands(click.Context(cli))


@pytest.mark.parametrize("name", all_commands())
def test_list_of_commands_says_of_each_what_its_own_help_begins_with(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    listed = click.Command(name, help=CONTENTS[name].line)
    assert listed.get_short_help_str(1000) == command.get_short_help_str(1000)
    assert not command.hidden


def test_shell_completes_the_names_of_commands() -> None:
    found = cli.shell_complete(click.Context(cli), "st")
    assert [item.value for item in found] == ["status", "stop"]
    assert "--version" in [item.value for item in cli.shell_complete(click.Context(cli), "--")]


@pytest.mark.parametrize("name", all_commands())
def test_help_of_every_command_shows_examples(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert "sluicegate" in result.output


def test_help_lists_every_command() -> None:
    output = invoke("--help").output
    assert [name for name in all_commands() if f"\n  {name} " not in output] == []


def test_every_reporting_command_offers_json() -> None:
    for name in (
        "check",
        "demo",
        "status",
        "sessions",
        "connections",
        "filters",
        "log show",
        "log verify",
        "explain",
        "why",
        "simulate",
    ):
        assert "--json" in invoke(*name.split(), "--help").output


# -- check ---------------------------------------------------------------------------------------


def test_good_files_pass_the_check(config: pathlib.Path) -> None:
    result = invoke("check", "-c", config)
    assert result.exit_code == 0
    assert result.stdout.startswith("ok: 1 addresses, 0 filters, 1 rules, policy ")


def test_check_shows_all_errors_and_exits_with_2(config: pathlib.Path) -> None:
    config.write_text(MAIN + "[limits]\nx = 1\ny = 2\n")
    result = invoke("check", "-c", config)
    assert result.exit_code == 2
    assert result.stderr.count("unknown key") == 2


def test_check_speaks_json(config: pathlib.Path) -> None:
    good = json.loads(invoke("check", "-c", config, "--json").stdout)
    assert (good["ok"], good["errors"]) == (True, [])
    config.write_text(MAIN.replace("name", "nam"))
    result = invoke("check", "-c", config, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["errors"] == [
        {
            "where": "sluicegate.toml:2: listener[0].nam",
            "cause": "unknown key",
            "cure": "did you mean 'name'?",
        }
    ]


def test_configuration_is_looked_for_in_the_usual_places(
    config: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_PLACES", (config,))
    assert invoke("check").exit_code == 0
    monkeypatch.setattr(options, "_PLACES", (config.with_name("missing.toml"),))
    result = invoke("check")
    assert result.exit_code == 2
    assert "name one with --config" in result.stderr


def test_configuration_may_be_named_by_the_environment(
    config: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEGATE_CONFIG", str(config))
    assert invoke("check").exit_code == 0


def test_run_with_wrong_files_says_so_and_exits_with_2(config: pathlib.Path) -> None:
    config.write_text("[nonsense]\n")
    result = invoke("run", "-c", config)
    assert result.exit_code == 2
    assert "error: sluicegate.toml:1: nonsense: unknown key" in result.stderr
    assert not (config.parent / "state" / "lock").exists()


# -- a gate that answers -------------------------------------------------------------------------


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> list[Reply]:
    """Put the replies of a gate here, in the order of the questions."""
    replies: list[Reply] = []

    async def answer(*_: object, timeout_s: float) -> Reply:
        return replies.pop(0)

    monkeypatch.setattr(options, "ask_gate", answer)
    return replies


def status_of(phase: Phase, **more: object) -> StatusView:
    return status_view(
        phase=phase,
        version="1.2",
        pid=77,
        diagnosis="epoll: the kernel refuses io_uring",
        policy="00ff",
        listeners=[ListenerView(name="ftp", address="127.0.0.1:2121", accepted=3)],
        **more,
    )


@pytest.mark.parametrize(
    ("phase", "code"),
    [(Phase.READY, 0), (Phase.REFUSING, 1), (Phase.DRAINING, 1), (Phase.STARTING, 1)],
)
def test_exit_code_of_status_is_the_readiness_check(
    config: pathlib.Path, answering: list[Reply], phase: Phase, code: int
) -> None:
    answering += [StatusReply(status=status_of(phase))] * 2
    result = invoke("status", "-c", config)
    assert result.exit_code == code
    assert phase.value in result.stdout
    quiet = invoke("status", "-q", "-c", config)
    assert (quiet.exit_code, quiet.output) == (code, "")


def test_status_shows_how_often_a_verdict_was_known(capsys: pytest.CaptureFixture[str]) -> None:
    _show(status_of(Phase.READY, verdicts_kept=7, verdict_hits=3, verdict_misses=1))
    assert "7 kept; 3 of 4 known (75 %)" in capsys.readouterr().out


def test_status_shows_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    _show(status_of(Phase.REFUSING, records_failure="ENOSPC", warnings=["look\x1b[2J"]))
    shown = capsys.readouterr().out
    assert "CANNOT BE WRITTEN: ENOSPC" in shown
    assert "warning: look\\x1b[2J" in shown


def test_status_speaks_json(config: pathlib.Path, answering: list[Reply]) -> None:
    answering.append(StatusReply(status=status_of(Phase.READY)))
    shown = json.loads(invoke("status", "--json", "-c", config).stdout)
    assert (shown["phase"], shown["listeners"][0]["address"]) == ("ready", "127.0.0.1:2121")


def test_p9_status_says_first_what_is_learned_and_speaks_json_of_it(
    config: pathlib.Path, answering: list[Reply]
) -> None:
    far = SystemClock().wall() + 86400
    views = [
        LearnView(name="run\x1b[2J", clients=["10.9.0.0/16", "fd00::/8"], until=far, connections=7),
        LearnView(name="other", clients=["10.8.0.0/16"], until=far),
    ]
    more = {"learning": views, "learned": 9, "learned_by": {"learn:run": 7, "learn:over": 2}}
    answering += [StatusReply(status=status_of(Phase.READY, **more))] * 2
    shown = invoke("status", "-c", config).stdout.splitlines()
    told = json.loads(invoke("status", "--json", "-c", config).stdout)
    assert [line.split()[0] for line in shown[:4]] == ["ready,", "LEARNING", "LEARNING", "backend"]
    assert shown[1].startswith("LEARNING     run\\x1b[2J (10.9.0.0/16, fd00::/8), for 2")
    assert shown[1].endswith("what no rule speaks of passes; 7 connections so far")
    assert [(one["name"], one["connections"]) for one in told["learning"]] == [
        ("run\x1b[2J", 7),
        ("other", 0),
    ]
    assert (told["learned"], told["learned_by"]["learn:over"]) == (9, 2)


def test_tables_show_their_rows(config: pathlib.Path, answering: list[Reply]) -> None:
    session = SessionView(
        session="s-1", client="10.0.0.1", started=0.0, idle_s=3.0, connections=1, filters=["f"]
    )
    connection = ConnectionView(
        connection="c-1",
        session="s-1",
        client="10.0.0.1:4",
        server="192.0.2.1:21",
        listener="l",
        rule="r",
        state="relaying",
        started=0.0,
        is_spliced=True,
    )
    installed = FilterView(
        name="f\x1b[2J",
        source="m:F",
        tier="content",
        on_failure="bypass",
        state="failed",
        cause="x",
    )
    answering += [
        SessionsReply(rows=[session], total=3),
        ConnectionsReply(rows=[connection], total=1),
        FiltersReply(rows=[installed]),
        SessionsReply(rows=[session], total=1),
    ]
    sessions = invoke("sessions", "-c", config).stdout
    assert "10.0.0.1" in sessions
    assert "… and 2 more" in sessions
    assert "relaying, spliced" in invoke("connections", "-c", config).stdout
    filters = invoke("filters", "-c", config).stdout
    assert "f\\x1b[2J" in filters
    assert "traffic passes without it when it fails" in filters
    assert json.loads(invoke("sessions", "--json", "-c", config).stdout)[0]["session"] == "s-1"


def test_reload_that_is_refused_exits_with_2(config: pathlib.Path, answering: list[Reply]) -> None:
    answering += [RefusedReply(causes=["a:1: wrong"]), DoneReply(notes=["careful"])]
    result = invoke("reload", "-c", config)
    assert (result.exit_code, result.stderr) == (2, "error: a:1: wrong\n")
    result = invoke("reload", "-c", config)
    assert (result.exit_code, result.stdout) == (0, "reloaded\n")
    assert "warning: careful" in result.stderr


@pytest.mark.parametrize("name", ["status", "sessions", "connections", "filters", "reload", "stop"])
def test_command_without_a_gate_exits_with_1_and_says_how_to_start_one(
    config: pathlib.Path, name: str
) -> None:
    result = invoke(name, "-c", config)
    assert result.exit_code == 1
    assert "no gate runs here (start it with: sluicegate run" in result.stderr


@pytest.mark.parametrize("name", ["status", "sessions", "connections", "filters", "stop"])
def test_answer_to_another_question_is_an_error(
    config: pathlib.Path, answering: list[Reply], name: str
) -> None:
    wrong = StatusReply(status=status_of(Phase.READY))
    answering.append(FiltersReply(rows=[]) if name == "status" else wrong)
    result = invoke(name, "-c", config)
    assert result.exit_code == 1
    assert "is it of another version?" in result.stderr


# -- log -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ((), ["decision", "transfer", "connection"]),
        (("-n", "1"), ["connection"]),
        (("-n", "0"), []),
        (("--kind", "transfer"), ["transfer"]),
        (("-k", "transfer", "-k", "decision"), ["decision", "transfer"]),
        (("--verdict", "released"), ["connection"]),
        (("--client", "10.0.0.2"), ["transfer", "connection"]),
        (("--connection", "c-1"), ["decision"]),
        (("--since", "1h"), []),
        (("kind:transfer,decision",), ["decision", "transfer"]),
        (("client:10.0.0.2/31", "not", "kind:transfer"), ["connection"]),
        (("since:1h",), []),
    ],
)
def test_log_shows_what_was_chosen(
    config: pathlib.Path, arguments: tuple[str, ...], kinds: list[str]
) -> None:
    result = invoke("log", "-c", config, "--json", *arguments)
    assert result.exit_code == 0
    assert [json.loads(line)["kind"] for line in result.stdout.splitlines()] == kinds


def test_interrupt_ends_following_without_a_word(
    config: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("sluicegate.cli.log._following", interrupted)
    result = invoke("log", "-f", "-c", config, "--json")
    assert (result.exit_code, result.stderr) == (130, "")
    assert result.stdout == RECORDS


def test_log_for_people_cannot_move_their_cursor(config: pathlib.Path) -> None:
    output = invoke("log", "-c", config).stdout
    assert "\x1b" not in output
    assert "'a\\\\x1b[2J b'" in output
    assert "filters=a,b" in output


def test_log_of_a_gate_that_never_ran_is_an_error_with_a_cure(config: pathlib.Path) -> None:
    (config.parent / "state" / "records.jsonl").unlink()
    result = invoke("log", "-c", config)
    assert result.exit_code == 2
    assert "did the gate ever run?" in result.stderr


def test_time_that_is_none_is_refused(config: pathlib.Path) -> None:
    result = invoke("log", "-c", config, "--since", "yesterday")
    assert result.exit_code == 2
    assert "'yesterday' is no time" in result.stderr
    assert "15m" in result.stderr


def test_query_that_means_nothing_is_refused_with_its_place(config: pathlib.Path) -> None:
    result = invoke("log", "-c", config, "kind:transfer", "rul:web")
    assert result.exit_code == 2
    assert "kind:transfer rul:web\n              ^ no record has a field 'rul'" in result.stderr
    assert "did you mean 'rule'?" in result.stderr


# -- showing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("a\nb\x1b[2J", "a\\nb\\x1b[2J"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\x9b", "\\x9b"),
        ("\udcff", "\\udcff"),
    ],
)
def test_unprintable_text_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_sizes_and_durations_are_written_for_people() -> None:
    assert [format_bytes(size) for size in (0, 1023, 1024, 64 << 20, 5 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "64.0 MiB", "5.0 TiB",
    ]  # fmt: skip
    assert [format_duration(seconds) for seconds in (0.25, 61, 3661, 90000)] == [
        "0.2 s", "1 min 1 s", "1 h 1 min", "1 d 1 h",
    ]  # fmt: skip
