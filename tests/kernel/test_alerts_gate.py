"""Alerts of a running gate: raised from its log, told to real receivers, lost by no kill."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
from typing import Any

import pytest

from sluicegate.app.alerts.webhook import sign
from sluicegate.gate.control_messages import AcknowledgeRequest, AlertsRequest, MeasuresRequest
from tests.kernel.alert_kit import HOST, PASSWORD, Mailbox, Webhook
from tests.kernel.test_gate_process import echoed
from tests.kernel.test_processes import Gate, LoneGate, wait_until_gone
from tests.waiting import wait_until

pytestmark = pytest.mark.either_driver

VISITS = '[[alert]]\nname = "visit"\nquery = "kind:connection"\nagain = "immediately"\n'


@pytest.fixture
def kind() -> type[Gate]:
    return LoneGate


def visit(gate: Gate) -> None:
    with gate.connect() as client:
        assert echoed(client, b"hello") == b"hello"


def alerter(gate: Gate) -> dict[str, Any]:
    (row,) = [row for row in gate.status()["workers"] if row["name"] == "alert process"]
    return row


def raised(gate: Gate, name: str = "visit") -> list[dict[str, Any]]:
    return [one for one in gate.records("alert") if one["alert"] == name]


def measures(gate: Gate) -> dict[str, tuple[list[str], float]]:
    series = gate.reply(MeasuresRequest())["series"]
    return {one[0]: (list(one[1]), one[2]) for one in series}


def write_action(gate: Gate, action: str) -> None:
    gate.write_main(
        f'{VISITS}actions = ["log", "told"]\n[[alerts.action]]\nname = "told"\n{action}\n'
    )


def write_secret(gate: Gate, name: str, text: str) -> None:
    path = gate.folder / name
    path.touch(0o600)
    path.write_text(f"{text}\n")


def test_alert_is_raised_listed_acknowledged_and_recorded_once_each(gate: Gate) -> None:
    gate.write_main(VISITS.replace("immediately", "after-acknowledged"))
    gate.start()
    visit(gate)
    gate.wait_for("alert visit")
    visit(gate)
    # Both visits have to be counted: what is read after the acknowledgement raises it anew.
    wait_until(lambda: [row for row in gate.reply(AlertsRequest())["rows"] if row["count"] == 2])
    (row,) = gate.reply(AlertsRequest())["rows"]
    assert (row["alert"], row["state"]) == ("visit", "open")
    assert wait_until(lambda: gate.status()["alerts_open"]) == 1
    reply = gate.reply(AcknowledgeRequest(alerts=[row["raising"]]))
    assert reply["acknowledged"] == [row["raising"]]
    assert gate.reply(AcknowledgeRequest(alerts=[row["raising"]]))["acknowledged"] == []
    wait_until(lambda: len(raised(gate)) == 2)
    wait_until(lambda: measures(gate)["sluicegate_alerts_open"] == ([], 0.0))
    assert measures(gate)["sluicegate_alerts_raised"] == (["visit", "warning"], 1.0)
    assert gate.end() == 0
    assert [one["event"] for one in raised(gate)] == ["raised", "acknowledged"]
    acts = [one for one in gate.records("operator") if one["action"] == "alert-acknowledge"]
    assert [one["result"] for one in acts] == ["done", "failed"]
    assert raised(gate)[1]["by"] == acts[0]["by"]


def test_mail_goes_to_a_real_server_over_tls_with_a_password_and_is_tried_again(
    gate: Gate, tmp_path: pathlib.Path
) -> None:
    mailbox = Mailbox(tmp_path, refusals=1)
    write_secret(gate, "mail.password", PASSWORD)
    write_action(
        gate,
        f'mail = {{ server = "{HOST}:{mailbox.port}", from = "gate@example.org", '
        'to = ["ops@example.org", "night@example.org"], user = "gate", '
        'password_file = "mail.password", ca = "ca.pem" }',
    )
    gate.start()
    visit(gate)
    assert "it answers 451 try again later" in gate.wait_for("alert visit: the action told failed")
    mail = mailbox.mails.get(timeout=60)
    assert mailbox.envelopes[0].rcpt_tos == ["ops@example.org", "night@example.org"]
    assert "warning: visit" in mail["Subject"]
    raising = wait_until(lambda: raised(gate))[0]["raising"]
    assert f"sluicegate alerts ack {raising}" in mail.get_content()
    assert gate.end() == 0
    assert [one["event"] for one in raised(gate)] == ["raised"]
    mailbox.close()


def test_mail_server_that_says_nothing_does_not_keep_a_gate_from_its_end(gate: Gate) -> None:
    with socket.create_server((HOST, 0)) as silent:
        write_action(
            gate,
            f'mail = {{ server = "{HOST}:{silent.getsockname()[1]}", from = "gate@example.org", '
            'to = ["ops@example.org"], tls = "none", timeout_s = 600 }',
        )
        gate.start()
        visit(gate)
        with silent.accept()[0]:
            assert gate.end() == 0
    assert not [line for line in gate.lines if "does not end" in line]


def test_webhook_is_called_over_tls_with_a_signature(gate: Gate, tmp_path: pathlib.Path) -> None:
    webhook = Webhook(tmp_path)
    write_secret(gate, "hook.key", "shared")
    write_action(
        gate,
        f'webhook = {{ url = "https://{HOST}:{webhook.port}/hooks/1?team=net", '
        'key_file = "hook.key", ca = "ca.pem" }',
    )
    gate.start()
    visit(gate)
    headers, body = webhook.calls.get(timeout=60)
    assert headers[":path"] == "/hooks/1?team=net"
    time = headers["Sluicegate-Signature"].partition(",")[0].removeprefix("t=")
    assert headers["Sluicegate-Signature"] == sign("shared", int(time), body)
    told = json.loads(body)
    assert (told["version"], told["alert"], told["event"]) == (1, "visit", "raised")
    assert headers["Sluicegate-Delivery"] == f"{told['raising']}.1"
    assert gate.end() == 0
    webhook.close()


def test_webhook_whose_certificate_is_not_believed_is_not_told(
    gate: Gate, tmp_path: pathlib.Path
) -> None:
    webhook = Webhook(tmp_path)
    write_action(gate, f'webhook = {{ url = "https://{HOST}:{webhook.port}/" }}')
    gate.start()
    visit(gate)
    gate.wait_for("alert visit: the action told failed: its certificate is not believed")
    assert webhook.calls.empty()
    assert gate.end() == 0
    webhook.close()


def test_action_that_fails_for_good_is_recorded_and_counted(
    gate: Gate, tmp_path: pathlib.Path
) -> None:
    webhook = Webhook(tmp_path, answers=(404,))
    write_action(gate, f'webhook = {{ url = "https://{HOST}:{webhook.port}/", ca = "ca.pem" }}')
    gate.start()
    visit(gate)
    failed = wait_until(lambda: [one for one in raised(gate) if one["event"] == "action-failed"])
    assert failed[0]["facts"] == {"action": "told", "cause": "it answers 404", "attempts": 1}
    (row,) = gate.reply(AlertsRequest())["rows"]
    assert row["failures"] == {"told": "it answers 404"}
    counted = (["told"], 1.0)
    wait_until(lambda: measures(gate).get("sluicegate_alert_actions_failed") == counted)
    assert gate.end() == 0
    webhook.close()


def test_command_gets_facts_and_no_shell_and_no_rights(gate: Gate, tmp_path: pathlib.Path) -> None:
    told = tmp_path / "told"
    told.mkdir()
    script = tmp_path / "page"
    script.write_text(
        f'#!/bin/sh\ncat > {told}/input\nenv > {told}/environment\necho "$@" > {told}/arguments\n'
        f"grep -E '^(NoNewPrivs|CapEff|CapBnd)' /proc/self/status > {told}/rights\n"
        f"touch /dev/shm/{told.parent.name} 2> {told}/refusal\nmv {told}/rights {told}/done\n"
    )
    script.chmod(0o755)
    gate.write_main(
        f'[service]\nwritable = ["{told}"]\n{VISITS}actions = ["told"]\n[[alerts.action]]\n'
        f'name = "told"\ncommand = {{ run = ["{script}", "$(id)", "a b"] }}\n'
    )
    gate.start()
    visit(gate)
    wait_until((told / "done").exists)
    assert (told / "arguments").read_text() == "$(id) a b\n"
    assert json.loads((told / "input").read_text())["alert"] == "visit"
    environment = dict(
        line.partition("=")[::2] for line in (told / "environment").read_text().splitlines()
    )
    assert environment["SLUICEGATE_ALERT_NAME"] == "visit"
    assert "SLUICEGATE_CONFIG" not in environment
    rights = (told / "done").read_text().split()
    assert rights == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]
    if not any("Landlock" in one for one in gate.status()["protections_lacking"]):
        assert "Permission denied" in (told / "refusal").read_text()
    assert gate.end() == 0


def test_command_that_does_not_end_is_killed_and_tried_again(
    gate: Gate, tmp_path: pathlib.Path
) -> None:
    script = tmp_path / "page"
    script.write_text("#!/bin/sh\nsleep 600 &\nsleep 600\n")
    script.chmod(0o755)
    write_action(gate, f'command = {{ run = ["{script}"], timeout_s = 1 }}')
    gate.start()
    visit(gate)
    assert "did not end within 1 s" in gate.wait_for("alert visit: the action told failed")
    pids = gate.pids()
    assert gate.end() == 0
    wait_until_gone(pids)


def test_acknowledging_is_refused_while_it_cannot_be_kept(gate: Gate) -> None:
    gate.write_main(VISITS.replace("immediately", "after-acknowledged"))
    gate.start()
    visit(gate)
    wait_until(lambda: gate.reply(AlertsRequest())["rows"])
    file = gate.folder / "state" / "alerts" / "alerts.json"
    file.unlink()
    file.mkdir()
    refused = gate.reply(AcknowledgeRequest(alerts=["visit"]))
    assert "nothing can be kept" in refused["causes"][0]
    assert gate.reply(AlertsRequest())["rows"][0]["state"] == "open"
    wait_until(lambda: any("nothing can be kept" in one for one in gate.status()["warnings"]))
    file.rmdir()
    assert gate.reply(AcknowledgeRequest(alerts=["visit"]))["acknowledged"]
    assert gate.end() == 0


def wait_until_replaced(gate: Gate, pid: int) -> None:
    wait_until(lambda: alerter(gate)["pid"] not in {0, pid})


def wait_until_raised(gate: Gate, count: int) -> None:
    wait_until(lambda: len(raised(gate)) >= count)


def test_killed_alerter_loses_no_alert_and_doubles_no_record(
    gate: Gate, tmp_path: pathlib.Path
) -> None:
    webhook = Webhook(tmp_path)
    gate.write_main(
        f'{VISITS}by = "connection"\nactions = ["told"]\n[[alerts.action]]\nname = "told"\n'
        f'webhook = {{ url = "https://{HOST}:{webhook.port}/", ca = "ca.pem", timeout_s = 60 }}\n'
    )
    gate.start()
    for _ in range(4):
        visit(gate)
        pid = wait_until(lambda: alerter(gate)["pid"])
        os.kill(pid, signal.SIGKILL)
        visit(gate)
        wait_until_replaced(gate, pid)
    wait_until_raised(gate, 8)
    raisings = {one["raising"] for one in raised(gate)}
    seen: set[str] = set()
    while len(seen) < 8:
        # One that is not told at first is told again after a pause.
        headers, _ = webhook.calls.get(timeout=180)
        seen.add(headers["Sluicegate-Delivery"].removesuffix(".1"))
    assert gate.end() == 0
    assert [one["event"] for one in raised(gate)] == ["raised"] * 8
    assert seen == raisings
    connections = {one["connection"] for one in gate.records("connection")}
    assert {one["about"] for one in raised(gate)} == connections
    webhook.close()


def test_alert_of_before_is_known_after_a_restart_of_the_gate(gate: Gate) -> None:
    gate.write_main(VISITS.replace("immediately", "after-acknowledged"))
    gate.start()
    visit(gate)
    gate.wait_for("alert visit")
    assert gate.end() == 0
    gate.close()
    gate.start()
    (row,) = wait_until(lambda: gate.reply(AlertsRequest())["rows"])
    visit(gate)
    wait_until(lambda: gate.reply(AlertsRequest())["rows"][0]["count"] == 2)
    assert gate.reply(AcknowledgeRequest(alerts=["visit"]))["acknowledged"] == [row["raising"]]
    wait_until_raised(gate, 2)
    assert gate.end() == 0
    assert [one["event"] for one in raised(gate)] == ["raised", "acknowledged"]


def test_reload_puts_other_alerts_in_force(gate: Gate) -> None:
    gate.start()
    visit(gate)
    gate.write_main(VISITS)
    assert gate.ask("reload").returncode == 0
    visit(gate)
    gate.wait_for("alert visit")
    gate.write_main("[alerts]\nenabled = false\n")
    assert gate.ask("reload").returncode == 0
    assert gate.end() == 0


@pytest.mark.parametrize("name", ["store keeper", "forwarder", "metrics exporter", "alert process"])
def test_end_of_every_process_is_recorded(gate: Gate, name: str, tmp_path: pathlib.Path) -> None:
    gate.write_main(
        '[metrics]\nlisten = "127.0.0.1:0"\n'
        f'[[log.sink]]\nname = "local"\nto = "unix:{tmp_path}/nobody"\n'
    )
    gate.start()
    (row,) = [row for row in gate.status()["workers"] if row["name"] == name]
    os.kill(row["pid"], signal.SIGKILL)
    (record,) = wait_until(lambda: gate.records("process"))
    assert (record["process"], record["pid"]) == (name, row["pid"])
    assert (record["cause"], record["restarts"]) == ("signal SIGKILL", 1)
    wait_until(lambda: raised(gate, "process-died"))
    assert gate.end() == 0


def test_killed_worker_is_an_alert_of_its_own(gate: Gate) -> None:
    gate.start()
    worker = gate.workers()[0]
    os.kill(worker["pid"], signal.SIGKILL)
    gate.wait_for(f"alert process-died ({worker['name']})")
    (record,) = wait_until(lambda: raised(gate, "process-died"))
    assert record["facts"]["cause"] == "signal SIGKILL"
    assert gate.end() == 0
