"""What says how instance and server are, and what lets work end: there, without rights, in order."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

from tests.image.asking import text
from tests.image.tree import Tree, settings, unit

SERVICES = ("kiln-health", "kiln-drain")
UNITS = "/etc/systemd/system"
DROP_IN = f"{UNITS}/monai-label.service.d/60-drain.conf"
SETTINGS = "/etc/kiln/health.env"
AWS = "/usr/local/lib/kiln/kiln_aws.py"
TABLES = ("/usr/local/lib/kiln/kiln_inflight.py", "/opt/monai-label/kiln_inflight.py")
SERVER = f"{UNITS}/monai-label.service"


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_enabled_without_rights(host: Host, tree: Tree, name: str) -> None:
    assert f"{UNITS}/multi-user.target.wants/{name}.service" in tree, f"{name}.service is not enabled"
    found = unit(text(host, f"{UNITS}/{name}.service"))
    wanted = {
        "User": ["kiln-health"],
        "CapabilityBoundingSet": [""],
        "NoNewPrivileges": ["yes"],
        "ProtectSystem": ["strict"],
    }
    wrong = [f"{key}={found.get(key)}" for key, value in wanted.items() if found.get(key) != value]
    assert not wrong, f"{name}.service has more rights than it needs: {', '.join(wrong)}"


def test_stop_of_the_server_waits_for_its_work(host: Host) -> None:
    found, limits = unit(text(host, DROP_IN)), settings(text(host, SETTINGS))
    assert found.get("ExecStop") == ["/usr/local/sbin/kiln-drain stop"], (
        "systemctl stop monai-label cuts requests off"
    )
    waits, ends = int(limits["KILN_HEALTH_STOP"]), int(found["TimeoutStopSec"][0].removesuffix("s"))
    assert waits < ends, f"systemd ends the wait of {waits} s after {ends} s"
    assert found.get("NotifyAccess") == ["exec"], "the wait cannot ask systemd for as long as settings say"
    after = found["After"][0].split()
    missing = {"nginx.service", "kiln-health.service", "kiln-drain.service"} - set(after)
    assert not missing, f"stopped before the server has answered: {', '.join(sorted(missing))}"


def test_aws_can_be_told(host: Host) -> None:
    """The program runs with Python's own modules alone, and knows what it may not ask for."""
    asked = {"region": "us-east-1", "endpoint": "http://127.0.0.1:9", "metadata": "127.0.0.1:9"}
    given = json.dumps({**asked, "calls": [["ec2", "terminate_instances", {}], ["autoscaling", "x", {}]]})
    # Nor with the keys of whoever checks.
    done = host.run("printf %s %s | /usr/bin/env -i /usr/bin/python3 -I %s", "%s", given, AWS)
    assert done.rc == 0, f"{AWS} cannot call AWS: {done.stderr.strip()[-200:]}"
    codes = [answer["code"] for answer in json.loads(done.stdout)]
    assert codes == ["NotAllowed", "NotAllowed"], f"{AWS} asks AWS for anything: {', '.join(codes)}"


def test_table_is_read_as_it_is_written(host: Host, tree: Tree) -> None:
    read = text(host, TABLES[0])
    # Where the role is tested by itself there is no server.
    if TABLES[1] in tree or SERVER in tree:
        assert read == text(host, TABLES[1]), f"{TABLES[0]} is not the server's"
        folders = unit(text(host, SERVER)).get("RuntimeDirectory")
        assert folders == ["monai-label"], "the server has no folder for its table of requests"
