"""Roles: specs, defaults and READMEs agree, and tasks keep to the house rules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiln import paths
from scripts import role_readme
from tests.image.sandbox import SANDBOX
from tests.image.tree import unit

ROLES = sorted(path.parent.parent for path in role_readme.ROLES.glob("*/tasks/main.yml"))
SPECS = {role.name: role / "meta/argument_specs.yml" for role in ROLES}

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(role: Path) -> dict[str, dict[str, Any]]:
    specs: dict[str, dict[str, Any]] = load(role / "meta/argument_specs.yml")["argument_specs"]["main"][
        "options"
    ]
    return specs


@each_role
def test_defaults_and_specs_agree(role: Path) -> None:
    assert {name: option["default"] for name, option in options(role).items()} == load(
        role / "defaults/main.yml"
    )


@each_role
def test_every_default_has_a_comment(role: Path) -> None:
    lines = (role / "defaults/main.yml").read_text(encoding="utf-8").splitlines()
    bare = [line for before, line in pairwise(lines) if line[:1].isalpha() and before[:1] != "#"]
    assert bare == []


@each_role
def test_variables_carry_the_name_of_their_role(role: Path) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []
    internals = load(role / "vars/main.yml") if (role / "vars/main.yml").exists() else {}
    assert [name for name in internals if not name.startswith(f"__{role.name}_")] == []


@each_role
def test_no_role_reaches_into_another_ones_variables(role: Path) -> None:
    others = [other.name for other in ROLES if other != role]
    texts = [path.read_text(encoding="utf-8") for path in role.rglob("*") if path.suffix in {".yml", ".j2"}]
    reached = {
        name for text in texts for other in others for name in re.findall(rf"\b(?:__)?{other}_\w+", text)
    }
    # A module may be named after what it does to a tree, as seal_tree; nvidia_gpu is CloudWatch's word.
    assert reached <= {"seal_tree", "nvidia_gpu"}


# base brings the other roles' packages along; what is downloaded or compiled is no package of an archive.
INSTALLED = {
    "agents": ["__agents_downloads }}/{{ item.name", "__agents_wanted", "agents_packages"],
    "base": ["base_packages + base_extra_packages"],
    "efs_client": [
        "/var/cache/apt/archives/{{ efs_client_pins[0].name",
        "__efs_client_own_packages",
        "efs_client_packages",
    ],
    "nvidia": ["nvidia_modules_package", "nvidia_packages", "nvidia_repository_packages"],
}


@each_role
def test_packages_are_installed_by_one_task_without_recommends(role: Path) -> None:
    tasks = [task for path in (role / "tasks").glob("*.yml") for task in load(path)]
    apt = [task["ansible.builtin.apt"] for task in tasks if "ansible.builtin.apt" in task]
    wanted = [f"{role.name}_packages"] if f"{role.name}_packages" in options(role) else []
    installed = [(arguments.get("name") or arguments["deb"]).strip("{} ") for arguments in apt]
    assert sorted(installed) == INSTALLED.get(role.name, wanted)
    for arguments in apt:
        assert arguments["install_recommends"] is False
        assert arguments["lock_timeout"] >= 60


@each_role
def test_index_of_tasks_only_imports(role: Path) -> None:
    allowed = {
        "name",
        "when",
        "ansible.builtin.import_tasks",
        "ansible.builtin.include_tasks",
        "ansible.builtin.meta",
    }
    assert [task for task in load(role / "tasks/main.yml") if set(task) - allowed] == []


@each_role
def test_readme_is_current(role: Path) -> None:
    assert role / "README.md" not in role_readme.stale(role_readme.ROLES)


@each_role
def test_stale_readme_is_noticed(role: Path, tmp_path: Path) -> None:
    copy = tmp_path / role.name
    shutil.copytree(role, copy)
    assert role_readme.stale(tmp_path) == []
    specs = copy / "meta/argument_specs.yml"
    specs.write_text(specs.read_text().replace("short_description: ", "short_description: Now ", 1))
    assert role_readme.stale(tmp_path) == [copy / "README.md"]


@each_role
def test_missing_readme_is_noticed(role: Path, tmp_path: Path) -> None:
    shutil.copytree(role, tmp_path / role.name, ignore=shutil.ignore_patterns("README.md"))
    assert role_readme.stale(tmp_path) == [tmp_path / role.name / "README.md"]


@each_role
def test_role_has_a_molecule_scenario(role: Path) -> None:
    assert (paths.ROOT / "molecule" / role.name / "molecule.yml").is_file()


def refusal(tmp_path: Path, role: str, tasks: str, variables: dict[str, object]) -> str:
    """What Ansible says when a task file of a role, which only asserts, stops on these variables."""
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": variables,
        "tasks": [{"ansible.builtin.include_role": {"name": role, "tasks_from": tasks}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", tmp_path / "play.yml"],
        env={**environment, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    return done.stdout + done.stderr


def test_weights_without_a_checksum_stop_the_role_with_the_command_that_fills_it(tmp_path: Path) -> None:
    pin = {"name": "pretrained_x.pt", "url": "https://example.org/x.pt", "sha256": ""}
    said = refusal(tmp_path, "monai_label", "weights", {"monai_label_pins": [pin]})
    assert "kiln pins add monai_label pretrained_x.pt https://example.org/x.pt" in said


@pytest.mark.parametrize("release", [{}, {"image": "x"}])
def test_seal_refuses_a_host_that_is_no_image(tmp_path: Path, release: dict[str, str]) -> None:
    said = refusal(tmp_path, "seal", "refuse", {"seal_release": release})
    assert "seal_release names no image" in said


def test_roles_that_meet_on_an_instance_agree_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """No role reads another one's variables: each has a plain default, and they are the same."""
    monkeypatch.syspath_prepend(str(role_readme.ROLES / "health/files"))
    from kiln_instance.settings import Settings

    usual = Settings()
    gateway, health, server, consumers = (
        load(role_readme.ROLES / name / "defaults/main.yml")
        for name in ("gateway", "health", "monai_label", "settings")
    )
    run = load(role_readme.ROLES / "gateway/vars/main.yml")["__gateway_run"]
    assert health["health_nginx_socket"] == usual.nginx == f"{run}/status.sock"
    assert gateway["gateway_health_socket"] == usual.socket
    assert sorted(gateway["gateway_closed_by"]) == sorted(usual.gates)
    where = f"{server['monai_label_host']}:{server['monai_label_port']}"
    assert where == gateway["gateway_upstream"] == f"{usual.host}:{usual.port}"
    assert health["health_port"] == server["monai_label_port"]
    for unit_ in consumers["settings_consumers"]:
        role = {"kiln-auth": "gateway", "nginx": "gateway", "monai-label": "monai_label"}.get(
            unit_.removesuffix(".service"), "health"
        )
        assert (role_readme.ROLES / role / f"templates/{unit_}.j2").is_file(), f"no role brings {unit_}"


# What the server's unit sets that is no sandbox: other checks, or the live ones, look at these.
NO_SANDBOX = {
    "User", "Group", "Type", "NotifyAccess", "WorkingDirectory", "EnvironmentFile", "Environment",
    "ExecStart", "TimeoutStartSec", "TimeoutStopSec", "Restart", "RestartSec",
    "RuntimeDirectory", "RuntimeDirectoryMode",
}  # fmt: skip


def test_every_sandbox_setting_of_the_service_is_checked_in_the_image() -> None:
    template = (role_readme.ROLES / "monai_label/templates/monai-label.service.j2").read_text(
        encoding="utf-8"
    )
    service = template.split("[Service]")[1].split("[Install]")[0]
    assert set(unit(service)) - NO_SANDBOX == set(SANDBOX)
