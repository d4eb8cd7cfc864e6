"""What operators may say to ftp_access, and how a rule's words join the filter's."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sluicegate.bundled.ftp_settings import FtpAccessRuleSettings, FtpAccessSettings, FtpConduct
from sluicegate.documents import merged
from sluicegate.filterapi import SocketAddress

CLIENT = SocketAddress("10.1.2.3", 40000)


def conduct(settings, client=CLIENT, **rule):
    own = merged(FtpAccessRuleSettings, rule, settings)
    return FtpConduct.of(settings, own, client)


def test_defaults_hold_everything_and_let_the_kernel_choose_ports():
    usual = conduct(FtpAccessSettings())
    assert (usual.passive_ports, usual.active_ports) == (None, None)
    assert not usual.is_read_only
    assert not usual.is_exempt(None)
    assert not usual.is_exempt("")


def test_both_ends_of_a_range_of_ports_count():
    settings = FtpAccessSettings(passive_ports="50000-50100")
    assert settings.passive_ports == range(50000, 50101)


def test_a_rule_overrides_the_filter_either_way():
    settings = FtpAccessSettings(read_only=True, public_address="192.0.2.1")
    assert conduct(settings).is_read_only
    assert not conduct(settings, read_only=False).is_read_only
    assert conduct(settings).public_address == "192.0.2.1"
    own = conduct(settings, public_address="192.0.2.2")
    assert own.public_address == "192.0.2.2"


def test_clients_are_exempted_by_network_and_users_by_name():
    settings = FtpAccessSettings(exempt_clients=["10.1.0.0/16"], exempt_users=["bot"])
    assert conduct(settings).is_exempt(None)
    elsewhere = conduct(settings, client=SocketAddress("10.2.0.1", 1))
    assert elsewhere.is_exempt("bot")
    assert not elsewhere.is_exempt("BOT")
    assert not elsewhere.is_exempt(None)


@pytest.mark.parametrize(
    "settings",
    [
        {"passive_ports": "1000-2000"},
        {"passive_ports": "50100-50000"},
        {"passive_ports": "50000"},
        {"passive_ports": 50000},
        {"passive_ports": "50000-70000"},
        {"public_address": "2001:db8::1"},
        {"public_address": "gate.example"},
        {"exempt_clients": ["10.0.0.1/8"]},
        {"readonly": True},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        FtpAccessSettings(**settings)


def test_rules_say_only_what_rules_may():
    with pytest.raises(ValidationError):
        FtpAccessRuleSettings(passive_ports="50000-50100")
