"""The CloudWatch agent's configuration: rendered from the role's variables and held against its schema."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from scripts import role_readme
from tests.unit.test_roles import refusal

ROLE = role_readme.ROLES / "agents"
SCHEMA = json.loads((ROLE / "files/cloudwatch.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

NO_JOURNAL: dict[str, Any] = {"agents_journal": [], "agents_cloudwatch": True}
NO_LOGS: dict[str, Any] = {"agents_journal": [], "agents_files": {}}


def render(folder: Path, variables: dict[str, Any]) -> dict[str, Any]:
    """The configuration that the role would write with these variables."""
    include = [
        {"ansible.builtin.include_vars": str(ROLE / part / "main.yml")} for part in ("defaults", "vars")
    ]
    content = "{{ (__agents_files | selectattr('dest', 'search', 'cloudwatch') | first).content }}"
    write = {"ansible.builtin.copy": {"content": content, "dest": str(folder / "out.json"), "mode": "0644"}}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [*include, write],
    }
    (folder / "play.yml").write_text(json.dumps([play]))
    (folder / "templates").symlink_to(ROLE / "templates")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "play.yml", "-e", json.dumps(variables)],
        env=environment, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return said


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return render(tmp_path_factory.mktemp("default"), {})


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_default_is_valid(default: dict[str, Any]) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(default)] == []


def test_default_collects_the_server_and_the_gpu(default: dict[str, Any]) -> None:
    collected = default["logs"]["logs_collected"]["journald"]["collect_list"]
    assert collected[0]["units"] == ["monai-label.service"]
    watched = {name for each in collected[1:-1] for name in each["units"]}
    assert watched == {"nginx.service", "kiln-auth.service", "kiln-health.service", "kiln-drain.service"}
    assert "units" not in collected[-1], "no units means all"
    assert collected[-1]["priority"] == "warning"
    assert "utilization_gpu" in default["metrics"]["metrics_collected"]["nvidia_gpu"]["measurement"]


@pytest.mark.parametrize("variables", [NO_JOURNAL, NO_LOGS], ids=["no journal", "no logs"])
def test_less_is_valid_too(tmp_path: Path, variables: dict[str, Any]) -> None:
    said = render(tmp_path, variables)
    assert [error.message for error in VALIDATOR.iter_errors(said)] == []
    assert "journald" not in json.dumps(said)
    assert ("logs" in said) == ("agents_files" not in variables)


# Where → what stands there instead, each a mistake that the agent would only tell at its start.
MISTAKES: list[tuple[tuple[str | int, ...], Any]] = [
    (("metrics", "namespace"), "AWS/Kiln"),
    (("metrics", "metrics_collected", "nvidia_gpu", "measurement"), ["utilisation_gpu"]),
    (("metrics", "metrics_collected", "gpu"), {}),
    (("metrics", "append_dimensions", "InstanceId"), "{instance_id}"),
    (("agent", "metrics_collection_interval"), "60"),
    (("agent", "run_as_user"), "root"),
    (("logs", "logs_collected", "journald", "collect_list", 0, "priority"), "warn"),
    (("logs", "logs_collected", "journald", "collect_list", 0, "units"), ["monai-label"]),
    (("logs", "logs_collected", "journald", "collect_list", 0, "retention_in_days"), 31),
    (("logs", "logs_collected", "files", "collect_list", 0, "log_stream_name"), "{instance_id}/a:b"),
    (("logs", "logs_collected", "files", "collect_list", 0, "file_path"), "var/log/x"),
]


@pytest.mark.parametrize(("where", "says"), MISTAKES, ids=lambda part: str(part)[-60:])
def test_mistake_is_refused(default: dict[str, Any], where: tuple[str | int, ...], says: Any) -> None:
    wrong = copy.deepcopy(default)
    place: Any = wrong
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = says
    assert not VALIDATOR.is_valid(wrong)


def test_agent_without_a_checksum_stops_the_role_with_the_command_that_fills_it(tmp_path: Path) -> None:
    pin = {"name": "amazon-ssm-agent.deb", "url": "https://example.org/x.deb", "sha256": ""}
    said = refusal(tmp_path, "agents", "deb", {"agents_ssm": True, "agents_pins": [pin]})
    assert "kiln pins add agents amazon-ssm-agent.deb" in said


def test_repository_without_a_key_stops_the_role(tmp_path: Path) -> None:
    given = {"uri": "https://example.org", "suite": "stable", "component": "main"}
    said = refusal(tmp_path, "agents", "repository", {"agents_repository": given})
    assert "agents_repository must name uri, suite, component and key" in said
