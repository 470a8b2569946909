"""What ssh is told of a guest here, and of a host elsewhere."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.remote import Remote
from scripts.elsewhere import Host
from scripts.ssh import Connection


def _effective(config: Path) -> dict[str, str]:
    """What OpenSSH makes of a configuration."""
    said = subprocess.run(
        ["ssh", "-G", "-F", config, "guest"], capture_output=True, text=True, check=True
    ).stdout
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in said.splitlines()}


def test_a_guest_of_this_machine_has_a_new_key_each_time(tmp_path: Path) -> None:
    made = _effective(Connection(tmp_path, 2222, "kiln", tmp_path / "key", "hint").config)
    assert (made["hostname"], made["port"], made["user"]) == ("127.0.0.1", "2222", "kiln")
    assert made["stricthostkeychecking"] == "false"
    assert "proxycommand" not in made


def test_a_host_elsewhere_keeps_its_first_key(tmp_path: Path) -> None:
    connection = Connection(tmp_path, 22, "kiln", tmp_path / "key", "hint", address="203.0.113.9")
    made = _effective(connection.config)
    assert made["hostname"] == "203.0.113.9"
    assert made["stricthostkeychecking"] == "accept-new"
    assert made["userknownhostsfile"] == str(tmp_path / "known_hosts")
    assert made["passwordauthentication"] == "no"


def test_session_manager_is_a_command_of_ssh(tmp_path: Path) -> None:
    proxy = "aws ssm start-session --target %h --parameters portNumber=%p"
    connection = Connection(tmp_path, 22, "kiln", tmp_path / "key", "hint", address="i-0123", proxy=proxy)
    made = _effective(connection.config)
    assert made["proxycommand"] == proxy
    assert made["hostname"] == "i-0123"


def test_a_host_that_is_silent_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept(), daemon=True).start()
        port = server.getsockname()[1]
        remote = Remote(
            "127.0.0.1", port, "kiln", tmp_path / "key", 0.0, "g5.xlarge i-1 of ami-1 in us-east-1"
        )
        with (
            Host(remote, tmp_path) as host,
            pytest.raises(KilnError, match=r"ssh did not come .* on g5\.xlarge i-1"),
        ):
            host.wait_ssh(0.2)
