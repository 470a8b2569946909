"""Logs that are rotated, the CloudWatch agent's configuration, and agents only where they are wanted."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from testinfra.host import Host

from kiln import paths
from tests.image.asking import text, text_or_nothing
from tests.image.tree import Tree, settings, shown

AGENTS = ("amazon-ssm-agent", "amazon-cloudwatch-agent")
SERVER = "/etc/systemd/system/monai-label.service"
CONFIGURATION = "/etc/kiln/cloudwatch-agent.json"
SCHEMA = paths.ROOT / "ansible/roles/agents/files/cloudwatch.schema.json"
# A record for each user id, and what apt writes anew each time.
FIXED = ("/var/log/lastlog", "/var/log/faillog", "/var/log/apt/eipp.log.xz")
# The journal has its bounds, the agents of AWS rotate their logs themselves.
BOUNDED = ("/var/log/journal/", "/var/log/amazon/")
REGISTERED = (
    "/var/lib/amazon/ssm/i-*",
    "/var/lib/amazon/ssm/Vault/Store/*",
    "/var/lib/amazon/ssm/registration*",
)


@pytest.fixture(scope="module")
def configuration(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text(host, CONFIGURATION))
    return found


@pytest.fixture(scope="module")
def rotated(host: Host) -> list[str]:
    """Patterns of the files that logrotate would rotate."""
    done = host.run("logrotate --debug /etc/logrotate.conf")
    assert done.rc == 0, f"logrotate refuses its settings: {(done.stderr or done.stdout).strip()[-200:]}"
    found = re.findall(
        r"^rotating pattern: (.*?)\s+(?:after|\d|weekly|monthly|yearly|hourly|forced)",
        f"{done.stdout}\n{done.stderr}",
        re.M,
    )
    return [pattern for line in found for pattern in line.split()]


def covered(path: str, patterns: list[str]) -> bool:
    return any(re.fullmatch(re.escape(one).replace(r"\*", "[^/]*"), path) for one in patterns)


@pytest.mark.parametrize("name", AGENTS)
def test_agent_is_absent_or_enabled(host: Host, tree: Tree, name: str) -> None:
    there = host.package(name).is_installed
    enabled = bool(tree.matching(f"/etc/systemd/system/*.wants/{name}.service"))
    assert there == enabled, f"{name} is {'installed and disabled' if there else 'enabled and not installed'}"
    base = settings(text_or_nothing(host, "/etc/image-release")).get("BASE", "")
    assert not there or not base.startswith("debian-12@"), f"{name} is in an image that is not for AWS"


def test_no_agent_is_registered(tree: Tree) -> None:
    found = tree.matching(*REGISTERED)
    assert not found, f"identity of the build's instance, every instance would share it: {shown(found)}"


def test_cloudwatch_configuration_is_valid(configuration: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(configuration)]
    assert not wrong, f"the CloudWatch agent would refuse {CONFIGURATION}: {shown(wrong, 2)}"


@pytest.mark.sealed
def test_collected_units_are_there(tree: Tree, configuration: dict[str, Any]) -> None:
    logs = configuration.get("logs", {}).get("logs_collected", {})
    named = {
        unit for one in logs.get("journald", {}).get("collect_list", []) for unit in one.get("units", [])
    }
    missing = [unit for unit in sorted(named) if not tree.matching(f"/*/systemd/system/{unit}")]
    assert not missing, f"CloudWatch would collect what no unit says: {shown(missing)}"


def test_logs_are_rotated(tree: Tree, rotated: list[str], configuration: dict[str, Any]) -> None:
    assert tree.matching("/etc/systemd/system/timers.target.wants/logrotate.timer"), (
        "logrotate.timer is disabled"
    )
    logs = configuration.get("logs", {}).get("logs_collected", {})
    collected = [one["file_path"] for one in logs.get("files", {}).get("collect_list", [])]
    found = [path for path in tree.files(tree.below("/var/log")) if not path.startswith(BOUNDED)]
    growing = [path for path in (*found, *collected) if path not in FIXED and not covered(path, rotated)]
    assert not growing, f"grows for ever: {shown(growing)}"


def test_server_rotates_its_log(host: Host, tree: Tree) -> None:
    files = tree.matching("/etc/kiln/*-logging.json")
    # Where the role is tested by itself there is no server.
    assert files or SERVER not in tree, "nothing says how the server's log is rotated"
    handlers = [one for path in files for one in json.loads(text(host, path))["handlers"].values()]
    growing = [
        one["filename"]
        for one in handlers
        if "filename" in one and not (one.get("maxBytes") and one.get("backupCount"))
    ]
    assert not growing, f"the server's log grows for ever: {shown(growing)}"
