"""``sluicegate.toml`` and what it leads to: listeners, limits, filters, all mistakes at once."""

from __future__ import annotations

import dataclasses
import pathlib
import textwrap

import pytest

from sluicegate.address import SocketAddress
from sluicegate.app.filter_source import FilterUnusable, find_filter_class
from sluicegate.app.load import Loaded, load
from sluicegate.app.reload import settings_for_restart
from sluicegate.app.service_config import find_state
from sluicegate.documents import Findings
from sluicegate.filterapi import ContentFilter, StreamFilter
from sluicegate.gate.rule_settings import maker_of
from sluicegate.gate.settings import ListenerSettings, OnFailure, PerConnection
from sluicegate.limits import Limits

LISTENER = '[[listener]]\nname = "ftp"\naddress = "127.0.0.1:2121"\n'
POLICY = """\
[[publish]]
name = "ftp"
listener = "ftp"
server = "192.0.2.10:21"
clients = ["10.0.0.0/8"]
"""

FILTERS = """
import dataclasses
from sluicegate.filterapi import *

class Look(StreamFilter):
    pass

class Count(StreamFilter):
    @dataclasses.dataclass
    class Settings:
        step: int = 1
    class RuleSettings(Settings):
        pass
    def __init__(self, settings):
        self.step = settings.step

class Judge(ContentFilter):
    async def inspect(self, transfer):
        return Release()

class Raises(ContentFilter):
    def __init__(self):
        raise RuntimeError("no engine")
    async def inspect(self, transfer):
        return Release()

class Unfinished(ContentFilter):
    pass

class NoFilter:
    pass
"""


class Files:
    """The files of one gate in a folder of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.path = folder / "sluicegate.toml"
        self.main(LISTENER)
        self.policy(POLICY)
        self.filters(FILTERS)

    def main(self, text: str) -> None:
        self.path.write_text(textwrap.dedent(text))

    def policy(self, text: str) -> None:
        (self.folder / "policy.toml").write_text(textwrap.dedent(text))

    def filters(self, text: str) -> None:
        (self.folder / "my.py").write_text(text)

    def load(self, before: Loaded | None = None) -> Loaded:
        findings = Findings()
        loaded = load(self.path, findings, before)
        assert [str(error) for error in findings.errors] == []
        assert loaded is not None
        return loaded

    def errors(self) -> list[str]:
        findings = Findings()
        assert load(self.path, findings) is None
        return [str(error) for error in findings.errors]


@pytest.fixture
def files(tmp_path: pathlib.Path) -> Files:
    return Files(tmp_path)


def test_smallest_configuration_has_every_default(files: Files) -> None:
    configuration = files.load().configuration
    assert configuration.listeners == (ListenerSettings("ftp", SocketAddress("127.0.0.1", 2121)),)
    assert configuration.limits == Limits()
    assert configuration.backend == "auto"
    assert configuration.state_dir == files.folder / "state"
    assert configuration.control_path == files.folder / "state" / "control.sock"
    assert configuration.log_path == files.folder / "state" / "records.jsonl"
    assert configuration.spool_dir == files.folder / "state" / "spool"


def test_paths_are_relative_to_the_file_and_may_be_absolute(files: Files) -> None:
    files.main(
        '[service]\nstate_dir = "run"\n[log]\npath = "/var/log/r.jsonl"\n'
        '[spool]\ndir = "held"\n' + LISTENER
    )
    configuration = files.load().configuration
    assert configuration.state_dir == files.folder / "run"
    assert configuration.log_path == pathlib.Path("/var/log/r.jsonl")
    assert configuration.spool_dir == files.folder / "held"


def test_listener_may_have_addresses_of_both_families(files: Files) -> None:
    files.main('[[listener]]\nname = "ftp"\naddress = ["0.0.0.0:21", "[::]:21"]\n')
    assert [str(one.address) for one in files.load().settings.listeners] == [
        "0.0.0.0:21", "[::]:21",
    ]  # fmt: skip


def test_peers_that_announce_clients_are_named_by_networks(files: Files) -> None:
    files.main(LISTENER + 'proxy_protocol = { from = ["192.0.2.1", "2001:db8::/64"] }\n')
    [listener] = files.load().settings.listeners
    assert [str(one) for one in listener.proxy_peers] == ["192.0.2.1/32", "2001:db8::/64"]


@pytest.mark.parametrize("field", dataclasses.fields(Limits), ids=lambda field: field.name)
def test_every_limit_can_be_set_under_its_own_name(
    files: Files, field: dataclasses.Field[object]
) -> None:
    value = field.default
    files.main(f"{LISTENER}[limits]\n{field.name} = {value}\n")
    assert files.load().configuration.limits == Limits()


def test_sizes_may_have_units(files: Files) -> None:
    files.main(LISTENER + '[limits]\nspool_bytes_max = "100 GiB"\nspool_memory_bytes_max = "1MiB"')
    limits = files.load().configuration.limits
    assert (limits.spool_bytes_max, limits.spool_memory_bytes_max) == (100 << 30, 1 << 20)


def test_lowered_bound_leaves_the_default_of_its_parts_alone(files: Files) -> None:
    files.main(LISTENER + "[limits]\nspool_bytes_max = '1 GiB'\n")
    assert files.load().configuration.limits.spool_client_bytes_max == 16 << 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "sluicegate.toml: listener: is missing"),
        ("listener = []", "listener: is [], must be a list of at least 1"),
        (LISTENER + "[sevice]", "unknown key (did you mean 'service'?)"),
        (LISTENER + "[service]\nbackend = 'uring'", "must be 'auto', 'io_uring' or 'epoll'"),
        (LISTENER * 2, "sluicegate.toml:5: listener[1].name: the name 'ftp' is taken"),
        (LISTENER + LISTENER.replace('"ftp"', '"b"'), "127.0.0.1:2121 is taken by the listener"),
        (LISTENER.replace("127.0.0.1:2121", "*:21"), "is '*:21', which is not ADDRESS:PORT"),
        (LISTENER + "proxy_protocol = {}", "listener[0].proxy_protocol.from: is missing"),
        (LISTENER + "proxy_protocol.from = []", "must be a list of at least 1"),
        (LISTENER + "proxy_protocol.from = ['lb']", "from[0]: is 'lb', which is not a network"),
        (LISTENER + "proxy_protocol.peers = ['::1']", "proxy_protocol.peers: unknown key"),
        (LISTENER + "[limits]\nidle_timeout_s = 0", "must be at least 0.001"),
        (LISTENER + "[limits]\nidle_timeout_s = nan", "must be a finite number"),
        (LISTENER + "[limits]\nconnections_max = 1.5", "must be a whole number"),
        (LISTENER + "[limits]\nspool_bytes_max = '1 MB'", '(for example 1048576 or "1 MiB")'),
        (LISTENER + "[limits]\nspool_bytes_max = true", "must be a number of bytes"),
        (LISTENER + "[limits]\nspool_bytes_max = -1", "must be at least 1"),
        (
            LISTENER + "[limits]\nblocking_threads_max = 7\nblocking_threads_grown_max = 6",
            "sluicegate.toml:5: limits.blocking_threads_max: is 7, above blocking_threads_grown",
        ),
        (LISTENER + '[[filter]]\nname = "a"\n' * 2, "filter[1].name: the name 'a' is taken"),
        (LISTENER + '[[filter]]\nname = "a"\non_failure = "pass"', "must be 'deny' or 'bypass'"),
        (LISTENER + "[[filter]]\nname = 'exe_blok'", "(did you mean 'exe_block'?; or say"),
        (LISTENER + "[service]\npolicy = 'nowhere.toml'", "nowhere.toml: cannot be read: No such"),
    ],
)
def test_wrong_file_is_refused_with_place_cause_and_cure(
    files: Files, text: str, expected: str
) -> None:
    files.main(text)
    assert expected in "\n".join(files.errors())


def test_mistakes_of_all_files_are_reported_together(files: Files) -> None:
    files.main(LISTENER + '[[filter]]\nname = "a"\nuse = "my.py:Nothing"\n')
    files.policy(POLICY.replace('listener = "ftp"', 'listener = "fpt"') + 'filters = ["b"]\n')
    errors = files.errors()
    assert [error.partition(":")[0] for error in errors] == [
        "sluicegate.toml", "policy.toml", "policy.toml",
    ]  # fmt: skip
    assert "did you mean 'ftp'?" in errors[1]


def test_file_that_is_missing_or_no_text_is_refused(files: Files) -> None:
    files.path.write_bytes(b"a = 1\nb = '\xff'\n")
    assert "sluicegate.toml:2: not UTF-8" in files.errors()[0]
    files.path.write_bytes(b"\xef\xbb\xbf" + LISTENER.encode())
    assert "sluicegate.toml:1: begins with a byte order mark" in files.errors()[0]
    files.path.unlink()
    assert (
        "cannot be read: No such file or directory (choose the file with --config)"
        in (files.errors()[0])
    )


def test_state_is_found_even_if_the_rest_of_the_file_is_wrong(files: Files) -> None:
    files.main('[service]\nstate_dir = "run"\n[nonsense]\n')
    findings = Findings()
    state = find_state(files.path, findings)
    assert findings.errors == []
    assert state is not None
    assert state.control_path == files.folder / "run" / "control.sock"


# -- filters -----------------------------------------------------------------------------------


def install(files: Files, *tables: str) -> None:
    files.main(LISTENER + "".join(f"[[filter]]\n{table}\n" for table in tables))


def test_filters_stand_in_the_order_of_the_file(files: Files) -> None:
    install(files, 'name = "b"\nuse = "my.py:Judge"', 'name = "a"\nuse = "my.py:Look"')
    judge, look = files.load().settings.filters
    assert (judge.name, look.name) == ("b", "a")
    assert isinstance(judge.filter_object, ContentFilter)
    assert judge.on_failure is OnFailure.DENY
    assert judge.source == f"{files.folder}/my.py:Judge"


def test_stream_filter_is_made_for_each_connection(files: Files) -> None:
    install(files, 'name = "a"\nuse = "my.py:Look"')
    (installation,) = files.load().settings.filters
    assert isinstance(installation.filter_object, PerConnection)
    first, second = installation.filter_object.make(), installation.filter_object.make()
    assert isinstance(first, StreamFilter)
    assert first is not second


def test_filter_is_made_with_its_typed_settings(files: Files) -> None:
    install(files, 'name = "a"\nuse = "my.py:Count"\nsettings.step = 3')
    (installation,) = files.load().settings.filters
    assert isinstance(installation.filter_object, PerConnection)
    assert maker_of(installation.filter_object, {})().step == 3  # type: ignore[union-attr]


def test_filter_of_a_rule_is_made_with_what_the_rule_says_and_its_own_for_the_rest(
    files: Files,
) -> None:
    files.folder.joinpath("ways.py").write_text(
        """
import dataclasses
from sluicegate.filterapi import StreamFilter

class Two(StreamFilter):
    @dataclasses.dataclass
    class Settings:
        step: int = 1
        pace: int = 1
    @dataclasses.dataclass
    class RuleSettings:
        step: int = 10
        only_here: int = 7
    def __init__(self, settings):
        self.settings = settings
"""
    )
    install(files, 'name = "a"\nuse = "ways.py:Two"\nsettings.step = 3')
    (installation,) = files.load().settings.filters
    assert isinstance(installation.filter_object, PerConnection)
    first = maker_of(installation.filter_object, {})()
    second = maker_of(installation.filter_object, {"step": 5, "only_here": 8})()
    chosen = [(one.settings.step, one.settings.only_here) for one in (first, second)]  # type: ignore[union-attr]
    assert chosen == [(3, 7), (5, 8)]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('use = "my.py:Count"\nsettings.stp = 3', "filter[0].settings.stp: unknown key"),
        ('use = "my.py:Count"\nsettings.step = "3"', 'settings.step: is "3", must be a whole'),
        ('use = "my.py:Look"\nsettings.step = 3', "filter[0].settings: Look takes no settings"),
        ('use = "my.py:Lok"', "has no 'Lok' (did you mean 'Look'?)"),
        ('use = "my.py:NoFilter"', "is not a filter (derive it from one of: Filter, Content"),
        ('use = "my.py:Unfinished"', "is not complete (define inspect)"),
        ('use = "my.py:Raises"', "the filter cannot be made: RuntimeError: no engine"),
        ('use = "other.py:Look"', "other.py cannot be read: No such file"),
        ('use = "nowhere.at.all:Look"', "there is no module 'nowhere.at.all' (install it"),
        ('use = "json:Look"', "json has no 'Look'"),
        ('use = "a b"', "there is no filter 'a b'"),
    ],
)
def test_filter_that_cannot_be_had_is_an_error_of_the_configuration(
    files: Files, table: str, expected: str
) -> None:
    install(files, f'name = "a"\n{table}')
    assert expected in "\n".join(files.errors())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero (see"),
        ("def f(:\n", "SyntaxError"),
    ],
)
def test_filter_file_that_cannot_be_imported_says_where(
    files: Files, text: str, expected: str
) -> None:
    files.filters(text)
    install(files, 'name = "a"\nuse = "my.py:Look"')
    (error,) = files.errors()
    assert expected in error
    assert "my.py" in error


def test_bundled_filters_are_found_by_their_names(tmp_path: pathlib.Path) -> None:
    filter_class, source = find_filter_class("exe_block", tmp_path)
    assert issubclass(filter_class, ContentFilter)
    assert source == "sluicegate.bundled.exe_block:ExeBlock"


def test_filter_class_is_found_in_an_installed_module(tmp_path: pathlib.Path) -> None:
    found, _ = find_filter_class("sluicegate.bundled.exe_block:ExeBlock", tmp_path)
    assert issubclass(found, ContentFilter)


def test_module_that_lacks_something_it_imports_is_not_called_missing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking.py").write_text("import nowhere_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FilterUnusable, match="lacking cannot be imported: ModuleNotFoundError"):
        find_filter_class("lacking:Look", tmp_path)


def test_rule_settings_are_checked_against_what_the_filter_declares(files: Files) -> None:
    install(files, 'name = "count"\nuse = "my.py:Count"', 'name = "look"\nuse = "my.py:Look"')
    files.policy(
        POLICY + 'filters = ["count", "look"]\nsettings.count.stp = 1\nsettings.look.x = 1\n'
    )
    assert files.errors() == [
        "policy.toml:7: publish[0].settings.count.stp: unknown key (did you mean 'step'?)",
        (
            "policy.toml:8: publish[0].settings.look: the filter 'look' takes no settings per rule "
            '(set it up in [[filter]], or install it twice with its own "name")'
        ),
    ]


def test_rule_that_leaves_out_what_its_filter_must_be_told_is_refused(files: Files) -> None:
    files.folder.joinpath("told.py").write_text(
        """
import dataclasses
from sluicegate.filterapi import StreamFilter

class Told(StreamFilter):
    @dataclasses.dataclass
    class RuleSettings:
        word: str
    def __init__(self, settings):
        self.settings = settings
"""
    )
    install(files, 'name = "told"\nuse = "told.py:Told"')
    files.policy(POLICY + 'filters = ["told"]\n')
    assert files.errors() == ["policy.toml:1: publish[0].settings.told.word: is missing"]
    files.policy(POLICY + 'filters = ["told"]\nsettings.told.word = "x"\n')
    assert files.load().settings.filters[0].name == "told"


# -- reloading -----------------------------------------------------------------------------------


def test_filter_about_which_nothing_changed_is_the_same_object_after_a_reload(
    files: Files,
) -> None:
    install(files, 'name = "a"\nuse = "my.py:Judge"', 'name = "b"\nuse = "my.py:Count"')
    before = files.load()
    install(
        files,
        'name = "b"\nuse = "my.py:Count"\nsettings.step = 2',
        'name = "a"\nuse = "my.py:Judge"',
    )
    after = files.load(before)
    assert after.settings.filters[1] is before.settings.filters[0]
    assert after.settings.filters[0] is not before.settings.filters[1]


def test_changed_file_of_a_filter_is_loaded_anew(files: Files) -> None:
    install(files, 'name = "a"\nuse = "my.py:Judge"')
    before = files.load()
    files.filters(FILTERS + "\n# changed\n")
    assert files.load(before).settings.filters[0] is not before.settings.filters[0]


def test_settings_that_wait_for_a_restart_are_named(files: Files) -> None:
    before = files.load()
    files.main('[service]\nbackend = "epoll"\n' + LISTENER + "[limits]\nidle_timeout_s = 5\n")
    assert settings_for_restart(before, files.load(before)) == [
        '"backend" was changed; it is in force after a restart',
        "limits.idle_timeout_s was changed; it is in force after a restart",
    ]


@pytest.mark.parametrize("used", [["judge"], ["look", "judge"]])
def test_rule_whose_content_filters_would_never_be_asked_is_refused(
    files: Files, used: list[str]
) -> None:
    install(files, 'name = "judge"\nuse = "my.py:Judge"', 'name = "look"\nuse = "my.py:Look"')
    files.policy(POLICY + f"filters = {used}\n")
    (error,) = files.errors()
    assert error.startswith("policy.toml:6: publish[0].filters: 'judge' judges objects, and no")


def test_rule_with_a_filter_that_may_find_objects_is_taken(files: Files) -> None:
    install(files, 'name = "judge"\nuse = "my.py:Judge"', 'name = "ftp_access"')
    files.policy(POLICY + "filters = ['ftp_access', 'judge']\n")
    names = [one.name for one in files.load().settings.filters]
    assert names == ["judge", "ftp_access"]


def test_what_has_no_effect_is_a_warning(files: Files) -> None:
    files.main(
        LISTENER
        + LISTENER.replace('"ftp"', '"idle"').replace("2121", "2122")
        + '[[filter]]\nname = "look"\nuse = "my.py:Look"\non_failure = "bypass"\n'
    )
    files.policy(POLICY + POLICY.replace('name = "ftp"', 'name = "late"'))
    warnings = files.load().warnings
    assert [warning.partition(": ")[0] for warning in warnings] == [
        "sluicegate.toml:4", "sluicegate.toml:10", "policy.toml:6",
    ]  # fmt: skip


@pytest.mark.parametrize("is_proxy", [True, False])
def test_a_content_filter_needs_no_other_where_the_gate_reads_http(
    files: Files, is_proxy: bool
) -> None:
    install(files, 'name = "judge"\nuse = "my.py:Judge"')
    if is_proxy:
        text = files.path.read_text()
        files.path.write_text(text.replace(LISTENER, f'{LISTENER}entry = "proxy"\n', 1))
        rule = '[[rule]]\nname = "web"\naction = "allow"\nclients = ["10.0.0.0/8"]\nto = ["*"]\n'
        files.policy(f"{rule}protocols = ['tcp:80']\nfilters = ['judge']\n")
    else:
        files.policy(POLICY + "filters = ['judge']\nhttp = true\n")
    assert files.load().settings.filters[0].name == "judge"
