"""Roles: specs, defaults and READMEs agree, and tasks keep to the house rules."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiln import paths
from scripts import role_readme

ROLES = sorted(path.parent.parent for path in role_readme.ROLES.glob("*/tasks/main.yml"))
SPECS = {role.name: role / "meta/argument_specs.yml" for role in ROLES}

pytestmark = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(role: Path) -> dict[str, dict[str, Any]]:
    specs: dict[str, dict[str, Any]] = load(role / "meta/argument_specs.yml")["argument_specs"]["main"][
        "options"
    ]
    return specs


def test_defaults_and_specs_agree(role: Path) -> None:
    assert {name: option["default"] for name, option in options(role).items()} == load(
        role / "defaults/main.yml"
    )


def test_every_default_has_a_comment(role: Path) -> None:
    lines = (role / "defaults/main.yml").read_text(encoding="utf-8").splitlines()
    bare = [line for before, line in pairwise(lines) if line[:1].isalpha() and before[:1] != "#"]
    assert bare == []


def test_variables_carry_the_name_of_their_role(role: Path) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []
    internals = load(role / "vars/main.yml") if (role / "vars/main.yml").exists() else {}
    assert [name for name in internals if not name.startswith(f"__{role.name}_")] == []


def test_no_role_reaches_into_another_ones_variables(role: Path) -> None:
    others = [other.name for other in ROLES if other != role]
    texts = [path.read_text(encoding="utf-8") for path in role.rglob("*") if path.suffix in {".yml", ".j2"}]
    reached = {
        name for text in texts for other in others for name in re.findall(rf"\b(?:__)?{other}_\w+", text)
    }
    # A module may be named after what it does to a tree: seal_tree is no variable.
    assert reached <= {"seal_tree"}


def test_packages_are_installed_by_one_task_without_recommends(role: Path) -> None:
    tasks = [task for path in (role / "tasks").glob("*.yml") for task in load(path)]
    apt = [task["ansible.builtin.apt"] for task in tasks if "ansible.builtin.apt" in task]
    wanted = f"{role.name}_packages" in options(role)
    assert len(apt) == int(wanted)
    for arguments in apt:
        assert arguments["name"] == f"{{{{ {role.name}_packages }}}}"
        assert arguments["install_recommends"] is False
        assert arguments["lock_timeout"] >= 60


def test_index_of_tasks_only_imports(role: Path) -> None:
    allowed = {"name", "when", "ansible.builtin.import_tasks", "ansible.builtin.meta"}
    assert [task for task in load(role / "tasks/main.yml") if set(task) - allowed] == []


def test_shell_tasks_are_short(role: Path) -> None:
    tasks = [task for path in (role / "tasks").glob("*.yml") for task in load(path)]
    shells = [task["ansible.builtin.shell"] for task in tasks if "ansible.builtin.shell" in task]
    texts = [shell if isinstance(shell, str) else shell["cmd"] for shell in shells]
    assert [text for text in texts if len(text.splitlines()) > 5] == []


def test_readme_is_current(role: Path) -> None:
    assert role / "README.md" not in role_readme.stale(role_readme.ROLES)


def test_stale_readme_is_noticed(role: Path, tmp_path: Path) -> None:
    copy = tmp_path / role.name
    shutil.copytree(role, copy)
    assert role_readme.stale(tmp_path) == []
    specs = copy / "meta/argument_specs.yml"
    specs.write_text(specs.read_text().replace("short_description: ", "short_description: Now ", 1))
    assert role_readme.stale(tmp_path) == [copy / "README.md"]


def test_missing_readme_is_noticed(role: Path, tmp_path: Path) -> None:
    shutil.copytree(role, tmp_path / role.name, ignore=shutil.ignore_patterns("README.md"))
    assert role_readme.stale(tmp_path) == [tmp_path / role.name / "README.md"]


def test_role_has_a_molecule_scenario(role: Path) -> None:
    assert (paths.ROOT / "molecule" / role.name / "molecule.yml").is_file()
