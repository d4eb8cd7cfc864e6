"""The ports that tests tell servers to listen on (:mod:`tests.ports`)."""

from __future__ import annotations

import socket

import pytest

from tests.ports import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_connects_before_the_server_is_there_is_refused_and_then_served(host: str) -> None:
    port = free_port(host)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port)).close()

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family):
        socket.create_connection((host, port)).close()


def test_port_is_kept_from_who_names_none() -> None:
    first = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("127.0.0.1", first))
    assert free_port() != first
